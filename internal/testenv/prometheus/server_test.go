package prometheus

import (
	"net/http"
	"testing"
)

// Both programs start, with and without authentication, and are gone when killed.
func TestServers(t *testing.T) {
	get := func(url string) int {
		t.Helper()
		response, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	manager := NewAlertmanager(t, "", false)
	if code := get(manager.URL + "/api/v2/status"); code != http.StatusOK {
		t.Errorf("Alertmanager answers %d", code)
	}
	prometheus := New(t, Options{Target: NewExporter(t), Alertmanagers: []*Server{manager}, Authenticate: true})
	if code := get(prometheus.URL + "/api/v1/query?query=1"); code != http.StatusUnauthorized {
		t.Errorf("Prometheus answers %d without a password", code)
	}
	prometheus.Kill()
	if response, err := http.Get(prometheus.URL); err == nil {
		response.Body.Close()
		t.Error("a killed server answers")
	}
}
