package drain_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/lab"
)

func priorityClass(name string) *schedulingv1.PriorityClass {
	return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: 1000}
}

// With the kubelet's credential: a budget that is used up refuses the dry run and is named with its numbers; one
// that lets one pod go lets each of its two go, and the report says that it may be so. Nothing is written.
func TestPreflightReal(t *testing.T) {
	l := plane.New(t, "preflight")
	one := l.Machine("one")
	l.Deployment("full", 2, nil)
	l.Deployment("tight", 2, nil)
	l.DaemonSet("agent")
	l.MirrorPod("static", one)
	l.Pod("dns", one.Name(), func(pod *corev1.Pod) { pod.Spec.PriorityClassName = "system-node-critical" })
	l.Running(one.Name(), 7)
	l.Budget("full-budget", "full", 2)
	l.Budget("tight-budget", "tight", 1)
	versions := func() (all []string) {
		for _, pod := range l.PodsOn(one.Name()) {
			all = append(all, pod.Name+" "+pod.ResourceVersion)
		}
		budgets, err := l.Admin.PolicyV1().PodDisruptionBudgets(l.Name).List(t.Context(), metav1.ListOptions{})
		l.Must(err)
		for _, b := range budgets.Items {
			all = append(all, b.Name+" "+b.ResourceVersion)
		}
		return all
	}
	kured := kuredOn(t, l, one)
	before, begun := versions(), time.Now()
	report, err := kured.Preflight(t.Context(), drain.Options{GracePeriod: -1})
	l.Must(err)
	if after := versions(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("something was written:\n%v\n%v", before, after)
	}

	if len(report.Tiers) != 2 || len(report.Tiers[0].Pods) != 4 || len(report.Tiers[1].Pods) != 1 || report.Tiers[1].Pods[0] != l.Name+"/dns" {
		t.Errorf("tiers %v", report.Tiers)
	}
	if len(report.Held) != 2 || len(report.Refused) != 0 || len(report.Unknown) != 0 || len(report.Staying) != 2 {
		t.Errorf("report %s", report)
	}
	for _, h := range report.Held {
		if h.Why != drain.WhyBudget || h.Budget != "full-budget" || h.Detail != "needs 2 healthy, has 2" || !strings.HasPrefix(h.Name, "full-") {
			t.Errorf("held %s", h)
		}
	}
	if len(report.Together) != 1 || !strings.HasPrefix(report.Together[0], "2 pods of ReplicaSet "+l.Name+"/tight-") {
		t.Errorf("together %v", report.Together)
	}
	if err := report.Err(); err == nil || !strings.Contains(err.Error(), "PodDisruptionBudget "+l.Name+"/full-budget") {
		t.Errorf("Err() = %v", err)
	}
	if n := len(l.Requests(begun, lab.IsEviction)); n != 5 {
		t.Errorf("%d dry runs, want 5", n)
	}
	if others := l.Requests(begun, func(r testenv.Request) bool { return !lab.IsEviction(r) }); len(others) != 2 { // list, one DaemonSet
		t.Errorf("requests beside the dry runs: %v", others)
	}
}

// The volumes of the pods that stay are told by their claims with the kubelet's credential; the others are waited for.
func TestAwaitDetachedReal(t *testing.T) {
	l := plane.New(t, "volumes")
	one := l.Machine("one")
	class := ""
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	_, err := l.Admin.CoreV1().PersistentVolumes().Create(t.Context(), &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: l.Name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "disk.example.com", VolumeHandle: "vol-1"}},
		},
	}, metav1.CreateOptions{})
	l.Must(err)
	_, err = l.Admin.CoreV1().PersistentVolumeClaims(l.Name).Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, VolumeName: l.Name, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: size},
		},
	}, metav1.CreateOptions{})
	l.Must(err)
	l.Until("the claim is bound", func() bool {
		claim, err := l.Admin.CoreV1().PersistentVolumeClaims(l.Name).Get(t.Context(), "data", metav1.GetOptions{})
		return err == nil && claim.Status.Phase == corev1.ClaimBound
	})
	l.Pod("store", one.Name(), func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
		}}}
	})
	l.Running(one.Name(), 1)
	kubelet := l.Kubelet(one, "kubelet")
	l.Until("the kubelet may read the volume", func() bool {
		_, err := kubelet.CoreV1().PersistentVolumes().Get(t.Context(), l.Name, metav1.GetOptions{})
		return err == nil
	})

	status := func(volumes ...string) {
		attached, inUse := []string{}, []string{}
		for _, v := range volumes {
			inUse = append(inUse, fmt.Sprintf("%q", v))
			attached = append(attached, fmt.Sprintf(`{"name":%q,"devicePath":""}`, v))
		}
		_, err := l.Admin.CoreV1().Nodes().Patch(t.Context(), one.Name(), types.MergePatchType, fmt.Appendf(nil,
			`{"status":{"volumesInUse":[%s],"volumesAttached":[%s]}}`, strings.Join(inUse, ","), strings.Join(attached, ",")),
			metav1.PatchOptions{}, "status")
		l.Must(err)
	}
	const stays, goes = "kubernetes.io/csi/disk.example.com^vol-1", "kubernetes.io/csi/disk.example.com^vol-2"
	status(stays, goes)
	kured := kuredOn(t, l, one)
	left, err := kured.AwaitDetached(t.Context(), 2*time.Second, nil)
	if err != nil || left.String() != "1 volume still attached: "+goes {
		t.Errorf("after its patience: %q, %v", left, err)
	}
	var told []string
	left, err = kured.AwaitDetached(t.Context(), time.Minute, func(v drain.Volumes) {
		if told = append(told, v.String()); len(told) == 1 {
			status(stays)
		}
	})
	if err != nil || !left.Gone() || len(told) != 2 || told[0] != "1 volume still attached: "+goes {
		t.Errorf("%q, %v; told %q", left, err, told)
	}
}
