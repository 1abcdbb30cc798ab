package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
)

// Longest value of an annotation that is put on, in bytes: it is written down a second time in DressedAnnotation.
const maxValue = 1024

// NamesError is why labels, annotations or a taint cannot be written as they are configured.
type NamesError struct {
	Problems []string // each of them names a key of kured.toml, what is wrong there, and why
}

func (e *NamesError) Error() string { return strings.Join(e.Problems, "; ") }

// Permanent says that only another configuration can help.
func (e *NamesError) Permanent() bool { return true }

// CheckDress finds what the API server would refuse of a Dress and of the key of the waiting taint ("" for none), so that it
// is told at the start and not when the node holds the lock. kubelet says that kured uses a kubelet's credential
// (system:node:NAME): then the rules of NodeRestriction count, too. What an admission policy of the cluster refuses beside,
// as that of packaging/kubernetes/identity.yaml does for identities of kured's own, cannot be known here. The error is a
// *NamesError with all that is wrong.
func CheckDress(d Dress, waitingTaint string, kubelet bool) error {
	var problems []string
	wrong := func(where, key, why string) {
		problems = append(problems, fmt.Sprintf("%s: %q: %s", where, key, why))
	}
	sample := filler{time.Unix(0, 0), strings.Repeat("0", 32), "x"}
	labels := func(where string, all map[string]string) {
		for _, key := range sortedKeys(all) {
			if errs := content.IsLabelKey(key); len(errs) > 0 {
				wrong(where, key, "not the name of a label: "+errs[0])
				continue
			}
			if kubelet && !kubeletMayLabel(key) {
				wrong(where, key, labelRefused)
			}
			if key == corev1.LabelNodeExcludeBalancers && d.ExcludeFromLoadBalancers {
				wrong(where, key, "node.exclude_from_load_balancers sets this label")
			}
			if errs := content.IsLabelValue(sample.plain(all[key])); len(errs) > 0 {
				wrong(where, key, fmt.Sprintf("%q cannot be the value of a label: %s", all[key], errs[0]))
			}
		}
	}
	annotations := func(where string, all map[string]string) {
		for _, key := range sortedKeys(all) {
			switch errs := content.IsLabelKey(strings.ToLower(key)); { // as the API server does
			case len(errs) > 0:
				wrong(where, key, "not the name of an annotation: "+errs[0])
			case slices.Contains([]string{MarkAnnotation, DressedAnnotation, ReleasedAnnotation, PauseAnnotation, StatusAnnotation}, key):
				wrong(where, key, "kured uses this annotation itself")
			case len(all[key]) > maxValue:
				wrong(where, key, fmt.Sprintf("longer than %d bytes", maxValue))
			}
		}
	}
	labels("node.labels_before", d.LabelsBefore)
	labels("node.labels_after", d.LabelsAfter)
	annotations("node.annotations_before", d.AnnotationsBefore)
	annotations("node.annotations_after", d.AnnotationsAfter)
	if waitingTaint != "" {
		if errs := content.IsLabelKey(waitingTaint); len(errs) > 0 {
			wrong("node.waiting_taint", waitingTaint, "not the name of a taint: "+errs[0])
		} else if kubelet {
			wrong("node.waiting_taint", waitingTaint, taintRefused)
		}
	}
	if len(problems) > 0 {
		return &NamesError{problems}
	}
	return nil
}

const (
	labelRefused = "with a kubelet's credential the API server refuses this label (NodeRestriction): of kubernetes.io and k8s.io a " +
		"kubelet may write only kubelet.kubernetes.io/, node.kubernetes.io/ and some that it reports; use a name of your own domain, " +
		"or give kured an identity of its own"
	taintRefused = "with a kubelet's credential the API server refuses to change taints (NodeRestriction); " +
		"leave it empty, or give kured an identity of its own"
)

// kubeletMayLabel reports whether NodeRestriction lets a kubelet add, change and remove this label of its own Node: the rule
// of getForbiddenLabels in k8s.io/kubernetes/plugin/pkg/admission/noderestriction/admission.go (v1.37), with the list of
// KubeletLabels in k8s.io/kubelet/pkg/apis/well_known_labels.go (v0.37). Domains count with all below them.
func kubeletMayLabel(key string) bool {
	domain, _, prefixed := strings.Cut(key, "/")
	if !prefixed {
		return true
	}
	within := func(parents ...string) bool {
		return slices.ContainsFunc(parents, func(parent string) bool {
			return domain == parent || strings.HasSuffix(domain, "."+parent)
		})
	}
	switch {
	case within(corev1.LabelNamespaceNodeRestriction):
		return false
	case !within("kubernetes.io", "k8s.io"), within(corev1.LabelNamespaceSuffixKubelet, corev1.LabelNamespaceSuffixNode):
		return true
	}
	return slices.Contains([]string{
		corev1.LabelHostname,
		corev1.LabelTopologyZone, corev1.LabelTopologyRegion,
		corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
		corev1.LabelInstanceType, corev1.LabelInstanceTypeStable,
		corev1.LabelOSStable, corev1.LabelArchStable,
		"beta.kubernetes.io/os", "beta.kubernetes.io/arch",
	}, key)
}
