package doctor

import (
	"context"
	"strings"
	"sync"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Needs says for which of its rights kured has a use here.
type Needs struct {
	CountNodes bool // min_ready or a percent: without the list of Nodes nobody goes
	Force      bool // delete pods that a drain has not moved
	Volumes    bool // wait for volumes
	Conditions bool // of the Node
	Events     bool // on the Node
}

// right is one thing that kured does at the API server.
type right struct {
	verb, group, resource, subresource string
	namespace, name                    string
	field                              string // "key=value": the field selector that always goes with it
	level                              Level  // without it
	breaks                             string // what does not work without it
}

func (r right) String() string {
	what := r.resource
	if r.subresource != "" {
		what += "/" + r.subresource
	}
	if r.group != "" {
		what += "." + r.group
	}
	where := strings.Trim(r.namespace+"/"+r.name, "/")
	if r.field != "" {
		where = "with " + r.field
	}
	return strings.TrimSpace(r.verb + " " + what + " " + where)
}

// rights is all that kured does at the API server, beside telling who it is.
func (c *Cluster) rights() []right {
	node, ns := c.Node, c.Lock.Namespace
	own, onNode := "metadata.name="+node, "spec.nodeName="+node
	all := []right{
		{verb: "get", resource: "configmaps", namespace: ns, name: c.Lock.Name, level: Fail, breaks: "the node cannot see the lock and never reboots"},
		{verb: "watch", resource: "configmaps", namespace: ns, name: c.Lock.Name, level: Fail, breaks: "a node that waits does not see when it is its turn"},
		{verb: "patch", resource: "configmaps", namespace: ns, name: c.Lock.Name, level: Fail, breaks: "the node cannot take the lock and never reboots"},
	}
	if c.Lock.PolicyName != "" {
		all = append(all, right{verb: "get", resource: "configmaps", namespace: ns, name: c.Lock.PolicyName, level: Fail,
			breaks: "whether the cluster is paused is not known, so the node never reboots"})
	}
	all = append(all,
		right{verb: "get", resource: "nodes", name: node, level: Fail, breaks: "the node does not know itself and never reboots"},
		right{verb: "patch", resource: "nodes", name: node, level: Fail, breaks: "the node cannot be cordoned"},
		right{verb: "list", resource: "nodes", field: own, level: Fail, breaks: "after a reboot the node is not seen to be Ready, and stays cordoned"},
		right{verb: "watch", resource: "nodes", field: own, level: Fail, breaks: "after a reboot the node is not seen to be Ready, and stays cordoned"},
		right{verb: "get", resource: "nodes", level: Warning, breaks: "an entry of a node that is gone stays in the lock until a person removes it"})
	list := right{verb: "list", resource: "nodes", level: Warning, breaks: "nodes that are down anyway do not count"}
	if c.Needs.CountNodes {
		list.level, list.breaks = Fail, "the nodes cannot be counted, as lock.min_ready or a percent asks, and nobody reboots"
	}
	all = append(all, list,
		right{verb: "list", resource: "pods", field: onNode, level: Fail, breaks: "the node cannot be drained"},
		right{verb: "watch", resource: "pods", field: onNode, level: Fail, breaks: "a drain does not see pods go"},
		right{verb: "create", resource: "pods", subresource: "eviction", level: Fail, breaks: "the node cannot be drained"},
		right{verb: "get", group: "apps", resource: "daemonsets", level: Fail, breaks: "a drain cannot tell pods of DaemonSets, which stay, from others"})
	if c.Needs.Force {
		all = append(all, right{verb: "delete", resource: "pods", level: Fail, breaks: `what a drain has not moved in time cannot be deleted, as drain.on_timeout = "force" asks`})
	}
	if c.Needs.Volumes && !c.kubelet() { // which may read those of its own pods only, each by its name
		for _, kind := range []string{"persistentvolumeclaims", "persistentvolumes"} {
			all = append(all, right{verb: "get", resource: kind, level: Warning, breaks: "volumes of pods that stay are waited for, too, as long as drain.wait_for_volumes says"})
		}
	}
	if c.Needs.Conditions {
		all = append(all, right{verb: "patch", resource: "nodes", subresource: "status", name: node, level: Warning, breaks: "the Node does not show the conditions that node.conditions asks for"})
	}
	if c.Needs.Events {
		for _, verb := range []string{"create", "patch"} {
			all = append(all, right{verb: verb, resource: "events", namespace: metav1.NamespaceDefault, level: Warning, breaks: `"kubectl describe node" does not tell what kured does`})
		}
	}
	return all
}

// Rights asks for each right of kured's whether it has it, by a
// SelfSubjectAccessReview.
func (c *Cluster) Rights(ctx context.Context) []Finding {
	all := c.rights()
	found := make([]Finding, len(all))
	var asked sync.WaitGroup
	for i, r := range all {
		asked.Go(func() { found[i] = c.may(ctx, r) })
	}
	asked.Wait()
	return found
}

func (c *Cluster) may(ctx context.Context, r right) Finding {
	attributes := &authorizationv1.ResourceAttributes{
		Verb: r.verb, Group: r.group, Version: "v1", Resource: r.resource, Subresource: r.subresource, Namespace: r.namespace, Name: r.name,
	}
	if key, value, ok := strings.Cut(r.field, "="); ok {
		// API servers before 1.31 do not know of it, and judge without it.
		attributes.FieldSelector = &authorizationv1.FieldSelectorAttributes{
			Requirements: []metav1.FieldSelectorRequirement{{Key: key, Operator: metav1.FieldSelectorOpIn, Values: []string{value}}},
		}
		if key == "metadata.name" {
			attributes.Name = value // as the API server makes of this selector
		}
	}
	review, err := c.Client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
		&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes}}, metav1.CreateOptions{})
	switch {
	case err != nil:
		return warn("", "%s: cannot be asked: %v", r, err)
	case review.Status.Allowed:
		return ok("%s", r)
	}
	f := fail(c.manifests(), "%s is not allowed: %s", r, r.breaks)
	f.Level = r.level
	return f
}

// manifests is the command that gives what is missing.
func (c *Cluster) manifests() string {
	command := "kured manifests"
	if !c.kubelet() {
		command += " --identity dedicated"
	}
	if c.Lock.Namespace == defaultNamespace && c.Lock.Name == defaultLock && (c.Lock.PolicyName == defaultPolicy || c.Lock.PolicyName == "") {
		return command + " | kubectl apply --server-side -f -"
	}
	return command + " with the names of all locks of the cluster (--namespace, --name, --policy, --pool) | kubectl apply --server-side -f -"
}
