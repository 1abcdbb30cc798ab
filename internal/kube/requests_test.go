package kube

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func TestVerbs(t *testing.T) {
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/api/v1/nodes", "list"},
		{"GET", "/api/v1/nodes/node-a", "get"},
		{"GET", "/api/v1/namespaces/kube-system", "get"},
		{"GET", "/api/v1/namespaces/kube-system/configmaps", "list"},
		{"GET", "/api/v1/namespaces/kube-system/configmaps/kured-lock", "get"},
		{"GET", "/api/v1/pods?watch=1&fieldSelector=x", "watch"},
		{"GET", "/api/v1/pods?watch=true", "watch"},
		{"GET", "/apis/apps/v1/namespaces/a/daemonsets/b", "get"},
		{"GET", "/k8s/clusters/c-1/apis/apps/v1/daemonsets", "list"},
		{"POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "create"},
		{"POST", "/api/v1/namespaces/shop/pods/web-7/eviction", "evict"},
		{"POST", "/api/v1/namespaces/shop/pods/web-7/eviction?dryRun=All", "create"},
		{"POST", "/api/v1/namespaces/shop/pods/eviction", "create"},
		{"PATCH", "/api/v1/nodes/node-a", "patch"},
		{"PUT", "/api/v1/nodes/node-a", "update"},
		{"DELETE", "/api/v1/namespaces/shop/pods/web-7", "delete"},
		{"GET", "/version", "other"},
		{"GET", "/apis/apps/v1", "other"},
		{"GET", "/", "other"},
		{"OPTIONS", "/api/v1/nodes", "other"},
	} {
		req := httptest.NewRequest(c.method, c.path, nil)
		if got := verbOf(req); got != c.want || !slices.Contains(Verbs(), got) {
			t.Errorf("%s %s: %q, want %q", c.method, c.path, got, c.want)
		}
	}
}

// A rehearsal is no eviction, in either encoding of the body.
func TestDryRunOfAnEviction(t *testing.T) {
	for _, contentType := range []string{runtime.ContentTypeProtobuf, runtime.ContentTypeJSON} {
		for _, dry := range []bool{false, true} {
			var verb string
			var requests Requests
			client, err := kubernetes.NewForConfigAndClient(&rest.Config{Host: "http://127.0.0.1", ContentConfig: rest.ContentConfig{ContentType: contentType}},
				&http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
					_, _ = io.Copy(io.Discard, req.Body) // as it is sent
					verb = verbOf(req)
					requests.Observe(verb, 201)
					return &http.Response{StatusCode: 201, Body: io.NopCloser(strings.NewReader("{}")), Request: req}, nil
				})})
			if err != nil {
				t.Fatal(err)
			}
			opts := &metav1.DeleteOptions{}
			if dry {
				opts.DryRun = []string{metav1.DryRunAll}
			}
			err = client.PolicyV1().Evictions("shop").Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-7"}, DeleteOptions: opts})
			if want := map[bool]string{false: "evict", true: "create"}[dry]; verb != want {
				t.Errorf("%s, dry run %v: %q, want %q (%v)", contentType, dry, verb, want, err)
			}
			if n := requests.Evictions()["201"]; n != map[bool]uint64{false: 1}[dry] {
				t.Errorf("%s, dry run %v: %d evictions counted", contentType, dry, n)
			}
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestCountsAreBounded(t *testing.T) {
	var r Requests
	for _, code := range []int{0, -1, 99, 600} {
		r.Observe("get", code)
	}
	r.Observe("dance", 200)
	r.Observe("get", 200)
	var got []string
	r.Each(func(verb, code string, n uint64) { got = append(got, fmt.Sprint(verb, " ", code, " ", n)) })
	slices.Sort(got)
	if want := []string{"get 200 1", "get error 4", "other 200 1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
