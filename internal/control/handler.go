package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// Bounds on what others may use up.
const (
	maxOrder    = 4 << 10          // bytes of a body
	maxWatchers = 16               // at the same time
	slowReader  = 10 * time.Second // a watcher who does not read for this long is left
	gatesWithin = time.Minute      // asking all gates, and waiting for others who do
)

// lookAgain is how often the status is looked at while somebody watches: some of
// it comes from elsewhere, and nobody signals that.
const lookAgain = 2 * time.Second

// pace is how a watcher is served.
type pace struct {
	patience time.Duration // with one who does not read
	again    time.Duration // between two looks
}

// failure is the body of every answer that is not 200.
type failure struct {
	Error string `json:"error"`
}

// gateList is the body of /v1/gates.
type gateList struct {
	Gates []status.GateState `json:"gates"`
}

// handler answers requests.
type handler struct {
	daemon   Daemon
	pace     pace
	watchers chan struct{} // one element for each
	asking   chan struct{} // one element while somebody asks the gates
	telling  chan struct{} // one element while an order is carried out
}

func newHandler(d Daemon, p pace) http.Handler {
	h := &handler{d, p, make(chan struct{}, maxWatchers), make(chan struct{}, 1), make(chan struct{}, 1)}
	mux := http.NewServeMux()
	only := func(method, path string, do http.HandlerFunc) {
		mux.HandleFunc(method+" "+path, do)
		allow := method
		if method == http.MethodGet {
			allow += ", " + http.MethodHead
		}
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allow)
			answer(w, http.StatusMethodNotAllowed, failure{fmt.Sprintf("%.20q is not allowed here, only %s", r.Method, method)})
		})
	}
	only(http.MethodGet, statusPath, h.status)
	only(http.MethodGet, gatesPath, h.gates)
	paths := []string{statusPath, gatesPath}
	for _, verb := range verbs() {
		only(http.MethodPost, verbPath+string(verb), func(w http.ResponseWriter, r *http.Request) { h.order(w, r, verb) })
		paths = append(paths, verbPath+string(verb))
	}
	known := strings.Join(paths, ", ")
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusNotFound, failure{fmt.Sprintf("%.200q is not known, only %s", r.URL.Path, known)})
	})
	return mux
}

// status is GET /v1/status.
func (h *handler) status(w http.ResponseWriter, r *http.Request) {
	switch watch := r.URL.Query().Get("watch"); watch {
	case "", "false":
		answer(w, http.StatusOK, h.daemon.Status.Now())
	case "true":
		if r.Method == http.MethodHead {
			return
		}
		select {
		case h.watchers <- struct{}{}:
			defer func() { <-h.watchers }()
			h.watch(w, r)
		default:
			answer(w, http.StatusServiceUnavailable, failure{fmt.Sprintf("%d others watch already", maxWatchers)})
		}
	default:
		answer(w, http.StatusBadRequest, failure{fmt.Sprintf("watch=%.20q: must be true or false", watch)})
	}
}

// watch writes the status, and again after each change, until the reader or the
// daemon ends it, or the reader has not read for long.
func (h *handler) watch(w http.ResponseWriter, r *http.Request) {
	changed, stop := h.daemon.Status.Watch()
	defer stop()
	conn := http.NewResponseController(w)
	if conn.SetReadDeadline(time.Time{}) != nil { // that of the request would end it
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	again := time.NewTicker(h.pace.again)
	defer again.Stop()
	var last []byte
	for {
		line, err := json.Marshal(h.daemon.Status.Now())
		if err != nil {
			return
		}
		if !bytes.Equal(line, last) {
			last = line
			if conn.SetWriteDeadline(time.Now().Add(h.pace.patience)) != nil {
				return
			}
			if _, err := w.Write(append(line, '\n')); err != nil || conn.Flush() != nil {
				return
			}
		}
		select {
		case <-changed:
		case <-again.C:
		case <-r.Context().Done():
			return
		}
	}
}

// gates is GET /v1/gates.
func (h *handler) gates(w http.ResponseWriter, r *http.Request) {
	if h.daemon.Gates == nil {
		answer(w, http.StatusNotImplemented, failure{"this kured cannot be asked for its gates"})
		return
	}
	conn := http.NewResponseController(w)
	limit := time.Now().Add(gatesWithin)
	if err := errors.Join(conn.SetReadDeadline(time.Time{}), conn.SetWriteDeadline(limit.Add(slowReader))); err != nil {
		answer(w, http.StatusInternalServerError, failure{err.Error()})
		return
	}
	ctx, cancel := context.WithDeadline(r.Context(), limit)
	defer cancel()
	select {
	case h.asking <- struct{}{}:
		defer func() { <-h.asking }()
	case <-ctx.Done():
		answer(w, http.StatusServiceUnavailable, failure{"others ask for the gates, and it takes long"})
		return
	}
	states, err := h.daemon.Gates(ctx)
	if err != nil {
		answer(w, http.StatusInternalServerError, failure{"gates: " + err.Error()})
		return
	}
	if states == nil {
		states = []status.GateState{}
	}
	answer(w, http.StatusOK, gateList{states})
}

// order is POST of a verb.
func (h *handler) order(w http.ResponseWriter, r *http.Request, verb Verb) {
	uid, known := peer(r.Context())
	if !known || uid != 0 {
		who := "nobody knows who you are"
		if known {
			who = fmt.Sprintf("you are uid %d", uid)
		}
		answer(w, http.StatusForbidden, failure{fmt.Sprintf("only root may %s, and %s", verb, who)})
		return
	}
	if h.daemon.Verbs == nil {
		answer(w, http.StatusNotImplemented, failure{fmt.Sprintf("this kured cannot %s", verb)})
		return
	}
	o := Order{}
	if code, err := readOrder(w, r, &o); err != nil {
		answer(w, code, failure{"order: " + err.Error()})
		return
	}
	o.uid = uid
	select {
	case h.telling <- struct{}{}:
		defer func() { <-h.telling }()
	case <-r.Context().Done():
		return
	}
	outcome, err := h.daemon.Verbs.Do(r.Context(), verb, o)
	var refused *Refusal
	switch {
	case errors.As(err, &refused) && refused.Conflict:
		answer(w, http.StatusConflict, failure{err.Error()})
	case refused != nil:
		answer(w, http.StatusBadRequest, failure{err.Error()})
	case err != nil:
		answer(w, http.StatusInternalServerError, failure{err.Error()})
	default:
		answer(w, http.StatusOK, outcome)
	}
}

// readOrder reads the body. What a newer client may want beside what is known
// here is an error: half an order is not carried out.
func readOrder(w http.ResponseWriter, r *http.Request, into *Order) (code int, err error) {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder))
	d.DisallowUnknownFields()
	err = d.Decode(into)
	if errors.Is(err, io.EOF) {
		return 0, nil // no body
	}
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return 0, nil
		}
		if err == nil {
			err = errors.New("there is something behind it")
		}
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return http.StatusRequestEntityTooLarge, fmt.Errorf("more than %d bytes", large.Limit)
	}
	return http.StatusBadRequest, err
}

func answer(w http.ResponseWriter, code int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		code, data = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(data, '\n')) // a client that is gone needs no answer
}
