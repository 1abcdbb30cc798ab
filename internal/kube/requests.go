package kube

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

// The verbs of requests, as the API server's own, but for those that are told
// apart here. The set is closed.
const (
	verbGet    = "get"
	verbList   = "list"
	verbWatch  = "watch"
	verbCreate = "create"
	verbUpdate = "update"
	verbPatch  = "patch"
	verbDelete = "delete"
	verbEvict  = "evict" // create of an Eviction; its dry run is a create
	verbOther  = "other"
)

// Verbs lists every verb that Options.OnRequest is told.
func Verbs() []string {
	return []string{verbGet, verbList, verbWatch, verbCreate, verbUpdate, verbPatch, verbDelete, verbEvict, verbOther}
}

// verbOf is the verb of a request, from its method and path
// (https://kubernetes.io/docs/reference/using-api/api-concepts/).
func verbOf(req *http.Request) string {
	rest, ok := resource(req.URL.Path)
	if !ok {
		return verbOther
	}
	switch req.Method {
	case http.MethodGet:
		switch watch := req.URL.Query().Get("watch"); {
		case watch == "true", watch == "1":
			return verbWatch
		case len(rest) == 1:
			return verbList
		}
		return verbGet
	case http.MethodPost:
		if len(rest) == 3 && rest[0] == "pods" && rest[2] == "eviction" && !isDryRun(req) {
			return verbEvict
		}
		return verbCreate
	case http.MethodPut:
		return verbUpdate
	case http.MethodPatch:
		return verbPatch
	case http.MethodDelete:
		return verbDelete
	}
	return verbOther
}

// resource is what follows version and namespace in a path: the resource, the
// name, the subresource. A server may have a path of its own before /api.
func resource(path string) (rest []string, ok bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	root := slices.IndexFunc(parts, func(p string) bool { return p == "api" || p == "apis" })
	if root < 0 {
		return nil, false
	}
	skip := 2 // api, version
	if parts[root] == "apis" {
		skip = 3 // apis, group, version
	}
	if rest = parts[root:]; len(rest) <= skip {
		return nil, false // discovery
	}
	if rest = rest[skip:]; rest[0] == "namespaces" && len(rest) > 2 {
		rest = rest[2:]
	}
	return rest, true
}

// isDryRun looks into the body of an eviction: its options stand there, and
// not in the query.
func isDryRun(req *http.Request) bool {
	if slices.Contains(req.URL.Query()["dryRun"], metav1.DryRunAll) {
		return true
	}
	if req.GetBody == nil {
		return false
	}
	body, err := req.GetBody()
	if err != nil {
		return false
	}
	defer body.Close() // a copy in memory
	text, err := io.ReadAll(io.LimitReader(body, 64<<10))
	if err != nil {
		return false
	}
	object, _, err := scheme.Codecs.UniversalDeserializer().Decode(text, nil, nil)
	eviction, ok := object.(*policyv1.Eviction)
	return err == nil && ok && eviction.DeleteOptions != nil && slices.Contains(eviction.DeleteOptions.DryRun, metav1.DryRunAll)
}

// Requests counts requests by verb and code. The zero value is ready, and one
// may count over many connections. Its methods may be called concurrently.
type Requests struct {
	mu     sync.Mutex
	counts map[request]uint64
}

type request struct {
	verb string
	code int // 0: no answer
}

// Observe counts one request; it fits Options.OnRequest.
func (r *Requests) Observe(verb string, code int) {
	if !slices.Contains(Verbs(), verb) {
		verb = verbOther
	}
	if code < 100 || code > 599 {
		code = 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[request]uint64{}
	}
	r.counts[request{verb, code}]++
}

// Each calls yield for each verb and code that there were, in no order. The code
// is the number, or "error" where there was no answer.
func (r *Requests) Each(yield func(verb, code string, n uint64)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, n := range r.counts {
		yield(k.verb, codeLabel(k.code), n)
	}
}

// Evictions are the counts of real evictions by code.
func (r *Requests) Evictions() map[string]uint64 {
	out := map[string]uint64{}
	r.Each(func(verb, code string, n uint64) {
		if verb == verbEvict {
			out[code] = n
		}
	})
	return out
}

func codeLabel(code int) string {
	if code == 0 {
		return "error"
	}
	return strconv.Itoa(code)
}
