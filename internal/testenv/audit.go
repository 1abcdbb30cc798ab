package testenv

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// A Request is what the API server's audit log tells about one request.
type Request struct {
	Time        time.Time // when the API server received it
	User        string
	UserAgent   string
	Verb        string // get, list, watch, create, update, patch, delete, …
	Group       string // API group, empty for the core group
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	URI         string // path and query
	Code        int    // HTTP status of the answer
}

// A RequestFilter chooses requests; an empty field matches everything.
type RequestFilter struct {
	Since       time.Time
	User        string
	Verb        string
	Resource    string
	Subresource string // "-" matches only requests without one
	Namespace   string
	Name        string
	Code        int
}

// Requests returns the requests that match, in the order in which they were
// answered. A watch is listed from its beginning, once.
//
// A request is in the log when its answer is complete, which for a large answer
// can be an instant after the client has read it.
func (cp *ControlPlane) Requests(filter RequestFilter) ([]Request, error) {
	if !cp.options.Audit {
		return nil, errors.New("requests: the control plane was started without Options.Audit")
	}
	file, err := os.Open(cp.file("audit.log"))
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	defer file.Close()
	var requests []Request
	seen := map[string]bool{} // by audit id: a watch is logged at its begin and at its end
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			// What has no end of line yet is being written.
			return requests, nil
		}
		if err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		if filter.User != "" && !bytes.Contains(line, []byte(filter.User)) {
			continue // spares decoding the controllers' requests
		}
		id, request, err := decodeAudit(line)
		if err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		if !seen[id] && filter.matches(request) {
			requests = append(requests, request)
		}
		seen[id] = true
	}
}

// CountRequests is the number of requests that match.
func (cp *ControlPlane) CountRequests(filter RequestFilter) (int, error) {
	requests, err := cp.Requests(filter)
	return len(requests), err
}

func (f RequestFilter) matches(r Request) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return !r.Time.Before(f.Since) &&
		is(f.User, r.User) && is(f.Verb, r.Verb) && is(f.Resource, r.Resource) &&
		(is(f.Subresource, r.Subresource) || f.Subresource == "-" && r.Subresource == "") &&
		is(f.Namespace, r.Namespace) && is(f.Name, r.Name) &&
		(f.Code == 0 || f.Code == r.Code)
}

// decodeAudit reads one audit.k8s.io/v1 Event.
func decodeAudit(line []byte) (id string, request Request, err error) {
	var event struct {
		AuditID    string
		Verb       string
		RequestURI string
		UserAgent  string
		User       struct{ Username string }
		ObjectRef  struct{ APIGroup, Resource, Subresource, Namespace, Name string }

		ResponseStatus           struct{ Code int }
		RequestReceivedTimestamp time.Time
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return "", Request{}, fmt.Errorf("decode %q: %w", line, err)
	}
	object := event.ObjectRef
	return event.AuditID, Request{
		Time: event.RequestReceivedTimestamp, User: event.User.Username, UserAgent: event.UserAgent,
		Verb: event.Verb, Group: object.APIGroup, Resource: object.Resource, Subresource: object.Subresource,
		Namespace: object.Namespace, Name: object.Name, URI: event.RequestURI, Code: event.ResponseStatus.Code,
	}, nil
}
