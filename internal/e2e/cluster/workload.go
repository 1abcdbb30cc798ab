package cluster

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// namespace of the workloads.
const namespace = metav1.NamespaceDefault

// Workload is a Deployment to be.
type Workload struct {
	Name     string
	Replicas int32
	// On pins the pods to one node; by default they spread over all.
	On string
	// StopAfter is how long each pod takes to stop. Default: at once.
	StopAfter time.Duration
	// MinAvailable, if not zero, makes a PodDisruptionBudget with it.
	MinAvailable int
}

// Deploy creates a workload and waits until all its pods run and, if there is a budget, until that is
// computed.
func (c *Cluster) Deploy(ctx context.Context, w Workload) error {
	if _, err := c.Client.AppsV1().Deployments(namespace).Create(ctx, w.deployment(), metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("deploy %s: %w", w.Name, err)
	}
	if w.MinAvailable != 0 {
		least := intstr.FromInt(w.MinAvailable)
		budget := &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Name: w.Name},
			Spec: policyv1.PodDisruptionBudgetSpec{
				MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: w.labels()},
			},
		}
		if _, err := c.Client.PolicyV1().PodDisruptionBudgets(namespace).Create(ctx, budget, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("budget %s: %w", w.Name, err)
		}
	}
	return c.AwaitRunning(ctx, w)
}

func (w Workload) labels() map[string]string { return map[string]string{"app": w.Name} }

func (w Workload) deployment() *appsv1.Deployment {
	grace := int64(w.StopAfter/time.Second) + 5
	skew := corev1.TopologySpreadConstraint{
		MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
		LabelSelector: &metav1.LabelSelector{MatchLabels: w.labels()},
	}
	pod := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      w.labels(),
			Annotations: map[string]string{standin.StopAfterAnnotation: w.StopAfter.String()},
		},
		Spec: corev1.PodSpec{
			Containers:                    []corev1.Container{{Name: "work", Image: "example.invalid/work:1"}},
			TerminationGracePeriodSeconds: &grace,
			TopologySpreadConstraints:     []corev1.TopologySpreadConstraint{skew},
		},
	}
	if w.On != "" {
		pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: w.On}
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: w.Name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &w.Replicas, Selector: &metav1.LabelSelector{MatchLabels: w.labels()}, Template: pod,
		},
	}
}

// AwaitRunning waits until all pods of a workload are ready and its budget, if any, is computed from them.
func (c *Cluster) AwaitRunning(ctx context.Context, w Workload) error {
	err := nodes.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		d, err := c.Client.AppsV1().Deployments(namespace).Get(ctx, w.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if d.Status.ObservedGeneration != d.Generation || d.Status.ReadyReplicas != w.Replicas || d.Status.Replicas != w.Replicas {
			return false, nil
		}
		if w.MinAvailable == 0 {
			return true, nil
		}
		b, err := c.Client.PolicyV1().PodDisruptionBudgets(namespace).Get(ctx, w.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return b.Status.ObservedGeneration == b.Generation && b.Status.CurrentHealthy == w.Replicas, nil
	})
	if err != nil {
		return fmt.Errorf("workload %s: %w", w.Name, err)
	}
	return nil
}

// Undeploy removes what is left of a workload and its budget and waits until its pods are gone.
func (c *Cluster) Undeploy(ctx context.Context, w Workload) error {
	if w.MinAvailable != 0 {
		err := c.Client.PolicyV1().PodDisruptionBudgets(namespace).Delete(ctx, w.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	foreground := metav1.DeletePropagationForeground
	err := c.Client.AppsV1().Deployments(namespace).Delete(ctx, w.Name, metav1.DeleteOptions{PropagationPolicy: &foreground})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return nodes.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		pods, err := c.Pods(ctx, w)
		return len(pods) == 0, err
	})
}

// Pods lists the pods of a workload.
func (c *Cluster) Pods(ctx context.Context, w Workload) ([]corev1.Pod, error) {
	list, err := c.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: w.labels()}),
	})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// SetCordon makes a node unschedulable, or schedulable, as a person does with kubectl.
func (c *Cluster) SetCordon(ctx context.Context, node string, cordon bool) error {
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%v}}`, cordon)
	_, err := c.Client.CoreV1().Nodes().Patch(ctx, node, "application/strategic-merge-patch+json", patch, metav1.PatchOptions{})
	return err
}
