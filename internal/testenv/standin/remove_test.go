package standin_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/testenv/standin"
)

// forgetful answers the first deletions as an API server does that has just
// been started and does not know the pods yet.
type forgetful struct {
	http.RoundTripper
	left *atomic.Int32
}

func (f forgetful) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method != http.MethodDelete || f.left.Add(-1) < 0 {
		return f.RoundTripper.RoundTrip(request)
	}
	body := `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`
	return &http.Response{
		StatusCode: http.StatusNotFound, Status: "404 Not Found", Request: request,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

// A pod that the API server denies to know is removed all the same: a false
// "not found" must not leave it Terminating for ever.
func TestRemovesWhatTheServerForgot(t *testing.T) {
	credential, err := cluster.NodeCredential("forgotten")
	if err != nil {
		t.Fatal(err)
	}
	var left atomic.Int32
	left.Store(3)
	config := credential.Config()
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return forgetful{next, &left} })
	kubelet, err := standin.New(standin.Options{Config: config, NodeName: "forgotten", BootID: standin.NewBootID()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- kubelet.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := cluster.Admin().CoreV1().Nodes().Delete(context.Background(), "forgotten", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	<-kubelet.Ready()
	newPod(t, "forgotten", "forgotten", 30)
	if err := cluster.Admin().CoreV1().Pods("default").Delete(t.Context(), "forgotten", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, "forgotten")
	if left.Load() >= 0 {
		t.Error("the pod went without all the deletions that were refused")
	}
}
