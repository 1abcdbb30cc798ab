package kubernetes_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestHonestLife shows that under the wall each credential can do all that kured does.
func TestHonestLife(t *testing.T) {
	w := theWorld(t)
	for _, kind := range []string{byKubelet, byCertificate, byToken} {
		t.Run(kind, func(t *testing.T) {
			w.setPolicy(t, map[string]string{"max": "1", "waiting_room": "2", "paused": " ", "freeze": "2020-01-01/2020-01-02"})
			w.honestLife(t, w.caller(t, kind, "node-a"))
		})
	}
	t.Run("zones", func(t *testing.T) {
		w.set(t, oneOfThree("zone", `"eu-1a"`, "turn", `"2026-11-22T12:00:00Z"`).under("max", "10%"))
		node := w.caller(t, byKubelet, "node-a")
		entry := func(phase string) string {
			return holds("node-a", "max", "3", "zone", `"eu-1a"`, "turn", `"2026-11-22T12:00:00Z"`, "phase", phase, "reason", `"für Größe 日本 <&>"`)
		}
		w.must(t, node, patchOf(lockPath, "waiter.node-a", waits("node-a", "zone", `"eu-1a"`, "priority", "-9999")))
		w.must(t, node, patchOf(lockPath, "waiter.node-a", waits("node-a", "zone", `"eu-1a"`, "priority", "9999")))
		w.must(t, node, patchOf(lockPath, "waiter.node-a", "", "holder.node-a", entry(`"locked"`)))
		w.must(t, node, patchOf(lockPath, "holder.node-a", entry(`"rebooting"`)))
		w.must(t, node, patchOf(lockPath, "holder.node-a", ""))
	})
}

// excluded is the label by which a node gets no traffic from load balancers.
const excluded = "node.kubernetes.io/exclude-from-external-load-balancers"

// honestLife is all that kured asks of the API server in a cycle.
func (w *world) honestLife(t *testing.T, node caller) {
	t.Helper()
	// Somebody else holds and waits; then it is gone, and so is its Node.
	w.setLock(t, map[string]string{"holder.node-f": holds("node-f"), "waiter.node-f": waits("node-f")}, false)
	phase := func(phase string) request {
		return patchOf(lockPath, "holder.node-a", w.uids.Replace(holds("node-a", "phase", `"`+phase+`"`, "reason", "")))
	}
	onNode := func(patch string) request {
		return request{method: "PATCH", path: nodesPath + "node-a", media: mergePatch, body: patch}
	}
	conditions := func(list string) request {
		return request{method: "PATCH", path: nodesPath + "node-a/status", media: strategicPatch, body: `{"status":{"conditions":[` + list + `]}}`}
	}
	if node.name != byKubelet { // NodeRestriction refuses it
		w.taint(t, node, true)
		w.taint(t, node, false)
	}
	w.volumes(t, node)
	told := fmt.Sprintf("by-%s.%x", node.name, time.Now().UnixNano())
	watch := "?watch=true&timeoutSeconds=1&fieldSelector="
	for _, r := range []request{
		{method: "GET", path: lockPath},
		{method: "GET", path: policyPath},
		{method: "GET", path: nodesPath + "node-b"},
		{method: "GET", path: "/api/v1/nodes?fieldSelector=spec.unschedulable%3Dtrue"},
		patchOf(lockPath, "waiter.node-a", waits("node-a")),
		{method: "GET", path: inNamespace + "/configmaps" + watch + "metadata.name%3Dkured-lock"},
		burialOf(lockPath, "holder.node-f", ""),
		burialOf(lockPath, "waiter.node-f", ""), // one after the other: the label is there already
		patchOf(lockPath, "waiter.node-a", "", "holder.node-a", holds("node-a", "reason", "")),
		onNode(`{"metadata":{"annotations":{"kured.dev/cordoned":"` + strings.Repeat("a", 32) + `"}},"spec":{"unschedulable":true}}`),
		onNode(`{"metadata":{"annotations":{"kured.dev/dressed":"{}"},"labels":{"kured.dev/x":"y","` + excluded + `":"true"}}}`),
		onNode(`{"metadata":{"annotations":{"kured.dev/status":"{}"}}}`), // node.status_annotation
		{method: "PATCH", path: nodesPath + "node-a", media: "application/json-patch+json",
			body: `[{"op":"test","path":"/metadata/annotations/kured.dev~1status","value":"{}"},` +
				`{"op":"replace","path":"/metadata/annotations/kured.dev~1status","value":"{ }"}]`},
		eventOf("POST", "", told, "node-a", "kured"), // node.events
		eventOf("PATCH", "/"+told, told, "node-a", "kured"),
		conditions(`{"type":"DrainInProgress","status":"True"},{"type":"MaintenancePlanned","status":"True"}`),
		phase("draining"),
		{method: "GET", path: "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-a"},
		{method: "GET", path: "/api/v1/pods" + watch + "spec.nodeName%3Dnode-a"},
		// gates.blocking_pods
		{method: "GET", path: "/api/v1/pods?limit=50&labelSelector=app%3Dx&" +
			"fieldSelector=spec.nodeName%3Dnode-a%2Cstatus.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed"},
		w.eviction("pod-of-node-a", "pod-of-node-a"),
		phase("rebooting"),
		{method: "GET", path: "/api/v1/nodes" + watch + "metadata.name%3Dnode-a"},
		onNode(`{"metadata":{"annotations":{"kured.dev/cordoned":null,"kured.dev/released":null,"kured.dev/dressed":null,"kured.dev/status":null},` +
			`"labels":{"kured.dev/x":null,"` + excluded + `":null}},"spec":{"unschedulable":null}}`),
		conditions(`{"type":"DrainInProgress","$patch":"delete"},{"type":"MaintenancePlanned","$patch":"delete"}`),
		patchOf(lockPath, "waiter.node-a", "", "holder.node-a", ""),
		patchOf(lockPath, "holder.node-a", holds("node-a")),
		patchOf(lockPath, "holder.node-a", ""),
	} {
		w.must(t, node, r)
	}
	if got := w.entries(t); len(got) > 0 {
		t.Errorf("the lock after it: %v", got)
	}
	w.deletion(t, node)
	// compat.daemonset: there is none, and that may be known.
	if got := w.send(t, node, request{method: "GET", path: "/apis/apps/v1/namespaces/kube-system/daemonsets/kured"}); got.code != http.StatusNotFound {
		t.Errorf("%s reads the DaemonSet kured: %d %s", node.name, got.code, got.message)
	}
}

// soon has node-a send a request that has to succeed as soon as the API server's caches have what was made just now.
func (w *world) soon(t *testing.T, node caller, r request) {
	t.Helper()
	var last answer
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if last = w.send(t, node, r); !last.refused() {
			return
		}
	}
	t.Fatalf("%s: %s %s: %d %s", node.name, r.method, r.path, last.code, last.message)
}

// volumes has node-a read what its pod is bound to, as drain.wait_for_volumes does.
func (w *world) volumes(t *testing.T, node caller) {
	t.Helper()
	for _, path := range []string{claimsPath + "/volume-of-node-a", volumesPath + "/volume-of-node-a"} {
		w.soon(t, node, request{method: "GET", path: path})
	}
}

// deletion has node-a delete a pod of its own, in peace and then at once, as drain.on_timeout = "force" does.
func (w *world) deletion(t *testing.T, node caller) {
	t.Helper()
	pod := createPod(t, w.plane, "late-pod-of-node-a", "node-a")
	remove := func(more string) request {
		return request{method: "DELETE", path: podsPath + pod.Name, body: `{"apiVersion":"v1","kind":"DeleteOptions",` +
			`"preconditions":{"uid":"` + string(pod.UID) + `"}` + more + `}`}
	}
	w.soon(t, node, remove(""))
	w.must(t, node, remove(`,"gracePeriodSeconds":0`))
	if got := w.send(t, w.admin, request{method: "GET", path: podsPath + pod.Name}); got.code != http.StatusNotFound {
		t.Errorf("%s: after its deletion at once the pod: %d %s", node.name, got.code, got.message)
	}
}

// taint has node-a put its taint on or off, beside those that the API server and the controllers give it meanwhile.
func (w *world) taint(t *testing.T, node caller, on bool) {
	t.Helper()
	for {
		var object corev1.Node
		if err := json.Unmarshal(w.must(t, node, request{method: "GET", path: nodesPath + "node-a"}).body, &object); err != nil {
			t.Fatal(err)
		}
		taints := slices.DeleteFunc(object.Spec.Taints, func(t corev1.Taint) bool { return t.Key == "kured.dev/waiting" })
		if on {
			taints = append(taints, corev1.Taint{Key: "kured.dev/waiting", Effect: corev1.TaintEffectPreferNoSchedule})
		}
		patch := map[string]any{"metadata": map[string]any{"resourceVersion": object.ResourceVersion}, "spec": map[string]any{"taints": taints}}
		got := w.send(t, node, request{method: "PATCH", path: nodesPath + "node-a", media: mergePatch, body: encoded(t, patch)})
		switch {
		case got.code == http.StatusConflict:
		case got.refused():
			t.Fatalf("%s: taint %v: %d %s", node.name, on, got.code, got.message)
		default:
			return
		}
	}
}

// entries are the lock's data.
func (w *world) entries(t *testing.T) map[string]string {
	t.Helper()
	var object struct{ Data map[string]string }
	if err := json.Unmarshal(w.must(t, w.admin, request{method: "GET", path: lockPath}).body, &object); err != nil {
		t.Fatal(err)
	}
	return object.Data
}

// TestReleaseIsAlwaysPossible: whatever the policy says and whatever the lock looks like, a node gets its entries out.
func TestReleaseIsAlwaysPossible(t *testing.T) {
	w := theWorld(t)
	node := w.caller(t, byKubelet, "node-a")
	crowd := map[string]string{}
	for _, first := range "0123456789abcdef" {
		for _, second := range "0123456789abcdef" {
			crowd["holder.crowd-"+string(first)+string(second)] = w.uids.Replace(holds("node-b", "max", "9999"))
		}
	}
	scenes := map[string]scene{
		"no policy":                {},
		"a policy of nonsense":     scene{}.under("max", "many", "waiting_room", "-1", "paused", "\n", "freeze", "???", "x", "y"),
		"a policy of empty words":  scene{}.under("max", "", "waiting_room", "", "paused", ""),
		"a policy of huge numbers": scene{}.under("max", strings.Repeat("9", 100), "waiting_room", strings.Repeat("9", 100)),
		"a long policy":            scene{}.under("max", strings.Repeat("x", 100_000), "waiting_room", strings.Repeat("y", 100_000)),
		"paused":                   scene{}.under("paused", "now", "max", "1"),
		"a crowd":                  {lock: crowd},
		"garbage":                  scene{}.with("holder.node-b", strings.Repeat("x", 300_000)).with("x", ""),
		"the label of a burial":    {burial: true},
	}
	for name, s := range scenes {
		for _, own := range []string{holds("node-a"), waits("node-a"), "", "garbage", strings.Repeat("x", 100_000), holds("node-a", "v", "99")} {
			w.set(t, s.with("holder.node-a", own).with("waiter.node-a", own))
			w.must(t, node, patchOf(lockPath, "holder.node-a", ""))
			w.must(t, node, patchOf(lockPath, "waiter.node-a", ""))
			want := map[string]string{}
			for key, value := range s.lock {
				want[key] = w.uids.Replace(value)
			}
			if got := w.entries(t); !maps.Equal(got, want) {
				t.Errorf("%s, own entry %.40s: left are %v", name, own, slices.Sorted(maps.Keys(got)))
			}
		}
	}
	// Administrators have left more records of who wrote what than the API server keeps apart.
	w.set(t, full())
	for i := range 14 {
		w.must(t, w.admin, request{method: "PATCH", path: fmt.Sprintf("%s?fieldManager=admin-%d", lockPath, i), media: mergePatch,
			body: fmt.Sprintf(`{"metadata":{"labels":{"l%d":""},"annotations":{"a%d":""}},"data":{"holder.node-a":"%d","waiter.x%d":""}}`, i, i, i, i)})
		if i%2 == 0 {
			w.must(t, node, patchOf(fmt.Sprintf("%s?fieldManager=node-%d", lockPath, i), "holder.node-a", ""))
		}
	}
	w.must(t, w.admin, request{method: "PATCH", path: lockPath + "?fieldManager=applier&force=true", media: applyPatch, body: `{"apiVersion":"v1",` +
		`"kind":"ConfigMap","metadata":{"name":"kured-lock"},"data":{"holder.node-a":"","waiter.node-a":"","holder.node-b":""}}`})
	w.must(t, node, patchOf(lockPath, "holder.node-a", ""))
	w.must(t, node, patchOf(lockPath, "waiter.node-a", ""))
	w.set(t, free().with("holder.node-a", "x"))
	w.must(t, w.admin, request{method: "PATCH", path: lockPath, media: mergePatch, body: `{"metadata":{"managedFields":[{}]}}`})
	w.must(t, node, patchOf(lockPath, "holder.node-a", ""))
	// Without records the API server keeps none any more; the other tests want a lock as everybody has it.
	w.must(t, w.admin, request{method: "DELETE", path: lockPath})
	applyFile(t, w.plane, "kured.yaml")
	// A crowd can also go on: the API server's budget for a policy is far away.
	w.set(t, scene{lock: crowd}.under("max", "50%"))
	w.must(t, node, patchOf(lockPath, "holder.node-a", holds("node-a", "max", "9999")))
}

// TestBreakGlass: administrators, and those who were given the right, are above the wall, but for one thing.
func TestBreakGlass(t *testing.T) {
	w := theWorld(t)
	onCall := w.user(t, "on-call")
	remove := request{method: "DELETE", path: lockPath + "?dryRun=All"}
	for _, who := range []caller{w.admin, onCall} {
		w.set(t, full().with("garbage", "x").under("paused", "now"))
		for _, r := range []request{
			patchOf(lockPath, "holder.node-b", "", "waiter.node-b", ""),
			patchOf(lockPath, "garbage", ""),
			patchOf(lockPath, "holder.node-d", holds("node-d")),
			{method: "PATCH", path: lockPath, media: mergePatch, body: `{"metadata":{"annotations":{"x":"y"}}}`},
			{method: "GET", path: nodesPath + "node-b"},
			{method: "PATCH", path: nodesPath + "node-b?dryRun=All", media: mergePatch, body: `{"metadata":{"annotations":{"kured.dev/released":"{}"}}}`},
			{method: "POST", path: "/api/v1/namespaces/default/events?dryRun=All", body: `{"apiVersion":"v1","kind":"Event",` +
				`"metadata":{"name":"x","namespace":"default"},"involvedObject":{"kind":"Node","name":"node-b"},"reason":"LockReleased"}`},
		} {
			w.must(t, who, r)
		}
	}
	if got := w.send(t, w.admin, remove); got.code != http.StatusForbidden || !strings.Contains(got.message, "the lock is held") {
		t.Errorf("an administrator deletes a held lock: %d %s", got.code, got.message)
	}
	all := request{method: "DELETE", path: inNamespace + "/configmaps?labelSelector=app.kubernetes.io/component%3Dlock"}
	if got := w.send(t, w.admin, all); got.code != http.StatusForbidden {
		t.Errorf("an administrator deletes all locks, one of which is held: %d %s", got.code, got.message)
	}
	w.set(t, scene{lock: map[string]string{"waiter.node-c": waits("node-c")}})
	w.must(t, w.admin, remove)
	if got := w.send(t, onCall, remove); got.code != http.StatusForbidden {
		t.Errorf("who may release deletes the lock: %d %s", got.code, got.message)
	}
	// Somebody else may write what is there already, as a migration of the storage does.
	w.must(t, w.user(t, "stranger"), request{method: "PATCH", path: lockPath, media: mergePatch, body: `{"data":{"waiter.node-c":` +
		quoted(waits("node-c")) + `}}`})
}
