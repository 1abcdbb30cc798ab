package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/kured-host/kured/internal/status"
)

// States are the states of alerts that count.
type States string

// The sets of states.
const (
	Firing  States = "firing"
	Pending States = "pending" // or firing
	None    States = "none"    // alerts are not looked at
)

// Prometheus is one look at a Prometheus, or at what speaks its query API.
type Prometheus struct{ *look }

// Prometheus begins a look. Nothing is asked yet.
func (s Server) Prometheus() Prometheus { return Prometheus{s.look()} }

// Alerts returns the alerts in these states that count for the filter.
func (p Prometheus) Alerts(ctx context.Context, states States, filter Filter) ([]Alert, error) {
	var query string
	switch states {
	case None:
		return nil, nil
	case Firing:
		query = `ALERTS{alertstate="firing"}`
	case Pending:
		query = `ALERTS{alertstate=~"firing|pending"}`
	default:
		return nil, fmt.Errorf("alerts %q: neither firing nor pending nor none", states)
	}
	var chosen []Alert
	err := p.query(ctx, query, func(value model.Value) (enough bool, err error) {
		vector, ok := value.(model.Vector)
		if !ok {
			return false, fmt.Errorf("not a Prometheus: %s is a %s", query, value.Type())
		}
		alerts := make([]Alert, 0, len(vector))
		for _, sample := range vector {
			if sample == nil {
				return false, errNull
			}
			a := make(Alert, len(sample.Metric))
			for name, value := range sample.Metric {
				a[string(name)] = string(value)
			}
			delete(a, model.MetricNameLabel)
			alerts = append(alerts, a)
		}
		chosen = filter.Select(alerts)
		return len(chosen) > 0, nil
	})
	if err != nil {
		return nil, err
	}
	return chosen, nil
}

// Query evaluates PromQL at the server's time and returns what it gives: "" for
// an empty vector or matrix, and otherwise its first samples, whatever their
// values are. A scalar or a string is never empty, so that it would say nothing:
// it is an error of the query, to be mended by a comparison (up == 0, not
// scalar(up)).
func (p Prometheus) Query(ctx context.Context, query string) (result string, err error) {
	err = p.query(ctx, query, func(value model.Value) (enough bool, err error) {
		var samples []series
		switch value := value.(type) {
		case model.Vector:
			for _, sample := range value {
				if sample == nil {
					return false, errNull
				}
				samples = append(samples, series{sample.Metric, sample.Value, sample.Histogram != nil})
			}
		case model.Matrix:
			for _, stream := range value {
				if stream == nil {
					return false, errNull
				}
				s := series{metric: stream.Metric, histogram: true}
				if n := len(stream.Values); n > 0 {
					s = series{metric: stream.Metric, value: stream.Values[n-1].Value}
				}
				samples = append(samples, s)
			}
		default:
			return false, fmt.Errorf("gives a %s, which is never empty: compare it, so that it is empty when all is well", value.Type())
		}
		result = summary(samples)
		return len(samples) > 0, nil
	})
	if err != nil {
		return "", err
	}
	return result, nil
}

// series is a result for people.
type series struct {
	metric    model.Metric
	value     model.SampleValue
	histogram bool // which has no one value
}

func (s series) String() string {
	text := status.Clean(s.metric.String(), 120)
	if s.histogram {
		return text
	}
	return text + " = " + strconv.FormatFloat(float64(s.value), 'g', 6, 64)
}

// errNull is about an answer that decodes to nothing.
var errNull = errors.New("not a Prometheus: null among its samples")

// query asks until use accepts a value. use says whether what it found is
// enough to believe an answer that was given with warnings, as Thanos does when
// a part of its data cannot be read: what is there is true, but it cannot be
// said what is not.
func (p Prometheus) query(ctx context.Context, query string, use func(model.Value) (enough bool, err error)) error {
	return p.ask(ctx, func(ctx context.Context, r *replica) error {
		base, err := api.NewClient(api.Config{Address: r.url.String(), Client: p.client})
		if err != nil {
			return err
		}
		value, warnings, err := promv1.NewAPI(bounded{base, p.client}).Query(ctx, query, time.Time{}, promv1.WithTimeout(p.timeout))
		if err != nil {
			return err
		}
		enough, err := use(value)
		if err == nil && !enough {
			err = doubt(warnings)
		}
		return err
	})
}

// doubt is the first warning. Prometheus before 3.0 has hints on how to write
// the query better among them, which say nothing about the result.
func doubt(warnings promv1.Warnings) error {
	for _, w := range warnings {
		if !strings.HasPrefix(w, "PromQL info:") {
			return fmt.Errorf("answers with a warning: %s", status.Clean(w, 150))
		}
	}
	return nil
}

// bounded is a client of the query API that reads no endless answers, and
// believes only those that are complete: the library takes {"data":…} without a
// status, and null for an empty result.
type bounded struct {
	api.Client
	client *http.Client
}

func (b bounded) Do(ctx context.Context, request *http.Request) (*http.Response, []byte, error) {
	response, body, err := fetch(b.client, request.WithContext(ctx))
	if err != nil {
		return response, body, err
	}
	var answer struct {
		Status string
		Data   struct{ Result json.RawMessage }
	}
	switch err := json.Unmarshal(body, &answer); {
	case err != nil:
		return nil, nil, notFrom("a Prometheus", response, err.Error())
	case answer.Status != "success" || !bytes.HasPrefix(answer.Data.Result, []byte("[")):
		return nil, nil, notFrom("a Prometheus", response, "no result in its answer")
	}
	return response, body, nil
}

// Proof is how a node that has rebooted is seen to be well by Prometheus.
type Proof struct {
	Server  Server
	Queries []string // PromQL whose result is empty when all is well
}

// Wrong evaluates the queries and says what is wrong, in one line: a result
// that is not empty, or that it cannot be found out. "" means that all is well.
func (p Proof) Wrong(ctx context.Context) string {
	prometheus := p.Server.Prometheus()
	for _, query := range p.Queries {
		result, err := prometheus.Query(ctx, query)
		switch {
		case err != nil:
			return fmt.Sprintf("the query %s cannot be answered: %v", QueryText(query), err)
		case result != "":
			return fmt.Sprintf("the query %s gives %s", QueryText(query), result)
		}
	}
	return ""
}

// QueryText is a query as part of one line.
func QueryText(query string) string { return "`" + status.Clean(query, 100) + "`" }
