package node_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
)

// With the kubelet's credential, beside the kubelet that writes the same Node: the annotation is replaced in one request,
// what another process of kured's wrote is not lost, and kubectl describe node tells the story.
func TestChronicleReal(t *testing.T) {
	l := plane.New(t, "chronicle")
	machine := l.Machine("one")
	kured := kuredOn(t, l, machine)
	boot, err := node.NormalizeBootID(machine.BootID())
	l.Must(err)
	began := time.Now()
	daemon := node.Chronicle{Node: kured, Annotate: true, Recorder: &node.Recorder{}, Version: "1"}
	return_ := daemon
	at := func(phase status.Phase, reason status.Reason, detail string) status.Status {
		return status.Status{Phase: phase, Reason: reason, Detail: detail, Since: time.Now(), Boot: boot}
	}
	known, err := daemon.Announce(t.Context(), at(status.Idle, "", ""), time.Time{}, stateOf(t, kured).Announced)
	l.Must(err)
	for range 3 {
		for _, s := range []status.Status{at(status.Queued, status.LockFull, "held by node-b"), at(status.Draining, "", "1 of 2 pods gone")} {
			known, err = daemon.Announce(t.Context(), s, time.Time{}, known)
			l.Must(err)
			l.Must(daemon.Record(t.Context(), s))
		}
	}
	writes := l.Requests(began, func(r testenv.Request) bool { return r.Verb != "get" && r.Resource == "nodes" })
	if len(writes) != 7 {
		t.Errorf("%d writes of the Node for 7 changes: %v", len(writes), writes)
	}
	if got := stateOf(t, kured).Announced; got != known || !strings.Contains(got, `"draining"`) {
		t.Errorf("announced %s, known %s", got, known)
	}
	_, err = return_.Announce(t.Context(), at(status.Idle, "", ""), time.Now(), known)
	l.Must(err)
	if _, err = daemon.Announce(t.Context(), at(status.Blocked, status.OutsideWindow, ""), time.Time{}, known); err != nil {
		t.Errorf("on top of another process's: %v", err)
	}
	if a, err := node.ParseAnnouncement(stateOf(t, kured).Announced); err != nil || a.Phase != status.Blocked || time.Since(a.Rebooted) > time.Hour {
		t.Errorf("after two processes: %+v, %v", a, err)
	}
	// The annotation is gone meanwhile.
	_, err = l.Admin.CoreV1().Nodes().Patch(t.Context(), machine.Name(), types.MergePatchType, []byte(`{"metadata":{"annotations":{"kured.dev/status":null}}}`), metav1.PatchOptions{})
	l.Must(err)
	if _, err := daemon.Announce(t.Context(), at(status.Idle, "", ""), time.Time{}, known); err != nil || !strings.Contains(stateOf(t, kured).Announced, `"idle"`) {
		t.Errorf("after somebody removed it: %v", err)
	}

	shown, err := l.Admin.CoreV1().Events("").SearchWithContext(t.Context(), scheme.Scheme,
		&corev1.ObjectReference{Kind: "Node", Name: machine.Name(), UID: types.UID(machine.Name())})
	l.Must(err)
	var told []string
	for _, e := range shown.Items {
		if e.Source.Component == "kured" && e.Source.Host == machine.Name() && e.Count == 3 {
			told = append(told, e.Type+" "+e.Reason+" "+e.Message)
		}
	}
	slices.Sort(told)
	if want := []string{"Normal Draining draining: 1 of 2 pods gone", "Normal LockFull queued: held by node-b"}; !slices.Equal(told, want) {
		t.Errorf("kubectl describe node shows %q, want %q of %+v", told, want, shown.Items)
	}
}
