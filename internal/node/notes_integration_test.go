package node_test

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/kured-host/kured/internal/node"
)

// What a release leaves on a real Node: the node itself finds the note with the kubelet's credential and takes it
// off, kubectl describe shows the Event, and another node's credential can do neither.
func TestNotesReal(t *testing.T) {
	l := plane.New(t, "notes")
	machine, other := l.Machine("one"), l.Machine("two")
	kured := kuredOn(t, l, machine)
	boot, err := node.NormalizeBootID(machine.BootID())
	l.Must(err)
	at := time.Now().Truncate(time.Second)
	notes := node.Notes{Client: l.Admin}

	if found, err := notes.Leave(t.Context(), machine.Name(), "alice", "it is broken", boot, at); !found || err != nil {
		t.Fatalf("Leave = %v, %v", found, err)
	}
	l.Must(notes.Record(t.Context(), machine.Name(), "lock released by alice: it is broken", at))

	got := stateOf(t, kured).Released
	if got == nil || got.By != "alice" || got.Why != "it is broken" || got.Boot != boot || !got.At.Equal(at) {
		t.Errorf("the node reads %+v", got)
	}
	// The question of kubectl describe node (its describeNode asks for the UID and for the name as UID).
	shown, err := l.Admin.CoreV1().Events("").SearchWithContext(t.Context(), scheme.Scheme,
		&corev1.ObjectReference{Kind: "Node", Name: machine.Name(), UID: types.UID(machine.Name())})
	l.Must(err)
	shown.Items = slices.DeleteFunc(shown.Items, func(e corev1.Event) bool { return e.Source.Component != "kured" })
	if len(shown.Items) != 1 || shown.Items[0].Type != "Warning" || shown.Items[0].Reason != "LockReleased" ||
		shown.Items[0].Message != "lock released by alice: it is broken" {
		t.Errorf("kubectl describe node shows %+v", shown.Items)
	}

	if changed, err := kured.Uncordon(t.Context(), ""); changed || err != nil {
		t.Errorf("Uncordon = %v, %v", changed, err)
	}
	if s := stateOf(t, kured); s.Released != nil {
		t.Errorf("the note is still there: %+v", s.Released)
	}
	l.Must(notes.Withdraw(t.Context(), machine.Name())) // nothing there

	stranger := node.Notes{Client: l.Kubelet(other, l.Name)}
	if _, err := stranger.Leave(t.Context(), machine.Name(), "system:node:two", "for fun", boot, at); !apierrors.IsForbidden(err) {
		t.Errorf("another node leaves a note: %v", err)
	}
	l.Must(machine.PowerOff())
	l.Must(l.Admin.CoreV1().Nodes().Delete(t.Context(), machine.Name(), metav1.DeleteOptions{}))
	if found, err := notes.Leave(t.Context(), machine.Name(), "alice", "it is gone", boot, at); found || err != nil {
		t.Errorf("Leave on no Node = %v, %v", found, err)
	}
	l.Must(notes.Record(t.Context(), machine.Name(), "lock released by alice: it is gone", at))
}
