package standin

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// version is what the stand-in claims to be, marked as what it is.
const version = "v1.37.1-standin"

// register creates the Node unless it is there, and learns from it whether this
// is another boot than the one it was reported by. As a real kubelet, it does
// this once: a Node that is deleted later comes back with the next start.
func (k *Kubelet) register(ctx context.Context) error {
	nodes := k.client.CoreV1().Nodes()
	node, err := nodes.Get(ctx, k.options.NodeName, metav1.GetOptions{})
	created := apierrors.IsNotFound(err)
	if created {
		labels := map[string]string{
			corev1.LabelHostname: k.options.NodeName, corev1.LabelOSStable: runtime.GOOS, corev1.LabelArchStable: runtime.GOARCH,
		}
		maps.Copy(labels, k.options.Labels)
		node, err = nodes.Create(ctx, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: k.options.NodeName, Labels: labels},
			Status:     k.status(false),
		}, metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	k.nodeUID = node.UID
	k.newBoot = created || node.Status.NodeInfo.BootID != k.options.BootID
	k.readySince = time.Now()
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue && k.options.ReadyAfter == 0 {
			k.readySince = c.LastTransitionTime.Time
		}
	}
	return nil
}

// keepStatus reports the status at every heartbeat, and when it changes. It
// does not look at the Node first, so that whatever somebody else made of the
// conditions lasts at most one heartbeat.
func (k *Kubelet) keepStatus(ctx context.Context, nodeReady chan<- struct{}) {
	for reported := false; ; {
		until := time.Until(k.started.Add(k.options.ReadyAfter))
		ready := until <= 0
		if ready && !reported && k.options.ReadyAfter > 0 {
			k.readySince = time.Now()
		}
		err := k.retry(ctx, "report the status", func(ctx context.Context) error { return k.reportStatus(ctx, ready) })
		if err == nil && ready && !reported {
			reported = true
			close(nodeReady)
		}
		wait := k.options.Heartbeat
		if !ready {
			wait = min(wait, max(until, time.Millisecond))
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

func (k *Kubelet) reportStatus(ctx context.Context, ready bool) error {
	patch, err := json.Marshal(map[string]any{"status": k.status(ready)})
	if err != nil {
		return done{err}
	}
	_, err = k.client.CoreV1().Nodes().PatchStatus(ctx, k.options.NodeName, patch)
	if apierrors.IsNotFound(err) {
		// Deleted. Not to be registered again before the next start.
		return done{err}
	}
	return err
}

// status is what a kubelet writes: conditions and addresses are merged by type,
// and so leave alone what others have put there.
func (k *Kubelet) status(ready bool) corev1.NodeStatus {
	heartbeat := metav1.Now()
	conditions := []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		Message: "the stand-in kubelet is posting ready status",
	}}
	if !ready {
		conditions[0].Status, conditions[0].Reason = corev1.ConditionFalse, "KubeletNotReady"
		conditions[0].Message = "the stand-in kubelet has just started"
	}
	for kind, reason := range map[corev1.NodeConditionType]string{
		corev1.NodeMemoryPressure: "KubeletHasSufficientMemory",
		corev1.NodeDiskPressure:   "KubeletHasNoDiskPressure",
		corev1.NodePIDPressure:    "KubeletHasSufficientPID",
	} {
		conditions = append(conditions, corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reason})
	}
	for i := range conditions {
		conditions[i].LastHeartbeatTime = heartbeat
		conditions[i].LastTransitionTime = metav1.NewTime(k.readySince)
	}
	resources := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("64"),
		corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods:   *resource.NewQuantity(k.options.MaxPods, resource.DecimalSI),
	}
	return corev1.NodeStatus{
		Capacity: resources, Allocatable: resources, Conditions: conditions,
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: k.options.NodeIP},
			{Type: corev1.NodeHostName, Address: k.options.NodeName},
		},
		NodeInfo: corev1.NodeSystemInfo{
			BootID: k.options.BootID, MachineID: strings.ReplaceAll(k.options.NodeName, "-", ""),
			KubeletVersion: version, ContainerRuntimeVersion: "standin://0", KernelVersion: "standin", OSImage: "standin",
			OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH,
		},
	}
}

// keepLease renews the node's Lease at every heartbeat.
func (k *Kubelet) keepLease(ctx context.Context) {
	leases := k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	var lease *coordinationv1.Lease // as we wrote it last
	renew := func(ctx context.Context) error {
		renewed := metav1.NowMicro()
		var err error
		if lease == nil {
			lease, err = leases.Get(ctx, k.options.NodeName, metav1.GetOptions{})
		}
		switch {
		case apierrors.IsNotFound(err):
			lease, err = leases.Create(ctx, k.newLease(renewed), metav1.CreateOptions{})
		case err == nil:
			lease.Spec.RenewTime = &renewed
			lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
		}
		if err != nil {
			lease = nil
			return fmt.Errorf("lease: %w", err)
		}
		return nil
	}
	for {
		// It fails only at the end.
		_ = k.retry(ctx, "renew the lease", renew)
		if !sleep(ctx, k.options.Heartbeat) {
			return
		}
	}
}

func (k *Kubelet) newLease(renewed metav1.MicroTime) *coordinationv1.Lease {
	seconds := int32(40)
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: k.options.NodeName, Namespace: corev1.NamespaceNodeLease,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: k.options.NodeName, UID: k.nodeUID}},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &k.options.NodeName, LeaseDurationSeconds: &seconds, RenewTime: &renewed},
	}
}
