package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	httpconfig "github.com/prometheus/common/config"

	"github.com/kured-host/kured/internal/status"
)

// answerLimit is how many bytes of an answer are read; 8 MiB are the alerts of
// a large cluster several times over.
const answerLimit = 8 << 20

// Server is a Prometheus or an Alertmanager, or several replicas of it.
type Server struct {
	urls       []*url.URL
	configFile string // "": none
	timeout    time.Duration
	transport  http.RoundTripper // nil but in tests: made anew for each look
}

// NewServer says where a server is: urls of its replicas, of which the first
// that answers well is believed; the file of HTTP options that promtool
// --http.config.file takes, "" for none, which is read at each look so that
// what it says and names may change; and the limit of one request to one
// replica. Errors do not show the URLs, which may hold passwords.
func NewServer(urls []string, httpConfigFile string, timeout time.Duration) (Server, error) {
	s := Server{configFile: httpConfigFile, timeout: timeout}
	if timeout <= 0 {
		return Server{}, fmt.Errorf("time-out %s: has to be longer than 0", timeout)
	}
	if len(urls) == 0 {
		return Server{}, errors.New("no URL")
	}
	for i, text := range urls {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" {
			return Server{}, fmt.Errorf("URL %d of %d is not one such as https://prometheus.example:9090", i+1, len(urls))
		}
		s.urls = append(s.urls, u)
	}
	return s, nil
}

// CheckHTTPConfigFile reads a file of HTTP options and all that it names, and
// says what is wrong with it. Values of the file are not shown.
func CheckHTTPConfigFile(path string) error {
	_, err := Server{configFile: path, timeout: time.Second}.client()
	return err
}

// client makes an HTTP client that keeps no connection, has read all files anew, and ends each connection after the
// time-out: prometheus/common fetches OAuth 2 tokens without a context.
func (s Server) client() (*http.Client, error) {
	if s.transport != nil {
		return &http.Client{Transport: s.transport}, nil
	}
	options := &httpconfig.DefaultHTTPClientConfig
	if s.configFile != "" {
		var err error
		if options, _, err = httpconfig.LoadHTTPConfigFile(s.configFile); err != nil {
			return nil, fmt.Errorf("read HTTP options %s: %w", s.configFile, withoutValues(err))
		}
	}
	dialer := net.Dialer{Timeout: s.timeout}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if err := conn.SetDeadline(time.Now().Add(s.timeout)); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	}
	transport, err := httpconfig.NewRoundTripperFromConfig(*options, "kured", httpconfig.WithDialContextFunc(dial),
		httpconfig.WithKeepAlivesDisabled(), httpconfig.WithHTTP2Disabled(), httpconfig.WithUserAgent("kured"))
	if err != nil {
		return nil, fmt.Errorf("HTTP options %s: %w", s.configFile, err)
	}
	client := &http.Client{Transport: transport, CheckRedirect: sameHost}
	if !options.FollowRedirects {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return client, nil
}

// withoutValues takes out of an error of YAML or of a URL what it quotes of the file, which may be a password.
func withoutValues(err error) error {
	if errors.As(err, new(*os.PathError)) {
		return err
	}
	return errors.New(status.Clean(regexp.MustCompile("\"[^\"]*\"?|`[^`]*`?").ReplaceAllString(err.Error(), "…"), 300))
}

// sameHost lets a server send us to another path or from http to https. Another
// host is mostly a page to log in at, and nobody said that it is to be believed.
// A status such as 301 makes a POST a GET, which asks nothing any more.
func sameHost(request *http.Request, via []*http.Request) error {
	from, to := via[len(via)-1].URL, request.URL
	switch {
	case len(via) >= 10:
		return errors.New("redirects without end")
	case from.Hostname() != to.Hostname() || from.Scheme == "https" && to.Scheme != "https":
		return fmt.Errorf("redirects to %s://%s", to.Scheme, to.Host)
	case request.Method != via[0].Method:
		return fmt.Errorf("redirects to %s://%s and does not take the question along: give that address", to.Scheme, to.Host)
	}
	return nil
}

// A look is some questions to one server. A replica that failed is not asked
// again in the same look.
type look struct {
	client   *http.Client
	err      error // without a client
	timeout  time.Duration
	replicas []*replica
}

type replica struct {
	url *url.URL
	err error // why it is not believed in this look
}

func (s Server) look() *look {
	client, err := s.client()
	if err != nil {
		err = errors.New(status.Clean(err.Error(), 300))
	}
	l := &look{client: client, err: err, timeout: s.timeout}
	for _, u := range s.urls {
		l.replicas = append(l.replicas, &replica{url: u})
	}
	return l
}

// ask puts a question to one replica after the other until one answers it. They
// share the time that ctx leaves, so that the last one is asked as well when
// those before it hang. The error names each and what was wrong with it.
func (l *look) ask(ctx context.Context, question func(context.Context, *replica) error) error {
	if l.err != nil {
		return l.err
	}
	if len(l.replicas) == 0 {
		return errors.New("no URL")
	}
	for i, r := range l.replicas {
		if r.err != nil {
			continue
		}
		limit := l.timeout
		if end, ok := ctx.Deadline(); ok {
			limit = min(limit, time.Until(end)/time.Duration(left(l.replicas[i:])))
		}
		limited, cancel := context.WithTimeout(ctx, limit)
		err := question(limited, r)
		cancel()
		if err == nil {
			return nil
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return fmt.Errorf("%s: %w", r, context.Cause(ctx))
		}
		r.err = explain(err, limit)
	}
	var failures []string
	for _, r := range l.replicas {
		failures = append(failures, fmt.Sprintf("%s: %v", r, r.err))
	}
	if n := len(failures); n > 3 {
		failures = append(failures[:3], fmt.Sprintf("and %d more", n-3))
	}
	return errors.New(strings.Join(failures, "; "))
}

// String is the replica's URL without user, password and query.
func (r *replica) String() string {
	return status.Clean(r.url.Scheme+"://"+r.url.Host+strings.TrimRight(r.url.EscapedPath(), "/"), 120)
}

// left counts the replicas that did not fail.
func left(replicas []*replica) (n int) {
	for _, r := range replicas {
		if r.err == nil {
			n++
		}
	}
	return n
}

// explain is an error of a request that had so much time, for people, without
// the request's URL.
func explain(err error, limit time.Duration) error {
	if wrong := (*url.Error)(nil); errors.As(err, &wrong) {
		err = wrong.Err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		if limit > time.Second {
			limit = limit.Round(time.Second) // the same each time, as far as it can be: who waits looks for what is new
		}
		return fmt.Errorf("no answer within %s", max(0, limit))
	}
	return errors.New(status.Clean(err.Error(), 200))
}

// fetch sends a request and reads the answer. The error of a status other than
// 2xx comes with the response.
func fetch(client *http.Client, request *http.Request) (*http.Response, []byte, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerLimit+1))
	switch {
	case err != nil:
		return nil, nil, err
	case len(body) > answerLimit:
		return nil, nil, fmt.Errorf("answers with more than %d MiB", answerLimit>>20)
	case response.StatusCode/100 == 2:
		return response, body, nil
	}
	message := fmt.Sprintf("%d %s", response.StatusCode, http.StatusText(response.StatusCode))
	if why := wordsOf(body); why != "" {
		message += ": " + why
	}
	return response, body, errors.New(message)
}

// timeOf is when the server answered by its own clock, which may not be ours.
func timeOf(response *http.Response) time.Time {
	if at, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		return at
	}
	return time.Now().UTC()
}

// wordsOf is what the body of a refusal says, in the forms that Prometheus and
// Alertmanager have for it, and "" for pages.
func wordsOf(body []byte) string {
	var object struct{ Error, Message string }
	var text string
	switch {
	case json.Unmarshal(body, &object) == nil:
		return status.Clean(object.Error+object.Message, 150)
	case json.Unmarshal(body, &text) == nil:
		return status.Clean(text, 150)
	}
	return ""
}

// notFrom says that an answer is not one that this program would give.
func notFrom(program string, response *http.Response, what string) error {
	if kind := response.Header.Get("Content-Type"); !strings.Contains(kind, "json") {
		what = "answers with " + status.Clean(kind, 40)
		if kind == "" {
			what = "answers with no content type"
		}
	}
	return fmt.Errorf("not %s: %s", program, what)
}
