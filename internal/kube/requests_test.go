package kube

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

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

func TestCertificateExpiry(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.issue(t, "system:node:node-a")
	want, err := notAfter(cert)
	if err != nil {
		t.Fatal(err)
	}
	inline := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	for name, c := range map[string]struct {
		user, failure string
		want          time.Time
	}{
		"inline":        {user: "{client-certificate-data: " + inline(cert) + ", client-key-data: " + inline(key) + "}", want: want},
		"file":          {user: "{client-certificate: both.pem, client-key: both.pem}", want: want},
		"chain":         {user: "{client-certificate: chain.pem, client-key: both.pem}", want: want},
		"token":         {user: "{token: t}"},
		"exec":          {user: "{exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin}}"},
		"missing file":  {user: "{client-certificate: none.pem}", failure: "none.pem"},
		"not PEM":       {user: "{client-certificate: empty.pem}", failure: "not in PEM form"},
		"no PEM inside": {user: "{client-certificate: odd.pem}", failure: "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			f := files{t.TempDir()}
			f.write(t, "both.pem", append(append([]byte(nil), key...), cert...))
			f.write(t, "chain.pem", append(append([]byte(nil), cert...), ca.pem...))
			f.write(t, "empty.pem", nil)
			f.write(t, "odd.pem", []byte("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"))
			expiry := NewCertificate(f.kubeconfig(t, "https://127.0.0.1:1", c.user))
			for range 3 { // read, read once more, remembered
				got, err := expiry.Expiry()
				if c.failure != "" {
					if err == nil || !strings.Contains(err.Error(), c.failure) {
						t.Fatal(err)
					}
				} else if err != nil || !got.Equal(c.want) {
					t.Fatalf("%v, %v, want %v", got, err, c.want)
				}
			}
		})
	}
}

// The kubelet rotates its certificate behind a symbolic link.
func TestCertificateExpiryFollowsTheFiles(t *testing.T) {
	ca := newAuthority(t, "ca")
	f := files{t.TempDir()}
	short := time.Now().Add(time.Minute).UTC().Truncate(time.Second)
	f.node(t, ca, "system:node:node-a", "1")
	path := f.kubeconfig(t, "https://127.0.0.1:1", certificateUser)
	expiry := NewCertificate(path)
	for range 3 {
		if _, err := expiry.Expiry(); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := ca.issueUntil(t, "system:node:node-a", short)
	f.write(t, "2.pem", append(cert, key...))
	f.link(t, "2.pem")
	for range 3 {
		if got, err := expiry.Expiry(); err != nil || !got.Equal(short) {
			t.Fatalf("%v, %v, want %v", got, err, short)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := expiry.Expiry(); err == nil {
		t.Error("remembered what is gone")
	}
	other := files{t.TempDir()}
	expiry.Use(other.kubeconfig(t, "https://127.0.0.1:1", "{token: t}"))
	if got, err := expiry.Expiry(); err != nil || !got.IsZero() {
		t.Error(got, err)
	}
}
