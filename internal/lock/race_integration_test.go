package lock_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/lock/locktest"
)

// A hundred nodes, each with its own credential and connection, want the lock
// at the same instant, with the shipped rights and admission policies; a
// witness sees every version. make bench does the same with a thousand.
func TestRaceOnTheRealServer(t *testing.T) {
	realLock(t)
	wall(t)
	const (
		nodes = 100
		pool  = "kured.test/race"
	)
	shared := lock.ConfigMap{Namespace: "kube-system", Name: "kured-lock", PolicyName: "kured-policy"}
	var locks []*lock.Lock
	for i := range nodes {
		name := fmt.Sprintf("racer-%03d", i)
		uid := addNode(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{pool: ""}}}, corev1.ConditionTrue)
		own := shared
		own.Client = asNode(t, name)
		pace := lock.DefaultPace()
		pace.Opening, pace.Outside, pace.OutsideMax = 500*time.Millisecond, time.Second, 2*time.Second
		locks = append(locks, &lock.Lock{
			Store: own, Rules: own, Fleet: lock.Nodes{Client: own.Client, Selector: pool}, Pace: pace,
			Node: name, UID: uid, Boot: bootA, MinReady: intstr.FromString("50%"), CountUnavailable: true, Room: 8,
		})
	}
	listed(t, lock.Nodes{Client: asNode(t, "node-a"), Selector: pool}, nodes)
	witness := shared
	witness.Client = plane.Admin()
	for _, limit := range []int{1, 3, 10} {
		t.Run(fmt.Sprintf("limit %d", limit), func(t *testing.T) {
			for _, l := range locks {
				l.Max = intstr.FromInt(limit)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			got, err := locktest.Race{Witness: witness, Locks: locks, Hold: time.Duration(limit) * 50 * time.Millisecond, Crowd: limit}.Run(ctx)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s for %d versions, %d writes, %d of them conflicts, %d reads", got.Took.Round(time.Millisecond), got.Versions, got.Writes, got.Conflicts, got.Reads)
			if got.Most != limit || got.Inside > limit {
				t.Errorf("up to %d nodes held, up to %d by their own belief; the limit is %d", got.Most, got.Inside, limit)
			}
			if len(got.Missed) > 0 || got.Versions < 3*nodes {
				t.Errorf("of %d versions, some went by the witness or by nobody: %v", got.Versions, got.Missed)
			}
			if len(got.Trouble) > 0 {
				t.Errorf("nodes were told: %v", got.Trouble)
			}
			for _, l := range locks {
				if got.Turns[l.Node] != 1 {
					t.Errorf("%s had %d turns", l.Node, got.Turns[l.Node])
				}
			}
		})
	}
}

// wall applies the shipped admission policies for one test.
func wall(t *testing.T) {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join("..", "..", "packaging", "kubernetes", "wall.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Apply(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
	store := lock.ConfigMap{Client: asNode(t, "node-a"), Namespace: "kube-system", Name: "kured-lock"}
	await := func(want bool) {
		t.Helper()
		for until := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			got, err := store.Enforced(context.WithoutCancel(t.Context()), "node-a")
			if err == nil && got == want {
				return
			}
			if time.Now().After(until) {
				t.Fatalf("the wall is there: %t, %v; want %t", got, err, want)
			}
		}
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		ours := metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=kured"}
		admission := plane.Admin().AdmissionregistrationV1()
		if err := admission.ValidatingAdmissionPolicyBindings().DeleteCollection(ctx, metav1.DeleteOptions{}, ours); err != nil {
			t.Error(err)
		}
		if err := admission.ValidatingAdmissionPolicies().DeleteCollection(ctx, metav1.DeleteOptions{}, ours); err != nil {
			t.Error(err)
		}
		await(false)
	})
	await(true)
}
