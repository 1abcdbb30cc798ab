package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// Alertmanager is one look at an Alertmanager by its API v2
// (api/v2/openapi.yaml in its sources).
type Alertmanager struct{ *look }

// Alertmanager begins a look. Nothing is asked yet.
func (s Server) Alertmanager() Alertmanager { return Alertmanager{s.look()} }

// Alerts returns the active alerts, neither silenced nor inhibited, that count
// for the filter.
//
// An Alertmanager keeps no alerts over a restart, and Prometheus tells it of
// those that go on firing only every minute (--rules.alert.resend-delay). So
// one that runs for less than settled is not believed when it knows of none.
func (a Alertmanager) Alerts(ctx context.Context, filter Filter, settled time.Duration) ([]Alert, error) {
	var chosen []Alert
	err := a.ask(ctx, func(ctx context.Context, r *replica) error {
		response, body, err := a.call(ctx, r, http.MethodGet, "alerts",
			url.Values{"active": {"true"}, "silenced": {"false"}, "inhibited": {"false"}, "unprocessed": {"false"}}, nil)
		if err != nil {
			return err
		}
		alerts, err := decodeAlerts(body)
		if err != nil {
			return notFrom("an Alertmanager", response, err.Error())
		}
		if chosen = filter.Select(alerts); len(chosen) > 0 || settled <= 0 {
			return nil
		}
		return a.settled(ctx, r, settled)
	})
	if err != nil {
		return nil, err
	}
	return chosen, nil
}

// settled is an error if the server does not run for that long.
func (a Alertmanager) settled(ctx context.Context, r *replica, long time.Duration) error {
	response, body, err := a.call(ctx, r, http.MethodGet, "status", nil, nil)
	if err != nil {
		return err
	}
	var status struct{ Uptime time.Time } // the time of its start
	switch err := json.Unmarshal(body, &status); {
	case err != nil:
		return notFrom("an Alertmanager", response, err.Error())
	case status.Uptime.IsZero():
		return notFrom("an Alertmanager", response, "no time of its start in its answer")
	}
	if up := timeOf(response).Sub(status.Uptime); up < long {
		return fmt.Errorf("started %s ago: it may not know all alerts yet", max(0, up).Round(time.Second))
	}
	return nil
}

// call sends one request to one replica. content is sent as JSON unless it is nil.
func (a Alertmanager) call(ctx context.Context, r *replica, method, path string, query url.Values, content any) (*http.Response, []byte, error) {
	u := r.url.JoinPath("api/v2", path)
	all := u.Query()
	for name, values := range query {
		all[name] = values
	}
	u.RawQuery = all.Encode()
	var body []byte
	if content != nil {
		var err error
		if body, err = json.Marshal(content); err != nil {
			return nil, nil, fmt.Errorf("encode: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Accept", "application/json")
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return fetch(a.client, request)
}

// decodeAlerts reads gettableAlerts, and is sure that these are some.
func decodeAlerts(body []byte) ([]Alert, error) {
	var answer []*struct {
		Labels map[string]string
		Status struct{ State string }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if answer == nil {
		return nil, errors.New("no list of alerts in its answer")
	}
	alerts := make([]Alert, 0, len(answer))
	for _, a := range answer {
		switch {
		case a == nil || len(a.Labels) == 0:
			return nil, errors.New("an alert without labels in its answer")
		case a.Status.State == "suppressed":
			// Silenced or inhibited: a server that takes no notice of our parameters.
		case a.Status.State == "active" || a.Status.State == "unprocessed":
			alerts = append(alerts, a.Labels)
		default:
			return nil, fmt.Errorf("an alert in the state %q in its answer", status.Clean(a.Status.State, 40))
		}
	}
	return alerts, nil
}

// A silence is a gettableSilence, and without id a postableSilence.
type silence struct {
	ID        string           `json:"id,omitempty"`
	Status    *silenceStatus   `json:"status,omitempty"`
	Matchers  []silenceMatcher `json:"matchers"`
	StartsAt  time.Time        `json:"startsAt"`
	EndsAt    time.Time        `json:"endsAt"`
	CreatedBy string           `json:"createdBy"`
	Comment   string           `json:"comment"`
}

type silenceStatus struct {
	State string `json:"state"` // active, pending or expired
}

type silenceMatcher struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	IsRegex bool   `json:"isRegex"`
	IsEqual *bool  `json:"isEqual,omitempty"` // absent: true
}
