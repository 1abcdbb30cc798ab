package drain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/mirror"
	"github.com/kured-host/kured/internal/status"
)

// Volumes is what keeps AwaitDetached waiting.
type Volumes struct {
	// Attached are the volumes that have to go and have not, by name as in the Node's status.
	Attached []string
	// Trouble is why it is not known whether there are others, empty if it is.
	Trouble string
}

// String names the first three volumes.
func (v Volumes) String() string {
	s := ""
	if len(v.Attached) > 0 {
		s = status.Count(len(v.Attached), "volume") + " still attached: " + status.FirstThree(v.Attached, "volume")
	}
	if v.Trouble != "" {
		if s != "" {
			s += "; "
		}
		s += v.Trouble
	}
	return s
}

// Gone reports whether no volume has to go any more.
func (v Volumes) Gone() bool { return len(v.Attached) == 0 && v.Trouble == "" }

func (v Volumes) same(w Volumes) bool {
	return slices.Equal(v.Attached, w.Attached) && v.Trouble == w.Trouble
}

// AwaitDetached waits until no volume is attached to the Node, or mounted on it, that does not belong to a pod
// which stays: volumesAttached and volumesInUse of the Node's status, by a watch of the Node. It belongs after a
// drain: a volume that is still attached when the machine goes down may not be attached elsewhere until
// it is back, or for six minutes (the attach/detach controller's force detach).
//
// A pod that stays is any that is here and is not being deleted: of a DaemonSet, static, or not selected by the
// drain. Which volumes they have is told by their claims and PersistentVolumes, which a kubelet may read; only
// those of CSI drivers are recognized, others that stay are waited for. The pods are listed once, when the
// first volume is seen.
//
// limit is a patience, not a condition: when it is over AwaitDetached returns what is left and no error, and the
// caller tells it and goes on with the reboot. Zero and less: it returns at once, and asks nobody. The error is
// that of ctx when it ends. An API server that does not answer is waited for like a volume.
//
// report, if not nil, is called from this goroutine with what is left, after the first answer or failure
// and each time it changes.
func (p *Pods) AwaitDetached(ctx context.Context, limit time.Duration, report func(Volumes)) (Volumes, error) {
	if limit <= 0 {
		return Volumes{}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errPatience)
	nodes := mirror.OfNode(p.client, p.node)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		nodes.Run(ctx)
	}()
	defer func() { cancel(); <-followed }()

	var left Volumes
	var staying map[string]bool // nil: not known yet
	for told := false; ; {
		objs, synced, trouble := nodes.Snapshot()
		var again <-chan time.Time
		if staying == nil && len(volumesOf(objs)) > 0 {
			var err error
			if staying, err = p.volumesThatStay(ctx); err != nil {
				again = time.After(volumesRetry)
				trouble = cmp.Or(trouble, err)
			}
		}
		now := volumesLeft(objs, staying, synced, trouble)
		if answered := synced || trouble != nil; answered && report != nil && !(told && now.same(left)) {
			told = true
			report(now)
		}
		left = now
		if left.Gone() {
			return left, nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errPatience) {
				return left, nil
			}
			return left, fmt.Errorf("wait until volumes are detached: %s: %w", left, context.Cause(ctx))
		case <-again:
		case <-nodes.Changed():
		}
	}
}

// volumesRetry is the wait before the pods are listed again, when that failed.
const volumesRetry = 5 * time.Second

// errPatience is the end of AwaitDetached's own limit.
var errPatience = errors.New("the patience is over")

// volumesLeft is the rule.
func volumesLeft(nodes []*corev1.Node, staying map[string]bool, synced bool, trouble error) Volumes {
	var v Volumes
	for _, name := range volumesOf(nodes) {
		if !staying[name] {
			v.Attached = append(v.Attached, status.Clean(name, maxDetail))
		}
	}
	switch {
	case trouble != nil:
		v.Trouble = "the volumes cannot be told: " + status.Clean(trouble.Error(), maxDetail)
	case !synced:
		v.Trouble = "the API server has not answered yet"
	case len(nodes) == 0:
		v.Trouble = "the cluster has no Node of this name"
	}
	return v
}

// volumesOf returns the volumes that a Node says it has, each once, sorted.
func volumesOf(nodes []*corev1.Node) []string {
	var names []string
	for _, obj := range nodes {
		for _, name := range obj.Status.VolumesInUse {
			names = append(names, string(name))
		}
		for _, volume := range obj.Status.VolumesAttached {
			names = append(names, string(volume.Name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// volumesThatStay returns the volumes of the pods that stay, by name as in the Node's status. A claim that
// is not there, or may not be read, counts for nothing: its volume is waited for.
func (p *Pods) volumesThatStay(ctx context.Context) (map[string]bool, error) {
	pods, err := p.podsNow(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, claim := range claimsOf(pod) {
			name, err := p.volumeOf(ctx, pod.Namespace, claim)
			switch {
			case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
			case err != nil:
				return nil, fmt.Errorf("volume of claim %s/%s: %w", pod.Namespace, claim, err)
			case name != "":
				names[name] = true
			}
		}
	}
	return names, nil
}

// claimsOf returns the names of the PersistentVolumeClaims that a pod uses.
func claimsOf(pod *corev1.Pod) []string {
	var claims []string
	for _, volume := range pod.Spec.Volumes {
		switch {
		case volume.PersistentVolumeClaim != nil:
			claims = append(claims, volume.PersistentVolumeClaim.ClaimName)
		case volume.Ephemeral != nil:
			claims = append(claims, pod.Name+"-"+volume.Name)
		}
	}
	return claims
}

// volumeOf returns the name, as in the Node's status, of the CSI volume that a claim is bound to: GetVolumeName of
// pkg/volume/csi and GetUniqueVolumeName of pkg/volume/util in Kubernetes. Empty: it is bound to none.
func (p *Pods) volumeOf(ctx context.Context, namespace, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	claim, err := p.client.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil || claim.Spec.VolumeName == "" {
		return "", err
	}
	volume, err := p.client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
	if err != nil || volume.Spec.CSI == nil {
		return "", err
	}
	return "kubernetes.io/csi/" + volume.Spec.CSI.Driver + "^" + volume.Spec.CSI.VolumeHandle, nil
}
