package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

const bootADashed = "AAAAAAAA-aaaa-aaaa-aaaa-aaaaaaaaaaaa"

func reports(bootID string, status corev1.ConditionStatus, reason, message string) func(*corev1.Node) {
	return func(obj *corev1.Node) {
		obj.Status.NodeInfo.BootID = bootID
		obj.Status.Conditions = []corev1.NodeCondition{
			{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse},
			{Type: corev1.NodeReady, Status: status, Reason: reason, Message: message},
		}
	}
}

func TestGet(t *testing.T) {
	api := fakeapi.New(t)
	api.SetNode(cordoned{true, bootB}.put)
	api.SetNode(reports(bootADashed, corev1.ConditionTrue, "KubeletReady", ""))
	n := New(api.Client(), "n1", bootADashed)
	want := State{UID: "node-uid", Unschedulable: true, Mark: bootB, Ready: true, BootID: bootA}
	if got, err := n.Get(t.Context()); !reflect.DeepEqual(got, want) || err != nil {
		t.Errorf("Get = %+v, %v; want %+v", got, err, want)
	}
	api.SetNode(reports("rubbish", corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."))
	want = State{
		UID: "node-uid", Unschedulable: true, Mark: bootB, BootID: "rubbish",
		ReadyDetail: "Ready is Unknown: NodeStatusUnknown: Kubelet stopped posting node status.",
	}
	if got, err := n.Get(t.Context()); !reflect.DeepEqual(got, want) || err != nil {
		t.Errorf("Get = %+v, %v; want %+v", got, err, want)
	}
}

func TestPauseOf(t *testing.T) {
	for text, want := range map[string]string{"": "", " until=2026-12-01T00:00:00Z we\n\tmove\x1b ": "until=2026-12-01T00:00:00Z we move"} {
		obj := &corev1.Node{}
		if got := stateOf(obj).Pause; got != nil {
			t.Errorf("a pause out of nothing: %q", *got)
		}
		obj.Annotations = map[string]string{PauseAnnotation: text}
		if got := stateOf(obj).Pause; got == nil || *got != want {
			t.Errorf("%q: got %v, want %q", text, got, want)
		}
	}
}

// The way back after a boot: the API server is down, the old status still stands, the kubelet comes,
// its network is not there yet, and then all is well.
func TestAwaitReadyTellsTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		api.SetNode(reports(bootB, corev1.ConditionTrue, "", "")) // left over from the boot before
		var down atomic.Bool
		down.Store(true)
		api.Before = func(*http.Request) (*http.Response, error) {
			if down.Load() {
				return nil, errors.New("connection refused")
			}
			return nil, nil
		}
		go func() {
			time.Sleep(time.Minute)
			down.Store(false)
			time.Sleep(time.Minute)
			api.SetNode(reports(bootADashed, corev1.ConditionFalse, "KubeletNotReady", "network plugin\nnot ready"))
			time.Sleep(time.Minute)
			api.SetNode(reports(bootADashed, corev1.ConditionTrue, "KubeletReady", ""))
		}()
		var told []string
		err := New(api.Client(), "n1", bootA).AwaitReadyReport(t.Context(), func(s string) { told = append(told, s) })
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"the Node cannot be watched: list: Get \"http://api.invalid/api/v1/nodes?fieldSelector=metadata.name%3Dn1\": connection refused",
			fmt.Sprintf("the kubelet still reports boot id %s, this boot is %s", bootB, bootA),
			"Ready is False: KubeletNotReady: network plugin not ready",
		}
		if !slices.Equal(told, want) {
			t.Errorf("told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
		}
		if n := len(api.Requests("", "")); n > 15 {
			t.Errorf("%d requests, most of them to an API server that was down for a minute; want at most 15", n)
		}
	})
}

func TestAwaitReadySaysWhatIsMissingWhenItEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*corev1.Node)
		want string
	}{
		{"other boot, Ready", reports(bootB, corev1.ConditionTrue, "", ""), "still reports boot id " + bootB},
		{"this boot, not Ready", reports(bootA, corev1.ConditionFalse, "KubeletNotReady", "no runtime"), "Ready is False: KubeletNotReady: no runtime"},
		{"no condition", func(obj *corev1.Node) { obj.Status.NodeInfo.BootID = bootA }, "has not reported the condition Ready"},
		{"no boot id", reports("", corev1.ConditionTrue, "", ""), "has not reported a boot id"},
		{"no Node", nil, "no Node of this name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := fakeapi.New(t)
				if tt.set != nil {
					api.SetNode(tt.set)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := New(api.Client(), "n1", bootA).AwaitReadyReport(ctx, nil)
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("err = %v, want DeadlineExceeded with %q", err, tt.want)
				}
				if n := len(api.Requests("", "")); n != 2 {
					t.Errorf("%d requests, want a list and a watch", n)
				}
			})
		})
	}
}
