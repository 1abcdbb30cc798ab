package node_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// LAW 3 on the real thing, with the kubelet's credential, while the real kubelet's writer changes the Node too.
func TestCordonReal(t *testing.T) {
	l := plane.New(t, "cordon")
	machine := l.Machine("one")
	kured := kuredOn(t, l, machine)
	boot, err := node.NormalizeBootID(machine.BootID())
	l.Must(err)

	expect := func(what string, got bool, err error, want bool, unschedulable bool, mark string) {
		t.Helper()
		if got != want || err != nil {
			t.Errorf("%s = %v, %v; want %v", what, got, err, want)
		}
		if s := stateOf(t, kured); s.Unschedulable != unschedulable || s.Mark != mark {
			t.Errorf("%s: then %+v; want unschedulable %v, mark %q", what, s, unschedulable, mark)
		}
	}
	got, err := kured.Cordon(t.Context())
	expect("cordon", got, err, true, true, boot)
	got, err = kured.Cordon(t.Context())
	expect("cordon again", got, err, true, true, boot)
	l.Person(machine.Name(), false)
	got, err = kured.Cordon(t.Context())
	expect("cordon after a person's uncordon", got, err, true, true, boot)
	got, err = kured.Uncordon(t.Context(), boot)
	expect("uncordon", got, err, true, false, "")
	got, err = kured.Uncordon(t.Context(), boot)
	expect("uncordon again", got, err, false, false, "")

	l.Person(machine.Name(), true)
	got, err = kured.Cordon(t.Context())
	expect("cordon under a person's cordon", got, err, false, true, "")
	got, err = kured.Uncordon(t.Context(), boot)
	expect("uncordon under a person's cordon", got, err, false, true, "")

	l.Person(machine.Name(), false)
	_, err = kured.Cordon(t.Context())
	l.Must(err)
	got, err = kured.Uncordon(t.Context(), strings.Repeat("0", 32))
	expect("uncordon what another boot cordoned", got, err, false, true, boot)

	_, err = l.Admin.CoreV1().Nodes().Patch(t.Context(), machine.Name(), types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"kured.dev/cordoned":"`+boot+`"}},"spec":{"unschedulable":null}}`), metav1.PatchOptions{})
	l.Must(err)
	got, err = kured.Uncordon(t.Context(), boot)
	expect("uncordon with only the mark left", got, err, true, false, "")
}

// Somebody writes the Node all the time: the precondition fails now and then, and the retries get through.
func TestCordonRealUnderConflicts(t *testing.T) {
	l := plane.New(t, "cordon-conflicts")
	machine := l.Machine("one")
	kured := kuredOn(t, l, machine)
	boot, err := node.NormalizeBootID(machine.BootID())
	l.Must(err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			patch := []byte(`{"metadata":{"annotations":{"example.com/n":"` + strings.Repeat("x", i%50) + `"}}}`)
			_, _ = l.Admin.CoreV1().Nodes().Patch(ctx, machine.Name(), types.MergePatchType, patch, metav1.PatchOptions{})
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for range 10 {
		if marked, err := kured.Cordon(t.Context()); !marked || err != nil {
			t.Errorf("Cordon = %v, %v", marked, err)
		}
		if changed, err := kured.Uncordon(t.Context(), boot); !changed || err != nil {
			t.Errorf("Uncordon = %v, %v", changed, err)
		}
	}
	cancel()
	<-done
}

func TestGetRealOfNoNode(t *testing.T) {
	l := plane.New(t, "no-node")
	machine := l.Machine("one")
	l.Must(machine.PowerOff())
	l.Must(l.Admin.CoreV1().Nodes().Delete(t.Context(), machine.Name(), metav1.DeleteOptions{}))
	if _, err := kuredOn(t, l, machine).Get(t.Context()); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("err = %v, want ErrNotFound", err)
	}
}

// Ready counts only with the boot id of this boot: right after a power cut the Node is still Ready from before.
func TestAwaitReadyReal(t *testing.T) {
	l := plane.New(t, "ready")
	machine := l.Machine("one")
	l.Must(machine.PowerOff())
	before, err := node.NormalizeBootID(machine.BootID())
	l.Must(err)
	client := l.Kubelet(machine, l.Name)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err = node.New(client, machine.Name(), standin.NewBootID()).AwaitReadyReport(ctx, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "still reports boot id "+before) {
		t.Errorf("before the kubelet came: %v", err)
	}
	if s := stateOf(t, node.New(client, machine.Name(), before)); !s.Ready {
		t.Errorf("the test shows nothing: the Node was not Ready any more")
	}

	l.Must(machine.PowerOn())
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var told []string
	kured := node.New(client, machine.Name(), machine.BootID())
	if err := kured.AwaitReadyReport(ctx, func(s string) { told = append(told, s) }); err != nil {
		t.Fatalf("%v; told %q", err, told)
	}
	after, err := node.NormalizeBootID(machine.BootID())
	l.Must(err)
	if s := stateOf(t, kured); !s.Ready || s.BootID != after || after == before {
		t.Errorf("state %+v, want Ready in boot %s, not %s", s, after, before)
	}
}
