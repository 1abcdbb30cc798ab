package kubernetes_test

import (
	"strings"
	"testing"
)

var dedicated = []string{byCertificate, byToken}

// attacksOnNodes write Nodes: others', or more of the own than is kured's.
func attacksOnNodes() []attack {
	patch := func(name, path, body string, as ...string) attack {
		return attack{name: name, as: as, request: request{method: "PATCH", path: nodesPath + path, media: mergePatch, body: body}}
	}
	mark := request{method: "PATCH", path: nodesPath + "node-a", media: mergePatch,
		body: `{"metadata":{"annotations":{"kured.dev/cordoned":"` + strings.Repeat("a", 32) + `"}}}`}
	return []attack{
		patch("cordon another node", "node-b", `{"spec":{"unschedulable":true}}`),
		patch("uncordon another node", "node-b", `{"spec":{"unschedulable":null}}`),
		patch("set kured's mark on another node", "node-b", `{"metadata":{"annotations":{"kured.dev/cordoned":"`+strings.Repeat("a", 32)+`"}}}`),
		patch("tell another node that it was released", "node-b", `{"metadata":{"annotations":{"kured.dev/released":"{}"}}}`),
		patch("say that another node is ready", "node-b/status", `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`),
		patch("set the boot id of another node", "node-b/status", `{"status":{"nodeInfo":{"bootID":"another"}}}`),
		patch("say that the own node is ready", "node-a/status", `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`, dedicated...),
		patch("taint the own node", "node-a", `{"spec":{"taints":[{"key":"kured.dev/x","effect":"NoSchedule"}]}}`),
		patch("take off all taints of the own node", "node-a", `{"spec":{"taints":null}}`),
		patch("taint the own node softly for somebody else", "node-a", `{"spec":{"taints":[{"key":"example.org/x","effect":"PreferNoSchedule"}]}}`),
		patch("taint the own node softly with a value", "node-a", `{"spec":{"taints":[{"key":"kured.dev/x","value":"y","effect":"PreferNoSchedule"}]}}`),
		patch("taint another node softly", "node-b", `{"spec":{"taints":[{"key":"kured.dev/x","effect":"PreferNoSchedule"}]}}`),
		patch("say that another node is drained", "node-b/status", `{"status":{"conditions":[{"type":"Drained","status":"True"}]}}`),
		patch("set the boot id of the own node", "node-a/status", `{"status":{"nodeInfo":{"bootID":"another"}}}`, dedicated...),
		patch("say that the own node is drained and ready", "node-a/status",
			`{"status":{"conditions":[{"type":"Drained","status":"True"},{"type":"Ready","status":"True"}]}}`, dedicated...),
		patch("label the own node by a write of its status", "node-a/status", `{"metadata":{"labels":{"example.org/x":"y"}}}`, dedicated...),
		patch("claim a provider's id for the own node", "node-a", `{"spec":{"providerID":"x"}}`, dedicated...),
		patch("annotate the own node for somebody else", "node-a", `{"metadata":{"annotations":{"example.org/x":"y"}}}`, dedicated...),
		patch("label the own node for somebody else", "node-a", `{"metadata":{"labels":{"example.org/x":"y"}}}`, dedicated...),
		patch("label the own node as one of the control plane", "node-a", `{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`),
		patch("give the own node a finalizer", "node-a", `{"metadata":{"finalizers":["kured.dev/never"]}}`, dedicated...),
		{name: "delete another node", request: request{method: "DELETE", path: nodesPath + "node-b"}},
		{name: "delete the own node", request: request{method: "DELETE", path: nodesPath + "node-a"}},
		{name: "create another node", request: request{method: "POST", path: "/api/v1/nodes",
			body: `{"apiVersion":"v1","kind":"Node","metadata":{"name":"node-f"}}`}},
		{name: "set the own mark to gain a release of the holder", scene: full(), prepare: []request{mark},
			request: patchOf(lockPath, "holder.node-b", "")},
		{name: "set the own mark to gain a slot", scene: full(), prepare: []request{mark},
			request: patchOf(lockPath, "holder.node-a", holds("node-a"))},
	}
}

// attacksOnPods move pods of other nodes.
func attacksOnPods() []attack {
	post := func(name, inURL, inBody string) attack {
		r := new(world).eviction(inURL, inBody)
		r.path = strings.TrimSuffix(r.path, "?dryRun=All")
		return attack{name: name, request: r}
	}
	remove := func(name, path, body string, as ...string) attack {
		return attack{name: name, as: as, request: request{method: "DELETE", path: path, body: body}}
	}
	const (
		pod     = podsPath + "pod-of-node-b"
		options = `{"apiVersion":"v1","kind":"DeleteOptions"`
		noNode  = "no-node" // the ServiceAccount without a Node
	)
	all := strings.TrimSuffix(podsPath, "/")
	return []attack{
		post("evict a pod of another node", "pod-of-node-b", "pod-of-node-b"),
		post("evict a pod of another node by a body that names an own one", "pod-of-node-b", "pod-of-node-a"),
		post("evict a pod of another node by the URL of an own one", "pod-of-node-a", "pod-of-node-b"),
		post("evict a pod of another node by a body without a name", "pod-of-node-b", ""),
		{name: "evict a pod of another node at once", request: request{method: "POST", path: pod + "/eviction",
			body: `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"pod-of-node-b"},"deleteOptions":{"gracePeriodSeconds":0}}`}},
		{name: "evict a pod of another node by an old version", request: request{method: "POST", path: pod + "/eviction",
			body: `{"apiVersion":"policy/v1beta1","kind":"Eviction","metadata":{"name":"pod-of-node-b"}}`}},
		post("evict a pod of no node", "pod-of-nobody", "pod-of-nobody"),
		remove("delete a pod of another node", pod, ""),
		remove("delete a pod of another node in peace", pod, options+`,"gracePeriodSeconds":3600}`),
		remove("delete a pod of another node at once", pod, options+`,"gracePeriodSeconds":0}`),
		remove("delete a pod of another node at once by the URL", pod+"?gracePeriodSeconds=0", ""),
		remove("delete a pod of another node in the background", pod, options+`,"propagationPolicy":"Background"}`),
		remove("delete a pod of another node as one that cannot be read", pod,
			options+`,"ignoreStoreReadErrorWithClusterBreakingPotential":true}`),
		remove("delete a pod of another node by a body that says it is on the own one", pod,
			options+`,"metadata":{"name":"pod-of-node-a"},"spec":{"nodeName":"node-a"}}`),
		remove("delete a pod of another node by a body that is a pod on the own one", pod,
			`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"pod-of-node-b"},"spec":{"nodeName":"node-a"}}`),
		remove("delete a pod of another node by a selector in the URL", pod+"?fieldSelector=spec.nodeName%3Dnode-a", ""),
		remove("end at once a pod of another node that terminates", podsPath+"pod-that-ends", options+`,"gracePeriodSeconds":0}`),
		remove("end a little sooner a pod of another node that terminates", podsPath+"pod-that-ends", options+`,"gracePeriodSeconds":29}`),
		remove("delete a pod of no node", podsPath+"pod-of-nobody", ""),
		remove("without a node, delete a pod", podsPath+"pod-of-node-a", "", noNode),
		remove("without a node, delete a pod of no node", podsPath+"pod-of-nobody", "", noNode),
		{name: "without a node, evict a pod", as: []string{noNode}, request: request{method: "POST", path: podsPath + "pod-of-node-a/eviction",
			body: `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"pod-of-node-a"}}`}},
		remove("delete all pods", all, ""),
		remove("delete all pods of the own node at once", all+"?fieldSelector=spec.nodeName%3Dnode-a", options+`,"gracePeriodSeconds":0}`),
		remove("delete all pods of another node", all+"?fieldSelector=spec.nodeName%3Dnode-b", ""),
		remove("delete a claim", claimsPath+"/volume-of-node-a", ""),
		remove("delete a volume", volumesPath+"/volume-of-node-a", ""),
		{name: "list all claims", request: request{method: "GET", path: claimsPath}},
		{name: "list all volumes", request: request{method: "GET", path: volumesPath}},
		{name: "claim a pod of another node", request: request{method: "PATCH", path: pod, media: mergePatch, body: `{"spec":{"nodeName":"node-a"}}`}},
		{name: "bind a pod to another node", request: request{method: "POST", path: pod + "/binding",
			body: `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"pod-of-node-b"},"target":{"kind":"Node","name":"node-a"}}`}},
		{name: "say that a pod of another node has ended", request: request{method: "PATCH", path: pod + "/status", media: mergePatch,
			body: `{"status":{"phase":"Succeeded"}}`}},
	}
}

// eventOf writes an Event of a component on a node, about that node.
func eventOf(method, path, name, node, component string) request {
	r := request{method: method, path: "/api/v1/namespaces/default/events" + path, body: `{"apiVersion":"v1","kind":"Event","metadata":` +
		`{"name":"` + name + `","namespace":"default"},"involvedObject":{"apiVersion":"v1","kind":"Node","name":"` + node + `","uid":"` + node +
		`"},"reason":"Draining","message":"x","type":"Normal","source":{"component":"` + component + `","host":"` + node + `"}}`}
	if method == "PATCH" {
		r.media = mergePatch
	}
	return r
}

// attacksOnEvents speak for others. Kubelets may; kured's own identities may not.
func attacksOnEvents() []attack {
	by := func(name string, r request) attack { return attack{name: name, as: dedicated, request: r} }
	elsewhere := eventOf("POST", "", "x", "node-a", "kured")
	elsewhere.path, elsewhere.body = inNamespace+"/events", strings.Replace(elsewhere.body, `"default"`, `"kube-system"`, 1)
	pod := eventOf("POST", "", "x", "node-a", "kured")
	pod.body = strings.Replace(pod.body, `"kind":"Node"`, `"kind":"Pod"`, 1)
	newer := request{method: "POST", path: "/apis/events.k8s.io/v1/namespaces/default/events", body: `{"apiVersion":"events.k8s.io/v1","kind":"Event",` +
		`"metadata":{"name":"x","namespace":"default"},"regarding":{"kind":"Node","name":"node-a"},"reason":"x","type":"Normal","action":"x",` +
		`"reportingController":"kured","reportingInstance":"node-a","eventTime":"2026-11-22T12:00:00.000000Z"}`}
	return []attack{
		by("tell an Event about another node", eventOf("POST", "", "x", "node-b", "kured")),
		by("tell an Event about the own node for the kubelet", eventOf("POST", "", "x", "node-a", "kubelet")),
		by("tell an Event about a pod", pod),
		by("tell an Event in another namespace", elsewhere),
		by("tell an Event by another group of the API", newer),
		by("take over an Event of the kubelet's", eventOf("PATCH", "/of-the-kubelet", "of-the-kubelet", "node-a", "kured")),
		by("take over an Event about another node", eventOf("PATCH", "/of-node-b", "of-node-b", "node-a", "kured")),
		by("delete an Event", request{method: "DELETE", path: "/api/v1/namespaces/default/events/of-node-b"}),
		by("list the Events", request{method: "GET", path: "/api/v1/namespaces/default/events"}),
	}
}

// attacksOnRights get other credentials or rights, or weaken the wall.
func attacksOnRights() []attack {
	as := func(name, header string) attack {
		r := patchOf(lockPath, "holder.node-b", "")
		r.header = header
		return attack{name: name, scene: full(), request: r}
	}
	const rbac = "/apis/rbac.authorization.k8s.io/v1/"
	all := []attack{
		as("write as an administrator", "Impersonate-User: admin"),
		as("write in the group of administrators", "Impersonate-User: system:node:node-a\nImpersonate-Group: system:masters"),
		as("write as another node", "Impersonate-User: system:node:node-b"),
		as("write as a token of another node", "Impersonate-User: system:serviceaccount:kube-system:kured\n"+
			"Impersonate-Extra-Authentication.kubernetes.io%2fnode-name: node-b"),
		as("write as another node by a front proxy's header", "X-Remote-User: system:node:node-b"),
		{name: "approve a certificate", request: request{method: "PATCH",
			path:  "/apis/certificates.k8s.io/v1/certificatesigningrequests/x/approval",
			media: mergePatch, body: `{"status":{"conditions":[{"type":"Approved","status":"True"}]}}`}},
		{name: "give oneself break-glass", request: request{method: "POST", path: rbac + "clusterrolebindings",
			body: `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"x"},"roleRef":{"apiGroup":` +
				`"rbac.authorization.k8s.io","kind":"ClusterRole","name":"kured-lock-admin"},"subjects":[{"kind":"User","name":"system:node:node-a"}]}`}},
		{name: "widen the Role of the lock", request: request{method: "PATCH", path: rbac + "namespaces/kube-system/roles/kured-lock",
			media: mergePatch, body: `{"rules":[]}`}},
	}
	for _, policy := range []string{
		"kured-lock", "kured-lock-policy", "kured-lock-burial", "kured-lock-keep", "kured-node", "kured-eviction", "kured-deletion", "kured-event", "kured-token",
	} {
		all = append(all,
			attack{name: "make the policy " + policy + " ignore errors", request: request{method: "PATCH", path: policies + "/" + policy,
				media: mergePatch, body: `{"spec":{"failurePolicy":"Ignore"}}`}},
			attack{name: "delete the policy " + policy, request: request{method: "DELETE", path: policies + "/" + policy}},
			attack{name: "make the binding " + policy + " only warn", request: request{method: "PATCH", path: bindings + "/" + policy,
				media: mergePatch, body: `{"spec":{"validationActions":["Warn"]}}`}},
			attack{name: "delete the binding " + policy, request: request{method: "DELETE", path: bindings + "/" + policy}})
	}
	// Those who have RBAC's leave to do everything with ConfigMaps, but are neither nodes nor have the right to break the glass.
	strangers := []string{"stranger", "no-group", "no-node", "other-account"}
	stranger := func(name string, s scene, r request) attack {
		return attack{name: "without being a node, " + name, scene: s, as: strangers, request: r}
	}
	return append(all,
		stranger("release a holder", full(), patchOf(lockPath, "holder.node-b", "")),
		stranger("take the lock for node-a", free(), patchOf(lockPath, "holder.node-a", holds("node-a"))),
		stranger("take the lock for the empty name", free(), patchOf(lockPath, "holder.", holds("node-a"))),
		stranger("bury the gone", gone(), burialOf(lockPath, "holder.node-f", "")),
		stranger("annotate the lock", free(), request{method: "PATCH", path: lockPath, media: mergePatch, body: `{"metadata":{"annotations":{"x":"y"}}}`}),
		stranger("delete the free lock", free(), request{method: "DELETE", path: lockPath}),
		twice(stranger("delete the held lock", mine(), request{method: "DELETE", path: lockPath})),
		twice(stranger("delete all locks", full(), request{method: "DELETE",
			path: inNamespace + "/configmaps?labelSelector=app.kubernetes.io/component%3Dlock&fieldSelector=metadata.name%3Dkured-lock"})),
		stranger("create a lock", free(), request{method: "POST", path: inNamespace + "/configmaps", body: `{"apiVersion":"v1","kind":"ConfigMap",` +
			`"metadata":{"name":"x","labels":{"app.kubernetes.io/name":"kured","app.kubernetes.io/component":"lock"}}}`}),
		stranger("replace the lock by one without labels", full(), request{method: "PUT", path: lockPath,
			body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"kured-lock","namespace":"kube-system"}}`}),
	)
}

// strangers look a little like nodes: a user in no group, one named as a node of kured's but in no group, the ServiceAccount
// without a Node, and another ServiceAccount with one.
func (w *world) strangers(t *testing.T) []caller {
	t.Helper()
	bound, err := w.plane.NodeToken(t.Context(), namespace, "other", "node-a")
	if err != nil {
		t.Fatal(err)
	}
	unbound, err := w.plane.NodeToken(t.Context(), namespace, "kured", "")
	if err != nil {
		t.Fatal(err)
	}
	nodeless := w.user(t, "kured:node:node-a-without-group")
	nodeless.name = "no-group"
	return []caller{
		w.user(t, "stranger"), nodeless,
		newCaller(t, "no-node", unbound.Config()), newCaller(t, "other-account", bound.Config()),
	}
}
