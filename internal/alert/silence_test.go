package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// manager is an Alertmanager's silences, as a transport: in a bubble of time
// there is no network. It keeps Alertmanager's rules about changes of silences.
type manager struct {
	ahead time.Duration // of its clock

	mu       sync.Mutex
	silences []silence
	posts    int
	deleted  []string
	down     bool
}

func (m *manager) RoundTrip(r *http.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, errors.New("connection refused")
	}
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Date", m.now().UTC().Format(http.TimeFormat))
	switch id, ok := strings.CutPrefix(r.URL.Path, "/api/v2/silence/"); {
	case r.Method == http.MethodGet:
		for i := range m.silences {
			m.silences[i].Status = &silenceStatus{m.state(m.silences[i])}
		}
		return answer(w, append([]silence{}, m.silences...)) // never null
	case r.Method == http.MethodPost:
		return m.post(w, r)
	case r.Method == http.MethodDelete && ok:
		m.deleted = append(m.deleted, id)
		for i, s := range m.silences {
			if s.ID == id {
				m.silences[i].EndsAt = m.now()
			}
		}
	}
	return w.Result(), nil
}

func answer(w *httptest.ResponseRecorder, content any) (*http.Response, error) {
	err := json.NewEncoder(w).Encode(content)
	return w.Result(), err
}

func (m *manager) post(w *httptest.ResponseRecorder, r *http.Request) (*http.Response, error) {
	m.posts++
	var s silence
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		return nil, err
	}
	if !s.EndsAt.After(m.now()) || !s.EndsAt.After(s.StartsAt) {
		w.WriteHeader(http.StatusBadRequest)
		return answer(w, "end time can't be in the past")
	}
	for i, old := range m.silences {
		if old.ID == s.ID && m.state(old) == "active" && old.StartsAt.Unix() == s.StartsAt.Unix() {
			m.silences[i] = s
			return answer(w, map[string]string{"silenceID": s.ID})
		}
	}
	s.ID = fmt.Sprintf("id-%d", len(m.silences)+1)
	if s.StartsAt.Before(m.now()) {
		s.StartsAt = m.now()
	}
	m.silences = append(m.silences, s)
	return answer(w, map[string]string{"silenceID": s.ID})
}

func (m *manager) now() time.Time { return time.Now().Add(m.ahead) }

func (m *manager) state(s silence) string {
	switch {
	case !s.EndsAt.After(m.now()):
		return "expired"
	case s.StartsAt.After(m.now()):
		return "pending"
	}
	return "active"
}

// left is how long each silence still lasts, by the server's clock.
func (m *manager) left() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var texts []string
	for _, s := range m.silences {
		texts = append(texts, fmt.Sprintf("%s %s", s.ID, max(0, s.EndsAt.Sub(m.now()))))
	}
	return strings.Join(texts, ", ")
}

func (m *manager) fail(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func newSilence(t *testing.T, m *manager, node string) Silence {
	t.Helper()
	server := newServer(t, "", time.Second, "http://alertmanager")
	server.transport = m
	s, err := NewSilence(server, node, []string{`instance=~"{node}(:[0-9]+)?"`, `severity!="page"`}, 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// keep runs Keep until the returned function is called.
func keep(t *testing.T, s Silence, errs *[]error) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Keep(ctx, "linux-image-6.1.0-40\nand more", func(err error) { *errs = append(*errs, err) })
	}()
	synctest.Wait()
	return func() {
		cancel()
		<-done
	}
}

func TestSilenceIsRenewedAndLapses(t *testing.T) {
	for _, ahead := range []time.Duration{0, 3 * time.Hour, -3 * time.Hour} { // its clock counts, not ours
		synctest.Test(t, func(t *testing.T) {
			m := &manager{ahead: ahead}
			s := newSilence(t, m, "node-a")
			var errs []error
			stop := keep(t, s, &errs)
			for _, want := range []string{"id-1 10m0s", "id-1 10m0s", "id-1 10m0s"} {
				if got := m.left(); got != want {
					t.Errorf("clock %s ahead: %s, want %s", ahead, got, want)
				}
				time.Sleep(5 * time.Minute)
				synctest.Wait()
			}
			if c := m.silences[0].Comment; c != "node node-a reboots: linux-image-6.1.0-40 and more" || m.silences[0].CreatedBy != "kured" {
				t.Errorf("comment %q", c)
			}
			stop()
			if time.Sleep(time.Minute); m.left() != "id-1 9m0s" || m.posts != 4 || len(errs) > 0 {
				t.Errorf("left alone: %s after %d writes, errors %v", m.left(), m.posts, errs)
			}
			if time.Sleep(10 * time.Minute); m.left() != "id-1 0s" {
				t.Errorf("it did not lapse: %s", m.left())
			}
		})
	}
}

// After a restart there is one silence as before, whoever made it.
func TestSilenceIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &manager{}
		var errs []error
		keep(t, newSilence(t, m, "node-a"), &errs)()
		time.Sleep(4 * time.Minute)
		stop := keep(t, newSilence(t, m, "node-a"), &errs)
		if m.left() != "id-1 10m0s" {
			t.Error(m.left())
		}
		stop()
		if err := newSilence(t, m, "node-a").Expire(t.Context()); err != nil || m.left() != "id-1 0s" {
			t.Errorf("%v, %s", err, m.left())
		}
		if err := newSilence(t, m, "node-a").Expire(t.Context()); err != nil || len(m.deleted) != 1 {
			t.Errorf("nothing to expire: %v, %v", err, m.deleted)
		}
		keep(t, newSilence(t, m, "node-a"), &errs)()
		if m.left() != "id-1 0s, id-2 10m0s" || len(errs) > 0 {
			t.Errorf("an expired one is not used again: %s, %v", m.left(), errs)
		}
	})
}

// A failure is reported, and tried again soon; it never ends the cycle that it goes along with.
func TestSilenceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &manager{down: true}
		s := newSilence(t, m, "node-a")
		var errs []error
		stop := keep(t, s, &errs)
		time.Sleep(2*time.Minute + time.Second)
		synctest.Wait()
		if len(errs) != 3 || !strings.Contains(errs[0].Error(), "http://alertmanager: connection refused") {
			t.Errorf("%v", errs)
		}
		m.fail(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if m.left() != "id-1 9m59s" {
			t.Error(m.left())
		}
		stop()
		m.fail(true)
		if err := s.Expire(t.Context()); err == nil {
			t.Error("expired without a server")
		}
	})
}

// Only our own silences of this node are touched.
func TestSilenceOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &manager{}
		a, b := newSilence(t, m, "node-a"), newSilence(t, m, "node-ab")
		var errs []error
		keep(t, a, &errs)()
		keep(t, b, &errs)()
		person, elsewhere, later := m.silences[0], m.silences[0], m.silences[0]
		person.ID, person.CreatedBy = "person", "alice"
		elsewhere.ID, elsewhere.Matchers = "elsewhere", append([]silenceMatcher{{Name: "cluster", Value: "b"}}, elsewhere.Matchers...)
		later.ID, later.StartsAt, later.EndsAt = "later", time.Now().Add(time.Minute), time.Now().Add(time.Hour)
		m.silences = append(m.silences, person, elsewhere, later)
		if err := a.Expire(t.Context()); err != nil || strings.Join(m.deleted, " ") != "later id-1" {
			t.Errorf("%v, expired %v of %s", err, m.deleted, m.left())
		}
		if len(errs) > 0 {
			t.Error(errs)
		}
	})
}

func TestNewSilence(t *testing.T) {
	server := newServer(t, "", time.Second, "http://alertmanager")
	for _, c := range []struct {
		lists []string
		lasts time.Duration
		want  string
	}{
		{nil, time.Hour, "{node}"},
		{[]string{`severity="warning"`}, time.Hour, "{node}"},
		{[]string{`instance!="{node}"`}, time.Hour, "{node}"}, // that is every other node
		{[]string{`instance="{node}"`}, time.Second, "a minute"},
		{[]string{`instance=~"({node}"`}, time.Hour, "regular expression"},
		{[]string{`instance=~".*|{node}"`}, time.Hour, "also matches"},
		{[]string{``}, time.Hour, "no label matcher"},
	} {
		if _, err := NewSilence(server, "node-a", c.lists, c.lasts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.lists, err)
		}
	}
	s, err := NewSilence(server, "node.a", []string{`b=~"{node}:.*", a="{node}"`, `c!~"x|{node}"`}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s.matchers)
	if want := `[{"name":"a","value":"node.a","isRegex":false,"isEqual":true},{"name":"b","value":"node\\.a:.*","isRegex":true,"isEqual":true},` +
		`{"name":"c","value":"x|node\\.a","isRegex":true,"isEqual":false}]`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}
