package alert

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// vector is a good answer with these samples.
func vector(samples string) string {
	return `{"status":"success","data":{"resultType":"vector","result":[` + samples + `]}}`
}

// What a query gives, and what is no answer to it.
func TestQuery(t *testing.T) {
	sample := func(name, value string) string {
		return `{"metric":{"__name__":"` + name + `","instance":"a"},"value":[1700000000.123,"` + value + `"]}`
	}
	for _, c := range []struct {
		name, answer string
		want         string // result, or part of the error
		ok           bool
	}{
		{"empty vector", vector(""), "", true},
		{"empty matrix", `{"status":"success","data":{"resultType":"matrix","result":[]}}`, "", true},
		{"any sample, even 0", vector(sample("up", "0")), `up{instance="a"} = 0`, true},
		{"not a number", vector(sample("up", "NaN")), `up{instance="a"} = NaN`, true},
		{"sorted and cut", vector(sample("d", "1") + "," + sample("a", "1.5") + "," + sample("c", "1e9") + "," + sample("b", "1")), `a{instance="a"} = 1.5, b{instance="a"} = 1, c{instance="a"} = 1e+09 and 1 more`, true},
		{"matrix", `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up"},"values":[[1,"0"],[2,"3"]]}]}}`, "up = 3", true},
		{"histogram", vector(`{"metric":{"__name__":"h"},"histogram":[1,{"count":"1","sum":"1","buckets":[[0,"1","2","1"]]}]}`), "h", true},
		{"long and wild", vector(`{"metric":{"__name__":"up","a":"\u001b[31m` + strings.Repeat("x", 200) + `"},"value":[1,"1"]}`), `up{a="\x1b[31m`, true},

		{"scalar", `{"status":"success","data":{"resultType":"scalar","result":[1,"0"]}}`, "gives a scalar, which is never empty", false},
		{"string", `{"status":"success","data":{"resultType":"string","result":[1,"x"]}}`, `unexpected value type`, false},
		{"no type", `{"status":"success","data":{"result":[]}}`, "unexpected value type", false},
		{"null result", `{"status":"success","data":{"resultType":"vector","result":null}}`, "not a Prometheus: no result", false},
		{"no result", `{"status":"success","data":{"resultType":"vector"}}`, "not a Prometheus: no result", false},
		{"no data", `{"status":"success"}`, "not a Prometheus: no result", false},
		{"no status", `{"data":{"resultType":"vector","result":[]}}`, "not a Prometheus: no result", false},
		{"null sample", vector("null"), "null among its samples", false},
		{"nonsense sample", vector(`{"metric":{},"value":["a"]}`), "", false},
		{"object for a list", `{"status":"success","data":{"resultType":"vector","result":{}}}`, "no result", false},
		{"error with 200", `{"status":"error","errorType":"execution","error":"boom"}`, "not a Prometheus", false},

		{"a warning opens nothing", strings.Replace(none, "{", `{"warnings":["one store\nis away"],`, 1), "answers with a warning: one store is away", false},
		{"a warning does not hide", strings.Replace(one, "{", `{"warnings":["one store is away"],`, 1), "ALERTS{", true},
		{"a hint is none", strings.Replace(none, "{", `{"warnings":["PromQL info: metric might not be a counter"],"infos":["x"]`+",", 1), "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := newServer(t, "", patience, serve(t, says(c.answer)))
			result, err := server.Prometheus().Query(t.Context(), "up == 0")
			got := result
			if err != nil {
				got = err.Error()
			}
			if c.ok != (err == nil) || !strings.Contains(got, c.want) || c.want == "" && got != "" && c.ok || strings.ContainsAny(got, "\n\x1b") || len(got) > 500 {
				t.Errorf("%q", got)
			}
			// The way back takes the same for wrong.
			wrong := Proof{server, []string{"up == 0"}}.Wrong(t.Context())
			if (wrong == "") != (err == nil && result == "") || wrong != "" && !strings.Contains(wrong, "`up == 0`") {
				t.Errorf("on the way back: %q", wrong)
			}
		})
	}
}

// A query that the server refuses is told in its words.
func TestQueryIsWrong(t *testing.T) {
	url := serve(t, refuses(400, "application/json", `{"status":"error","errorType":"bad_data","error":"1:4: parse error: unclosed"}`))
	_, err := newServer(t, "", patience, url).Prometheus().Query(t.Context(), "up{")
	if err == nil || !strings.Contains(err.Error(), "400 Bad Request: 1:4: parse error: unclosed") {
		t.Error(err)
	}
}

// What is asked: by POST, or by GET where only that is allowed; the wanted states; a bound on the evaluation.
func TestAlerts(t *testing.T) {
	var query atomic.Value
	readOnly := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		query.Store(r.URL.Path + " " + r.FormValue("query") + " " + r.FormValue("time") + r.FormValue("timeout") + r.FormValue("dedup"))
		says(one)(w, r)
	}))
	server := newServer(t, "", patience, readOnly+"/prefix?dedup=true")
	for states, want := range map[States]string{
		Firing:  `/prefix/api/v1/query ALERTS{alertstate="firing"} 1m0strue`,
		Pending: `/prefix/api/v1/query ALERTS{alertstate=~"firing|pending"} 1m0strue`,
	} {
		alerts, err := server.Prometheus().Alerts(t.Context(), states, Filter{})
		if err != nil || Summary(alerts) != `NodeDown (instance="a:9100")` || query.Load() != want {
			t.Errorf("%s: %v, %v after %s", states, alerts, err, query.Load())
		}
	}
	query.Store("")
	if alerts, err := server.Prometheus().Alerts(t.Context(), None, Filter{}); alerts != nil || err != nil || query.Load() != "" {
		t.Errorf("none: %v, %v after %s", alerts, err, query.Load())
	}
	if _, err := server.Prometheus().Alerts(t.Context(), "", Filter{}); err == nil {
		t.Error("no states and no error")
	}
	ignoring, err := NewFilter([]string{"NodeDown"}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if alerts, err := server.Prometheus().Alerts(t.Context(), Firing, ignoring); alerts != nil || err != nil {
		t.Errorf("ignored: %v, %v", alerts, err)
	}
	partly := newServer(t, "", patience, serve(t, says(strings.Replace(one, "{", `{"warnings":["partial"],`, 1))))
	if _, err := partly.Prometheus().Alerts(t.Context(), Firing, ignoring); err == nil {
		t.Error("what was not seen may count")
	}
	scalar := newServer(t, "", patience, serve(t, says(`{"status":"success","data":{"resultType":"scalar","result":[1,"0"]}}`)))
	if _, err := scalar.Prometheus().Alerts(t.Context(), Firing, Filter{}); err == nil {
		t.Error("alerts that are a scalar")
	}
}

// transport answers without a network.
type transport http.HandlerFunc

func (h transport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h(w, r)
	return w.Result(), nil
}

// Only a complete answer is an answer, and no answer breaks us.
func FuzzQuery(f *testing.F) {
	f.Add([]byte(one))
	f.Add([]byte(none))
	f.Add([]byte(vector("null")))
	f.Add([]byte(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up"},"values":[[1,"0"],[2,"3"]]}]}}`))
	f.Add([]byte(vector(`{"metric":{"__name__":"h"},"histogram":[1,{"count":"1","sum":"1","buckets":[[0,"1","2","1"]]}]}`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		server := newServer(t, "", patience, "http://prometheus")
		server.transport = transport(says(string(body)))
		result, err := server.Prometheus().Query(t.Context(), "up")
		if err != nil || result != "" {
			return
		}
		var answer struct {
			Status string
			Data   struct{ Result []any }
		}
		if json.Unmarshal(body, &answer) != nil || answer.Status != "success" || answer.Data.Result == nil || len(answer.Data.Result) > 0 {
			t.Errorf("taken for an empty result: %q", body)
		}
	})
}
