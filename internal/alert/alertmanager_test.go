package alert

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// What Alertmanager 0.25 answers, but for fields that do not matter.
const activeAlert = `[{"annotations":{},"endsAt":"2026-11-22T10:00:00.000Z","fingerprint":"66a7cc97ea2dfea4","receivers":[{"name":"nobody"}],` +
	`"startsAt":"2026-11-22T09:00:00.000Z","status":{"inhibitedBy":[],"silencedBy":[],"state":"active"},"labels":{"alertname":"NodeDown","severity":"critical"}}]`

func TestActiveAlerts(t *testing.T) {
	alertIn := func(state string) string { return strings.Replace(activeAlert, `"active"`, state, 1) }
	for _, c := range []struct {
		name, answer, want string
		ok                 bool
	}{
		{"none", `[]`, "", true},
		{"one", activeAlert, `NodeDown (severity="critical")`, true},
		{"unprocessed", alertIn(`"unprocessed"`), `NodeDown (severity="critical")`, true},
		{"suppressed, from a server that does not care what it was asked", alertIn(`"suppressed"`), "", true},
		{"another state", alertIn(`"sleeping"`), `not an Alertmanager: an alert in the state "sleeping"`, false},
		{"no status", `[{"labels":{"alertname":"A"}}]`, `in the state ""`, false},
		{"no labels", `[{"status":{"state":"active"}}]`, "without labels", false},
		{"null in the list", `[null]`, "without labels", false},
		{"null", `null`, "no list of alerts", false},
		{"object", `{"status":"success","data":[]}`, "cannot unmarshal", false},
		{"more than one value", `[] []`, "after top-level value", false},
		{"an API of before 0.16", `{"error":"gone"}`, "cannot unmarshal", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			alerts, err := newServer(t, "", patience, serve(t, says(c.answer))).Alertmanager().Alerts(t.Context(), Filter{}, 0)
			got := Summary(alerts)
			if err != nil {
				got = err.Error()
			}
			if c.ok != (err == nil) || !strings.Contains(got, c.want) || c.ok && got != c.want {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestActiveAlertsAreAskedFor(t *testing.T) {
	var asked atomic.Value
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Method + " " + r.URL.String())
		says(activeAlert)(w, r)
	}))
	ignoring, err := NewFilter(nil, nil, []string{`severity="critical"`}, nil)
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := newServer(t, "", patience, url+"/prefix/?tenant=a").Alertmanager().Alerts(t.Context(), ignoring, 0)
	if err != nil || alerts != nil {
		t.Errorf("%v, %v", alerts, err)
	}
	if want := "GET /prefix/api/v2/alerts?active=true&inhibited=false&silenced=false&tenant=a&unprocessed=false"; asked.Load() != want {
		t.Errorf("asked %s", asked.Load())
	}
}

// One that has just started may have nothing to say because it was told nothing yet.
func TestAlertmanagerSettles(t *testing.T) {
	for _, c := range []struct {
		name, alerts, status, want string
	}{
		{"long ago", `[]`, `{"uptime":"2026-11-22T09:00:00.123Z"}`, ""},
		{"just now", `[]`, `{"uptime":"2026-11-22T09:59:20Z"}`, "started 40s ago"},
		{"in its future", `[]`, `{"uptime":"2026-11-22T11:00:00Z"}`, "started 0s ago"},
		{"just now, but it knows one", activeAlert, `{"uptime":"2026-11-22T09:59:20Z"}`, ""},
		{"no time", `[]`, `{"cluster":{"status":"ready"}}`, "not an Alertmanager: no time"},
		{"nonsense", `[]`, `[]`, "not an Alertmanager"},
		{"refused", `[]`, "", "403 Forbidden"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", "Sun, 22 Nov 2026 10:00:00 GMT")
				switch {
				case r.URL.Path == "/api/v2/alerts":
					says(c.alerts)(w, r)
				case c.status == "":
					w.WriteHeader(http.StatusForbidden)
				default:
					says(c.status)(w, r)
				}
			}))
			_, err := newServer(t, "", patience, url).Alertmanager().Alerts(t.Context(), Filter{}, time.Minute)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Only a list of alerts is an answer, and no active alert of it is lost.
func FuzzDecodeAlerts(f *testing.F) {
	f.Add([]byte(activeAlert))
	f.Add([]byte(`[]`))
	f.Add([]byte(`[null]`))
	f.Add([]byte(`[{"labels":{"a":"b"},"status":{"state":"suppressed"}}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		alerts, err := decodeAlerts(body)
		if err != nil {
			return
		}
		var list []any
		if json.Unmarshal(body, &list) != nil || list == nil || len(alerts) > len(list) {
			t.Fatalf("taken for alerts: %q", body)
		}
		suppressed := strings.Count(string(body), "suppressed") + strings.Count(string(body), `\u`)
		if len(alerts)+suppressed < len(list) {
			t.Errorf("%d alerts of %q", len(alerts), body)
		}
		_ = Summary(alerts)
	})
}

func FuzzDecodeSilences(f *testing.F) {
	f.Add([]byte(`[{"id":"a","status":{"state":"active"},"matchers":[{"name":"instance","value":"a","isRegex":false,"isEqual":true}],` +
		`"startsAt":"2026-11-22T10:00:00Z","endsAt":"2026-11-22T10:10:00Z","createdBy":"kured","comment":"node a reboots: x"}]`))
	f.Add([]byte(`[{"id":"a","status":null}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		silences, err := decodeSilences(body)
		if err != nil {
			return
		}
		for _, s := range silences {
			if ours := (Silence{node: "a"}).isOurs(s); ours && s.Status.State == "expired" {
				t.Errorf("an expired one: %q", body)
			}
		}
	})
}
