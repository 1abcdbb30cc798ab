//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/status"
)

const (
	migrateBook = "kured_host.kured.migrate"
	oldLock     = "weave.works/kured-node-lock"
	oldHolder   = `{"nodeID":"node-b","metadata":{"unschedulable":false},"created":"2026-11-22T12:00:00Z","TTL":0}`
)

// migrantVars is what stays in the inventory: nothing of what the DaemonSet's flags say.
const migrantVars = `kured_package: "%s"
kured_cluster: true
kured_doctor: fail
kured_config_group:
  sentinel:
    settle: 200ms
  reboot:
    max_per_day: 48
`

// migrates moves the cluster, on which nothing of the new kured is, from the DaemonSet kured: first one node alone, which
// then goes on beside the DaemonSet, and then all. No container runs: the test does what the old kured would.
func (r *rollout) migrates(first *nodes.Node) {
	r.Helper()
	none := "---\n"
	r.must(r.control.Inventory(map[string]string{
		"group_vars/kured.yml": fmt.Sprintf(migrantVars, fmt.Sprintf(cluster.PackagePattern, cluster.Release)),
		"group_vars/web.yml":   none, "group_vars/gpu.yml": none,
	}))
	r.daemonSet()
	ctx, stop := context.WithCancel(r.ctx)
	done := make(chan struct{})
	go func() { defer close(done); r.letGo(ctx) }()
	r.run("the migration of one node", something, migrateBook, "--limit", first.Name, "-e", "kured_migrate_delete=false")
	stop()
	<-done

	set, err := r.oldKured()
	r.must(err)
	if args := set.Spec.Template.Spec.Containers[0].Args; !slices.Contains(args, "--reboot-days=") {
		r.Errorf("the DaemonSet could begin a reboot, with %q", args)
	}
	if set.Status.DesiredNumberScheduled != 2 {
		r.Errorf("the DaemonSet wants %d nodes", set.Status.DesiredNumberScheduled)
	}
	r.carriedOver(first, `daemonset = "kube-system/kured"`)
	r.holdOld(oldHolder)
	r.must(cluster.Want(first))
	r.waitsForRival(first)
	r.reboots(first, cluster.LockName, func() { r.holdOld(nil) })

	const older = "/var/cache/kured/kured_0.0.9_amd64.deb"
	r.must(first.WriteFile(older, nil, 0o644))
	const saved = cluster.InventoryDir + "/group_vars/all.yml"
	r.run("the migration", something, migrateBook, "-e", "kured_migrate_save="+saved)
	if set, err = r.oldKured(); !apierrors.IsNotFound(err) {
		r.Errorf("the DaemonSet is there: %v, %v", set, err)
	}
	pods, err := r.Client.CoreV1().Pods(cluster.LockNamespace).List(r.ctx, metav1.ListOptions{LabelSelector: "name=kured"})
	r.must(err)
	if len(pods.Items) > 0 {
		r.Errorf("%d pods of the DaemonSet are there", len(pods.Items))
	}
	if there, err := first.Exists(older); err != nil || there {
		r.Errorf("%s keeps the package of a version that it does not have (%v)", first.Name, err)
	}
	for _, n := range r.members {
		if toml := r.carriedOver(n); strings.Contains(toml, "compat") {
			r.Errorf("%s keeps what names the DaemonSet:\n%s", n.Name, toml)
		}
		node, err := r.Client.CoreV1().Nodes().Get(r.ctx, n.Name, metav1.GetOptions{})
		r.must(err)
		if _, labelled := node.Labels["kured.dev/migrated"]; labelled {
			r.Errorf("%s keeps the label", n.Name)
		}
	}
	r.play("the playbook site after it, with what was saved", nothing, "--diff")
}

// daemonSet deploys the DaemonSet kured, which holds its lock, and waits until it is on all nodes.
func (r *rollout) daemonSet() {
	r.Helper()
	labels := map[string]string{"name": "kured"}
	sets := r.Client.AppsV1().DaemonSets(cluster.LockNamespace)
	_, err := sets.Create(r.ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "kured", Annotations: map[string]string{oldLock: oldHolder}},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "kured", Image: "example.invalid/kubereboot/kured:1.23.0", Command: []string{"/usr/bin/kured"},
					Args: []string{"--concurrency=2", "--drain-timeout=7m", "--period=2s", "--lock-release-delay=1s"},
				}}},
			},
		},
	}, metav1.CreateOptions{})
	r.must(err)
	ctx, cancel := cluster.Within(r.ctx, time.Minute, "the pods of the DaemonSet")
	defer cancel()
	r.must(nodes.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		set, err := r.oldKured()
		return err == nil && int(set.Status.NumberReady) == len(r.members), err
	}))
}

func (r *rollout) oldKured() (*appsv1.DaemonSet, error) {
	return r.Client.AppsV1().DaemonSets(cluster.LockNamespace).Get(r.ctx, "kured", metav1.GetOptions{})
}

// holdOld writes the lock of the DaemonSet, or with nil gives it back.
func (r *rollout) holdOld(lock any) {
	r.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{oldLock: lock}}})
	r.must(err)
	_, err = r.Client.AppsV1().DaemonSets(cluster.LockNamespace).Patch(r.ctx, "kured", types.MergePatchType, patch, metav1.PatchOptions{})
	r.must(err)
}

// letGo does what the old kured does when its reboot is over: it gives its lock back, here once no day is left on which it
// could begin another one.
func (r *rollout) letGo(ctx context.Context) {
	for ctx.Err() == nil {
		set, err := r.oldKured()
		if err == nil && set.Annotations[oldLock] != "" && slices.Contains(set.Spec.Template.Spec.Containers[0].Args, "--reboot-days=") {
			r.holdOld(nil)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// carriedOver checks that a node's kured runs with the equal of the flags, and returns its configuration.
func (r *rollout) carriedOver(n *nodes.Node, more ...string) string {
	r.Helper()
	toml := r.config(n)
	for _, want := range append(more, "max_concurrent = 2", `timeout = "7m"`, `recheck = "2s"`, `release_delay = "1s"`, `settle = "200ms"`) {
		if !strings.Contains(toml, want+"\n") {
			r.Errorf("%s: no %q in\n%s", n.Name, want, toml)
		}
	}
	if state, err := n.UnitState(r.ctx, daemon); err != nil || state != "active" {
		r.Errorf("%s: %s is %s, %v", n.Name, daemon, state, err)
	}
	return toml
}

// waitsForRival waits until kured says that the DaemonSet's lock holds it up.
func (r *rollout) waitsForRival(n *nodes.Node) {
	r.Helper()
	ctx, cancel := cluster.Within(r.ctx, time.Minute, n.Name+" to wait for the DaemonSet")
	defer cancel()
	r.must(nodes.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		out, err := answer(ctx, n, "kured", "status", "-o", "json")
		if err != nil {
			return false, err
		}
		var now status.Status
		err = json.Unmarshal([]byte(out), &now)
		return now.Phase == status.Blocked && now.Reason == status.RivalHolds, err
	}))
}
