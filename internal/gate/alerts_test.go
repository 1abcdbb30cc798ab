package gate

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/alert"
	"github.com/kured-host/kured/internal/status"
)

// answering serves one answer to each path that begins so, and 404 for others.
func answering(t *testing.T, answers map[string]string) alert.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		text, ok := answers[strings.TrimSpace(r.URL.Path+" "+r.FormValue("query"))]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write([]byte(text)) // the client may have gone
	}))
	t.Cleanup(server.Close)
	s, err := alert.NewServer([]string{server.URL}, "", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPrometheus(t *testing.T) {
	const (
		query   = "/api/v1/query "
		firing  = query + `ALERTS{alertstate="firing"}`
		pending = query + `ALERTS{alertstate=~"firing|pending"}`
		empty   = `{"status":"success","data":{"resultType":"vector","result":[]}}`
		down    = `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"alertname":"NodeDown","severity":"critical"},"value":[1,"1"]}]}}`
	)
	ignoring, err := alert.NewFilter([]string{"^NodeDown$"}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		answers map[string]string
		gate    Prometheus
		reason  status.Reason
		detail  string
	}{
		{"quiet", map[string]string{firing: empty}, Prometheus{States: alert.Firing}, "", ""},
		{"an alert", map[string]string{firing: down}, Prometheus{States: alert.Firing}, status.AlertsFiring, `NodeDown (severity="critical")`},
		{"ignored", map[string]string{firing: down}, Prometheus{States: alert.Firing, Filter: ignoring}, "", ""},
		{"pending", map[string]string{firing: empty, pending: down}, Prometheus{States: alert.Pending}, status.AlertsFiring, "NodeDown"},
		{"no alerts", nil, Prometheus{States: alert.Firing}, status.AlertsUnreadable, "404 Not Found"},
		{"unknown states", map[string]string{firing: empty}, Prometheus{}, status.AlertsUnreadable, `alerts ""`},
		{"neither alerts nor queries", nil, Prometheus{States: alert.None}, "", ""},
		{"query alone", map[string]string{query + "up == 0": empty}, Prometheus{States: alert.None, Queries: []string{"up == 0"}}, "", ""},
		{"second query", map[string]string{query + "a": empty, query + "b": down}, Prometheus{States: alert.None, Queries: []string{"a", "b"}}, status.QueryBlocks, "the query `b` gives {alertname="},
		{"query unreadable", map[string]string{firing: empty}, Prometheus{States: alert.Firing, Queries: []string{"a"}}, status.QueryUnreadable, "the query `a` cannot be answered: http://127.0.0.1:"},
		{"scalar", map[string]string{query + "1": `{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}`}, Prometheus{States: alert.None, Queries: []string{"1"}}, status.QueryUnreadable, "a scalar"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.gate.Server = answering(t, c.answers)
			for _, at := range []Moment{Before, Within} {
				if v := c.gate.Check(t.Context(), at); v.Open != (c.reason == "") || v.Reason != c.reason || !strings.Contains(v.Detail, c.detail) {
					t.Errorf("%+v", v)
				}
			}
			c.gate.UntilDrain = true
			if v := c.gate.Check(t.Context(), Within); !v.Open {
				t.Errorf("when the node holds the lock: %+v", v)
			}
			if v := c.gate.Check(t.Context(), Before); v.Reason != c.reason {
				t.Errorf("before: %+v", v)
			}
		})
	}
}

func TestAlertmanager(t *testing.T) {
	active := map[string]string{"/api/v2/alerts": `[{"labels":{"alertname":"NodeDown"},"status":{"state":"active"}}]`}
	ignoring, err := alert.NewFilter(nil, nil, []string{`alertname="NodeDown"`}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		answers map[string]string
		filter  alert.Filter
		reason  status.Reason
		detail  string
	}{
		{"quiet", map[string]string{"/api/v2/alerts": `[]`}, alert.Filter{}, "", ""},
		{"an alert", active, alert.Filter{}, status.AlertsFiring, "NodeDown"},
		{"ignored", active, ignoring, "", ""},
		{"not there", nil, alert.Filter{}, status.AlertsUnreadable, "Alertmanager cannot be asked for alerts: http://127.0.0.1:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := Alertmanager{Server: answering(t, c.answers), Filter: c.filter}
			for _, at := range []Moment{Before, Within} {
				if v := g.Check(t.Context(), at); v.Open != (c.reason == "") || v.Reason != c.reason || !strings.Contains(v.Detail, c.detail) {
					t.Errorf("%+v", v)
				}
			}
			g.UntilDrain = true
			if v := g.Check(t.Context(), Within); !v.Open {
				t.Errorf("when the node holds the lock: %+v", v)
			}
		})
	}
}
