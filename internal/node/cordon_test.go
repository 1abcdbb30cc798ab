package node

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

const (
	bootA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	bootB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// cordoned is the part of a Node that cordon and uncordon are about.
type cordoned struct {
	unschedulable bool
	mark          string
}

func (c cordoned) put(obj *corev1.Node) {
	obj.Spec.Unschedulable = c.unschedulable
	obj.Annotations = map[string]string{"other": "stays"}
	if c.mark != "" {
		obj.Annotations[MarkAnnotation] = c.mark
	}
}

func cordonedOn(t *testing.T, api *fakeapi.API) cordoned {
	t.Helper()
	obj := api.Node()
	if obj.Annotations["other"] != "stays" {
		t.Error("another annotation was lost")
	}
	return cordoned{obj.Spec.Unschedulable, obj.Annotations[MarkAnnotation]}
}

func TestCordonAndUncordon(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before cordoned
		cordon bool // else uncordon
		after  cordoned
		says   bool
		writes int
	}{
		{name: "cordon", cordon: true, after: cordoned{true, bootA}, says: true, writes: 1},
		{name: "cordon: a person's cordon gets no mark", cordon: true, before: cordoned{true, ""}, after: cordoned{true, ""}},
		{name: "cordon: ours already", cordon: true, before: cordoned{true, bootA}, after: cordoned{true, bootA}, says: true},
		{name: "cordon: ours from the boot before", cordon: true, before: cordoned{true, bootB}, after: cordoned{true, bootA}, says: true, writes: 1},
		{name: "cordon: somebody uncordoned", cordon: true, before: cordoned{false, bootA}, after: cordoned{true, bootA}, says: true, writes: 1},
		{name: "cordon: somebody uncordoned, old mark", cordon: true, before: cordoned{false, bootB}, after: cordoned{true, bootA}, says: true, writes: 1},
		{name: "uncordon", before: cordoned{true, bootA}, after: cordoned{}, says: true, writes: 1},
		{name: "uncordon: mark of the boot before", before: cordoned{true, bootB}, after: cordoned{}, says: true, writes: 1},
		{name: "uncordon: a person's cordon", before: cordoned{true, ""}, after: cordoned{true, ""}},
		{name: "uncordon: nothing there", before: cordoned{}, after: cordoned{}},
		{name: "uncordon: only the mark is left", before: cordoned{false, bootA}, after: cordoned{}, says: true, writes: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			api := fakeapi.New(t)
			api.SetNode(tt.before.put)
			n := New(api.Client(), "n1", bootA)
			do := func(ctx context.Context) (bool, error) { return n.Uncordon(ctx, tt.before.mark) }
			if tt.cordon {
				do = n.Cordon
			}
			says, err := do(t.Context())
			if err != nil || says != tt.says {
				t.Errorf("got %v, %v; want %v", says, err, tt.says)
			}
			if got := cordonedOn(t, api); got != tt.after {
				t.Errorf("Node is %+v, want %+v", got, tt.after)
			}
			if got := len(api.Requests(http.MethodPatch, "")); got != tt.writes {
				t.Errorf("%d writes, want %d", got, tt.writes)
			}
		})
	}
}

func TestUncordonOfASchedulableNodeLeavesSpecAlone(t *testing.T) {
	api := fakeapi.New(t)
	api.SetNode(cordoned{false, bootA}.put)
	if _, err := New(api.Client(), "n1", bootA).Uncordon(t.Context(), bootA); err != nil {
		t.Fatal(err)
	}
	for _, r := range api.Requests(http.MethodPatch, "") {
		if strings.Contains(r.Body, "unschedulable") {
			t.Errorf("patch %s touches unschedulable", r.Body)
		}
	}
}

// A person cordons between our read and our write: the write is refused, and the new read decides.
func TestCordonLosesAgainstAPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		api.SetNode(cordoned{}.put)
		once := false
		api.Before = func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodPatch && !once {
				once = true
				api.SetNode(cordoned{true, ""}.put)
			}
			return nil, nil
		}
		marked, err := New(api.Client(), "n1", bootA).Cordon(t.Context())
		if marked || err != nil {
			t.Errorf("Cordon = %v, %v; want false", marked, err)
		}
		if got, want := cordonedOn(t, api), (cordoned{true, ""}); got != want {
			t.Errorf("Node is %+v, want %+v", got, want)
		}
	})
}

// The write is carried out and its reply lost: the Node tells, and nothing is done twice.
func TestLostReplies(t *testing.T) {
	for _, cordon := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			api := fakeapi.New(t)
			api.SetNode(cordoned{!cordon, map[bool]string{false: bootA}[cordon]}.put)
			lost := 0
			api.After = func(req *http.Request, resp *http.Response) (*http.Response, error) {
				if req.Method == http.MethodPatch {
					lost++
					return nil, errors.New("connection reset by peer")
				}
				return resp, nil
			}
			n := New(api.Client(), "n1", bootA)
			do, want := func(ctx context.Context) (bool, error) { return n.Uncordon(ctx, bootA) }, cordoned{}
			if cordon {
				do, want = n.Cordon, cordoned{true, bootA}
			}
			says, err := do(t.Context())
			if !says || err != nil || lost != 1 {
				t.Errorf("cordon %v: got %v, %v after %d writes; want true after 1", cordon, says, err, lost)
			}
			if got := cordonedOn(t, api); got != want {
				t.Errorf("Node is %+v, want %+v", got, want)
			}
		})
	}
}

func TestCordonGivesUp(t *testing.T) {
	nodes := schema.GroupResource{Resource: "nodes"}
	for _, tt := range []struct {
		name     string
		answer   func() (*http.Response, error)
		requests int
		want     string
	}{
		{"conflict for ever", func() (*http.Response, error) {
			return fakeapi.Refuse(apierrors.NewConflict(nodes, "n1", errors.New("changed"))), nil
		}, writeAttempts, "cordon node n1: "},
		{"forbidden", func() (*http.Response, error) {
			return fakeapi.Refuse(apierrors.NewForbidden(nodes, "n1", errors.New("not yours"))), nil
		}, 1, "not yours"},
		{"no connection", func() (*http.Response, error) {
			return nil, errors.New("connection refused")
		}, writeAttempts, "connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := fakeapi.New(t)
				api.SetNode(cordoned{}.put)
				api.Before = func(req *http.Request) (*http.Response, error) {
					if req.Method == http.MethodPatch {
						return tt.answer()
					}
					return nil, nil
				}
				marked, err := New(api.Client(), "n1", bootA).Cordon(t.Context())
				if marked || err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Cordon = %v, %v; want an error with %q", marked, err, tt.want)
				}
				if got := len(api.Requests(http.MethodPatch, "")); got != tt.requests {
					t.Errorf("%d writes, want %d", got, tt.requests)
				}
			})
		})
	}
}

func TestCordonStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		api.SetNode(cordoned{}.put)
		ctx, cancel := context.WithCancel(t.Context())
		api.Before = func(*http.Request) (*http.Response, error) {
			cancel()
			return nil, errors.New("connection refused")
		}
		if _, err := New(api.Client(), "n1", bootA).Cordon(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v, want context.Canceled", err)
		}
		if got := len(api.Requests("", "")); got != 1 {
			t.Errorf("%d requests, want 1", got)
		}
	})
}

func TestNoSuchNode(t *testing.T) {
	n := New(fakeapi.New(t).Client(), "n1", bootA)
	_, errGet := n.Get(t.Context())
	_, errCordon := n.Cordon(t.Context())
	_, errUncordon := n.Uncordon(t.Context(), bootA)
	for what, err := range map[string]error{"Get": errGet, "Cordon": errCordon, "Uncordon": errUncordon} {
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "n1") {
			t.Errorf("%s: err = %v, want ErrNotFound with the name", what, err)
		}
	}
}

// A balancer that has no API server behind it for a moment says 404 to all: the Node is not gone.
func TestNoSuchPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		api.SetNode(cordoned{}.put)
		pages := 3
		api.Before = func(*http.Request) (*http.Response, error) {
			if pages--; pages < 0 {
				return nil, nil
			}
			return &http.Response{
				StatusCode: http.StatusNotFound, Header: http.Header{"Content-Type": {"text/plain"}},
				Body: io.NopCloser(strings.NewReader("404 page not found\n")),
			}, nil
		}
		n := New(api.Client(), "n1", bootA)
		if _, err := n.Get(t.Context()); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("Get: %v", err)
		}
		if _, err := (Notes{api.Client()}).Leave(t.Context(), "n1", "alice", "x", "", time.Now()); err == nil {
			t.Error("Leave: as if there were no such Node")
		}
		if marked, err := n.Cordon(t.Context()); !marked || err != nil {
			t.Errorf("Cordon = %v, %v", marked, err)
		}
	})
}
