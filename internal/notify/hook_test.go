package notify

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestWebhook(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = fmt.Sprintf("%s %s %s %q %s", r.Method, r.URL, r.Header.Get("Content-Type"), r.Header.Get("Authorization"), body)
		if strings.HasPrefix(r.URL.Path, "/bad") {
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, strings.Repeat("bad", maxError))
		}
	}))
	defer server.Close()
	lead(t, server, nil)
	at := server.Listener.Addr().String()
	for address, want := range map[string]string{
		"generic+http://" + at + "/a/b?x=y":                                                `POST /a/b?x=y text/plain "" text`,
		"generic://" + at + "/a?disabletls=yes&method=PUT&@Authorization=Bearer+t":         `PUT /a text/plain "Bearer t" text`,
		"generic+http://" + at + "/a?template=json&$channel=ops&messagekey=text&title=hey": `POST /a application/json "" {"channel":"ops","text":"text","title":"hey"}`,
		"generic+http://" + at + "/a?template=JSON&contenttype=application/x&titlekey=t":   `POST /a application/x "" {"message":"text"}`,
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		h, err := newHook(u)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		if err := h.Send("text", nil); got != want || err != nil {
			t.Errorf("%s:\ngot  %s, %v\nwant %s", address, got, err, want)
		}
	}
	u := &url.URL{Scheme: "generic+http", Host: at, Path: "/bad"}
	h, err := newHook(u)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Send("text", nil); err == nil || !strings.HasPrefix(err.Error(), "webhook: 502 Bad Gateway: bad") || len(err.Error()) > 2*maxError {
		t.Errorf("got %v", err)
	}
	u.RawQuery = "template=/etc/passwd"
	if _, err := newHook(u); err == nil {
		t.Error("a template that is a file is taken")
	}
}
