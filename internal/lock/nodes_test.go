package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kured-host/kured/internal/status"
)

// aTable is what an API server 1.37 answers, with these rows.
func aTable(meta string, rows ...string) string {
	return `{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":` + meta + `,"columnDefinitions":[` +
		`{"name":"Name","type":"string","format":"name","description":"Name must be unique.","priority":0},` +
		`{"name":"Status","type":"string","format":"","description":"The status of the node","priority":0},` +
		`{"name":"Roles","type":"string","format":"","description":"The roles of the node","priority":0},` +
		`{"name":"Age","type":"string","format":"","description":"","priority":0},` +
		`{"name":"Version","type":"string","format":"","description":"","priority":0},` +
		`{"name":"Internal-IP","type":"string","format":"","description":"","priority":1}],"rows":[` +
		strings.Join(rows, ",") + "]}\n"
}

func aRow(name, state, roles string) string {
	return fmt.Sprintf(`{"cells":[%q,%q,%q,"5d","v1.37.1","10.0.0.1"],"object":null}`, name, state, roles)
}

func TestReadTable(t *testing.T) {
	whole := aTable(`{"resourceVersion":"7"}`, aRow("a", "Ready", "<none>"))
	for _, c := range []struct {
		name, table string
		want        []Peer
		token, err  string // err: part of the error; empty: none
	}{
		{name: "none", table: aTable(`{}`)},
		{name: "null rows", table: strings.Replace(aTable(`{}`), "[]", "null", 1)},
		{name: "states", table: aTable(`{"resourceVersion":"7"}`,
			aRow("a", "Ready", "<none>"), aRow("b", "NotReady", "<none>"), aRow("c", "Ready,SchedulingDisabled", "<none>"),
			aRow("d", "NotReady,SchedulingDisabled", "<none>"), aRow("e", "Unknown", "<none>"), aRow("f", "Unknown,SchedulingDisabled", "<none>")),
			want: []Peer{{Name: "a", Ready: true}, {Name: "b"}, {Name: "c", Ready: true, Cordoned: true},
				{Name: "d", Cordoned: true}, {Name: "e"}, {Name: "f", Cordoned: true}}},
		{name: "unknown states are not ready", table: aTable(`{}`,
			aRow("a", "", ""), aRow("b", "ready", ""), aRow("c", "Ready,Asleep", ""), aRow("d", "Ready,Asleep,SchedulingDisabled", ""),
			aRow("x", "Ready", "etcd"),
			`{"cells":["e",7,null]}`, `{"cells":["\u0066","\u0052eady",null]}`),
			want: []Peer{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d", Cordoned: true}, {Name: "x", Ready: true, ControlPlane: true}, {Name: "e"}, {Name: "f", Ready: true}}},
		{name: "roles", table: aTable(`{}`,
			aRow("a", "Ready", "control-plane"), aRow("b", "Ready", "gpu,master"), aRow("c", "Ready", "etcd"),
			aRow("d", "Ready", "worker"), aRow("e", "Ready", "not-control-plane,etcd-backup")),
			want: []Peer{{Name: "a", Ready: true, ControlPlane: true}, {Name: "b", Ready: true, ControlPlane: true},
				{Name: "c", Ready: true, ControlPlane: true}, {Name: "d", Ready: true}, {Name: "e", Ready: true}}},
		{name: "columns in another order", table: `{"kind":"Table","columnDefinitions":[{"name":"Roles"},{"name":"x"},{"name":"Status"},{"name":"Name"}],` +
			`"more":{"a":[1]},"rows":[{"cells":["master",1,"Ready","a"]}]}`,
			want: []Peer{{Name: "a", Ready: true, ControlPlane: true}}},
		{name: "a page", table: aTable(`{"continue":"next","remainingItemCount":1}`, aRow("a", "Ready", "")),
			want: []Peer{{Name: "a", Ready: true}}, token: "next"},

		{name: "the objects", table: `{"kind":"NodeList","apiVersion":"v1","items":[]}`, err: `answers with a "NodeList" where a Table was asked for`},
		{name: "nothing", table: ``, err: "unexpected EOF"},
		{name: "a page for people", table: `<html>`, err: "not the expected Table"},
		{name: "another value", table: `["Table"]`, err: "[ instead of {"},
		{name: "cut in a row", table: whole[:len(whole)-20], err: "unexpected EOF"},
		{name: "cut after the rows", table: whole[:len(whole)-2], err: "unexpected EOF"},
		{name: "cut before the rows' end", table: whole[:len(whole)-3], err: "unexpected EOF"},
		{name: "no rows", table: `{"kind":"Table","columnDefinitions":[{"name":"Name"},{"name":"Status"},{"name":"Roles"}]}`, err: "its kind or its rows are missing"},
		{name: "no kind", table: strings.Replace(whole, `"kind"`, `"kin"`, 1), err: "its kind or its rows are missing"},
		{name: "rows first", table: `{"kind":"Table","rows":[]}`, err: "rows before their columns"},
		{name: "no roles", table: strings.Replace(whole, `"Roles"`, `"Rolls"`, 1), err: "lacks one of the columns"},
		{name: "short row", table: aTable(`{}`, `{"cells":["a","Ready"]}`), err: "a row lacks cells"},
		{name: "empty row", table: aTable(`{}`, aRow("a", "Ready", ""), `{}`), err: "a row lacks cells"},
		{name: "no name", table: aTable(`{}`, aRow("", "Ready", "")), err: "a row has no name"},
		{name: "rows are an object", table: strings.Replace(aTable(`{}`), `"rows":[]`, `"rows":{}`, 1), err: "its rows are no list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got peers
			token, err := got.read(strings.NewReader(c.table))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil || token != c.token || !slices.Equal(got, c.want) {
				t.Errorf("got %+v, token %q, %v\nwant %+v, token %q", got, token, err, c.want, c.token)
			}
		})
	}
}

// A Table that is read without an error has told of as many Nodes as it has
// rows, and a Node is Ready only if a cell says so.
func FuzzReadTable(f *testing.F) {
	for _, seed := range []string{
		aTable(`{"resourceVersion":"7","continue":"x"}`, aRow("a", "Ready", "<none>"), aRow("b", "NotReady,SchedulingDisabled", "master")),
		aTable(`{}`), `{"kind":"Table"}`, `{"kind":"NodeList"}`, `{"kind":"Table","columnDefinitions":null,"rows":null}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, table string) {
		var got peers
		if _, err := got.read(strings.NewReader(table)); err != nil {
			return
		}
		for _, p := range got {
			if p.Name == "" || (p.Ready && !strings.Contains(table, "Ready") && !strings.Contains(table, `\u`)) {
				t.Errorf("from %q: %+v", table, p)
			}
		}
		// The same as encoding/json makes of the whole at once.
		var whole map[string]json.RawMessage
		if err := json.NewDecoder(strings.NewReader(table)).Decode(&whole); err != nil {
			t.Fatalf("%q was read and is no JSON object: %v", table, err)
		}
		var rows []json.RawMessage
		if err := json.Unmarshal(whole["rows"], &rows); strings.Count(table, `"rows"`) == 1 && !strings.Contains(table, `\`) && (err != nil || len(rows) != len(got)) {
			t.Errorf("%d of %d rows were read: %q %v", len(got), len(rows), table, err)
		}
	})
}

// answers is an API server that gives the answers in turn and keeps the
// requests.
func answers(t *testing.T, all ...http.HandlerFunc) (Nodes, *[]*http.Request) {
	t.Helper()
	var asked []*http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r)
		w.Header().Set("Content-Type", "application/json")
		all[min(len(asked), len(all))-1](w, r)
	}))
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL, QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"}})
	if err != nil {
		t.Fatal(err)
	}
	return Nodes{Client: client, Selector: "pool in (a,b)"}, &asked
}

func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
}

func fails(code int, reason, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":%q,"reason":%q,"code":%d}`, message, reason, code)
	}
}

// page is what something between us and the API server answers.
func page(code int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(text))
	}
}

// Only the API server itself can say that there is no policy, that the lock is
// missing, or that nothing was written.
func TestAnswersOfAProxy(t *testing.T) {
	configMap := func(answer http.HandlerFunc) ConfigMap {
		server, _ := answers(t, answer)
		return ConfigMap{Client: server.Client, Namespace: "kube-system", Name: "kured-lock", PolicyName: "kured-policy"}
	}
	notFound := `configmaps "x" not found`
	if p, err := configMap(fails(404, "NotFound", notFound)).Policy(t.Context()); err != nil || p.Max != nil {
		t.Errorf("there is no policy: %+v, %v", p, err)
	}
	if _, err := configMap(fails(404, "NotFound", notFound)).Read(t.Context()); !errors.Is(err, ErrMissing) {
		t.Errorf("there is no lock: %v", err)
	}
	proxy := configMap(page(404, "404 page not found"))
	if _, err := proxy.Policy(t.Context()); err == nil {
		t.Error("a proxy's page is taken for no policy")
	}
	if _, err := proxy.Read(t.Context()); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("a proxy's page is taken for no lock: %v", err)
	}
	for code, text := range map[int]string{403: "denied", 404: "404 page not found", 409: "conflict"} {
		if _, err := configMap(page(code, text)).Write(t.Context(), "7", leave("me")); err == nil || refusal(err) || errors.Is(err, ErrConflict) {
			t.Errorf("%d of a proxy is taken for the API server's: %v", code, err)
		}
	}
}

// A reason for a pause in an old encoding is no UTF-8, so kubectl puts it into binaryData: it pauses all the same.
func TestPolicyInBinaryData(t *testing.T) {
	for key, want := range map[string]status.Reason{"paused": status.Paused, "max": status.PolicyUnreadable, "freeze": status.PolicyUnreadable} {
		server, _ := answers(t, says(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"kured-policy"},"binaryData":{"`+key+`":"/w=="}}`))
		p, err := ConfigMap{Client: server.Client, Namespace: "kube-system", Name: "kured-lock", PolicyName: "kured-policy"}.Policy(t.Context())
		if reason, _, _ := p.Closed(noon); err != nil || reason != want {
			t.Errorf("%s: %q, %v; want %q", key, reason, err, want)
		}
	}
}

func TestNodesAsksForTheTable(t *testing.T) {
	nodes, asked := answers(t, says(aTable(`{"continue":"c1"}`, aRow("a", "Ready", ""))), says(aTable(`{}`, aRow("b", "Ready", ""))))
	got, err := nodes.Nodes(t.Context())
	if err != nil || !slices.Equal(got, []Peer{{Name: "a", Ready: true}, {Name: "b", Ready: true}}) {
		t.Errorf("got %+v, %v", got, err)
	}
	var urls []string
	for _, r := range *asked {
		if r.Header.Get("Accept") != asTable || r.Header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("asked with %v", r.Header)
		}
		urls = append(urls, r.URL.String())
	}
	want := []string{"/api/v1/nodes?includeObject=None&labelSelector=pool+in+%28a%2Cb%29&resourceVersion=0",
		"/api/v1/nodes?continue=c1&includeObject=None&labelSelector=pool+in+%28a%2Cb%29"}
	if !slices.Equal(urls, want) {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(urls, "\n"), strings.Join(want, "\n"))
	}
}

func TestNodesErrors(t *testing.T) {
	forbidden := `nodes is forbidden: User "system:node:a" cannot list resource "nodes"`
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		refused bool
		err     string
	}{
		"forbidden":            {fails(403, "Forbidden", forbidden), true, "list nodes: " + ErrListRefused.Error() + ": " + forbidden},
		"forbidden by a proxy": {page(403, "<html>Access denied</html>"), false, "list nodes: "},
		"unauthorized":         {fails(401, "Unauthorized", "Unauthorized"), false, "list nodes: Unauthorized"},
		"no Tables":            {fails(406, "NotAcceptable", "only the following media types are accepted: application/json"), false, "list nodes: only the following media types"},
		"same page":            {says(aTable(`{"continue":"c"}`, aRow("a", "Ready", ""))), false, "list nodes: the API server gives the same page again and again"},
		"not a Table":          {says(`{"kind":"NodeList"}`), false, `list nodes: the API server answers with a "NodeList"`},
		"cut connection": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5000")
			_, _ = w.Write([]byte(`{"kind":"Table"`))
		}, false, "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			nodes, _ := answers(t, c.answer)
			got, err := nodes.Nodes(t.Context())
			if err == nil || got != nil || errors.Is(err, ErrListRefused) != c.refused || !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %v, error %v; want refused %v and %q", got, err, c.refused, c.err)
			}
		})
	}
	t.Run("context ends in the answer", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		nodes, _ := answers(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"kind":"Table"`))
			w.(http.Flusher).Flush()
			cancel(enough)
			<-r.Context().Done()
		})
		if _, err := nodes.Nodes(ctx); !errors.Is(err, enough) {
			t.Errorf("error %v", err)
		}
	})
}
