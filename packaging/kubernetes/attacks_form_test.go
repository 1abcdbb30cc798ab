package kubernetes_test

import (
	"strconv"
	"strings"
)

// attacksOnTerms change what the node itself said when it took the lock.
func attacksOnTerms() []attack {
	terms := func(name string, s scene, value string) attack {
		return onLock(name, s, "holder.node-a", value)
	}
	a := func(changes ...string) string { return holds("node-a", append([]string{"max", "3"}, changes...)...) }
	zoned := scene{lock: map[string]string{"holder.node-a": a("zone", `"eu-1a"`)}}
	return []attack{
		terms("raise the own limit while holding", mine(), a("max", "4")),
		terms("lower the own limit while holding", mine(), a("max", "1")),
		terms("claim another boot while holding", mine(), a("boot", `"00000000000000000000000000000000"`)),
		terms("claim another uid while holding", mine(), a("uid", `"another"`)),
		terms("claim another zone while holding", zoned, a("zone", `"eu-1b"`)),
		terms("drop the zone while holding", zoned, a()),
		terms("claim a zone while holding without one", mine(), a("zone", `"eu-1a"`)),
		terms("make the own entry unreadable while holding", mine(), "out of order"),
		terms("make the own entry one of version 100 while holding", mine(), a("v", "100")),
		terms("repair the own entry when it is unreadable", scene{lock: map[string]string{"holder.node-a": "out of order"}}, holds("node-a")),
		terms("set the own entry right when it has two limits",
			scene{lock: map[string]string{"holder.node-a": a("extra", `"x","max":9`)}}, a()),
	}
}

// attacksByForm take a free lock, or wait, with entries that others could read in another way than the API server.
func attacksByForm() []attack {
	take := func(name, value string) attack { return onLock(name, free(), "holder.node-a", value) }
	wait := func(name, value string) attack { return onLock(name, free(), "waiter.node-a", value) }
	a := func(changes ...string) string { return holds("node-a", changes...) }
	return []attack{
		take("take with the limit twice", a("max", `1,"max":9`)),
		take("take with the limit once more at the end", a("extra", `"x","max":9`)),
		take("take with the limit once more in capitals", a("extra", `"x","MAX":9`)),
		take("take with the limit once more in escaped letters", a("extra", `"x","m\u0061x":9`)),
		take("take with the uid twice", a("uid", uidOf("node-a")+`,"uid":"another"`)),
		take("take with a field of a later version twice", a("extra", `"x","extra":"y"`)),
		take("take with a quote in the reason that ends it", a("reason", `"x\",\"max\":9,\"y\":\"z"`)),
		take("take with a backslash in the reason", a("reason", `"x\\"`)),
		take("take with a newline in the reason", a("reason", "\"x\ny\"")),
		take("take with an object in it", a("extra", `{"max":9}`)),
		take("take with a list in it", a("extra", `[9]`)),
		take("take with null in it", a("extra", `null`)),
		take("take with space in it", strings.ReplaceAll(a(), ",", ", ")),
		take("take with the fields in another order", a("max", "", "limit", "", "since", `"2026-11-22T12:00:00Z"`)+a()),
		take("take with text behind the entry", a()+"x"),
		take("take with a newline behind the entry", a()+"\n"),
		take("take with two entries", a()+a()),
		take("take with a list of entries", "["+a()+"]"),
		take("take with nothing", "{}"),
		take("take with an entry of a waiter", waits("node-a")),
		take("take without a limit", a("max", "")),
		take("take without a uid", a("uid", "")),
		take("take without a boot id", a("boot", "")),
		take("take with a limit of nothing", a("max", "0")),
		take("take with a limit below nothing", a("max", "-1")),
		take("take with a limit that is too large", a("max", "10000")),
		take("take with a limit that is too large for any number", a("max", "99999999999999999999")),
		take("take with a limit that is no whole number", a("max", "1.5")),
		take("take with a limit by exponent", a("max", "9e9")),
		take("take with a limit as text", a("max", `"9"`)),
		take("take with an octal limit", a("max", "010")),
		take("take with a zone of two lines", a("zone", `"a\nb"`)),
		take("take with an entry of version 0", a("v", "0")),
		take("take with an entry of 513 bytes", a("reason", `"`+strings.Repeat("x", 513-len(a("reason", `""`, "uid", `"u"`)))+`"`, "uid", `"u"`)),
		take("take with an entry of 500 letters of two bytes", a("reason", `"`+strings.Repeat("ä", 300)+`"`)),
		take("take with an entry of 500 kB", a("reason", `"`+strings.Repeat("x", 500_000)+`"`)),
		wait("wait with an entry of a holder", a()),
		wait("wait with the priority twice", waits("node-a", "priority", `1,"priority":2`)),
		wait("wait with a priority out of bounds", waits("node-a", "priority", "10000")),
		wait("wait with a priority below its bounds", waits("node-a", "priority", "-10000")),
		wait("wait with a priority by exponent", waits("node-a", "priority", "1e9")),
		wait("wait without a uid", waits("node-a", "uid", "")),
		wait("wait with an entry of 500 kB", waits("node-a", "extra", `"`+strings.Repeat("x", 500_000)+`"`)),
	}
}

// attacksOnObject freeze, bloat or replace the ConfigMap.
func attacksOnObject() []attack {
	merge := func(name, body string) attack {
		return attack{name: name, scene: full(), request: request{method: "PATCH", path: lockPath, media: mergePatch, body: body}}
	}
	send := func(name, method, path, media, body string) attack {
		return attack{name: name, scene: full(), request: request{method: method, path: path, media: media, body: body}}
	}
	const head = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{`
	const asLock = `"labels":{"app.kubernetes.io/name":"kured","app.kubernetes.io/component":"lock"},"namespace":"kube-system",`
	most := []string{byKubelet, byCertificate, byToken, byMore}
	all := func(a attack) attack {
		a.as = most
		return a
	}
	own := `"data":{"waiter.node-a":` + quoted(waits("node-a")) + `}}`
	applied := lockPath + "?fieldManager=rogue"
	return []attack{
		merge("freeze the lock", `{"immutable":true}`),
		merge("freeze the lock for a later version", `{"immutable":false}`),
		merge("put binary data into the lock", `{"binaryData":{"holder.node-x":"AAAA"}}`),
		merge("bloat the lock by binary data", `{"binaryData":{"waiter.node-a":"`+strings.Repeat("AAAA", 100_000)+`"}}`),
		merge("annotate the lock", `{"metadata":{"annotations":{"kured.dev/concurrency":"9"}}}`),
		merge("bloat the lock by an annotation", `{"metadata":{"annotations":{"x":"`+strings.Repeat("x", 200_000)+`"}}}`),
		merge("remove the lock's annotations", `{"metadata":{"annotations":null}}`),
		merge("label the lock", `{"metadata":{"labels":{"kured.dev/pool":"x"}}}`),
		merge("take the lock's labels off, so that it is none", `{"metadata":{"labels":null},"data":{"holder.node-b":null}}`),
		merge("change a label of the lock", `{"metadata":{"labels":{"app.kubernetes.io/component":"none"}}}`),
		merge("give the lock a finalizer", `{"metadata":{"finalizers":["kured.dev/never"]}}`),
		merge("give the lock an owner that can be deleted",
			`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"node-a","uid":"<uid of node-a>"}]}}`),
		merge("set the lock's generateName", `{"metadata":{"generateName":"kured-"}}`),
		merge("rename the lock", `{"metadata":{"name":"kured-lock-2"}}`),
		merge("move the lock", `{"metadata":{"namespace":"default"}}`),
		merge("give the lock another uid", `{"metadata":{"uid":"another"}}`),
		merge("write the lock as of an old version", `{"metadata":{"resourceVersion":"1"},"data":{"waiter.node-a":`+quoted(waits("node-a"))+`}}`),
		merge("remove the record of who wrote the lock, and a holder", `{"metadata":{"managedFields":[{}]},"data":{"holder.node-b":null}}`),
		merge("bloat the record of who wrote the lock", recordOf("rogue", `{"f:data":{`+manyFields()+`}}`)),
		merge("bloat the record of who wrote the lock below a field", recordOf("rogue", `{"f:data":{"f:holder.node-b":{`+manyFields()+`}}}`)),
		merge("bloat the record of who wrote the lock's metadata", recordOf("rogue", `{"f:metadata":{"f:labels":{`+manyFields()+`}}}`)),
		merge("bloat the record of who wrote what the lock has not", recordOf("rogue", `{"f:rogue":{`+manyFields()+`}}`)),
		merge("bloat the record of kured itself", recordOf("kured", `{"f:data":{`+manyFields()+`}}`)),
		merge("remove the record of who wrote the lock", `{"metadata":{"managedFields":[{}]}}`),
		merge("claim a holder's key for who applies the lock", recordOf("kubectl-client-side-apply", `{"f:data":{"f:holder.node-b":{}}}`)),
		merge("claim all keys for who applies the lock", recordOf("kubectl-client-side-apply", `{"f:data":{}}`)),
		merge("claim to have applied the lock", strings.Replace(recordOf("rogue", `{"f:data":{"f:holder.node-b":{}}}`), "Update", "Apply", 1)),
		all(send("take by server-side apply", "PATCH", applied, applyPatch,
			head+`"name":"kured-lock"},"data":{"holder.node-a":`+quoted(holds("node-a"))+`}}`)),
		send("leave a record of a field manager", "PATCH", applied, applyPatch, head+`"name":"kured-lock"},`+own),
		send("overwrite a holder by server-side apply with force", "PATCH", applied+"&force=true", applyPatch,
			head+`"name":"kured-lock"},"data":{"holder.node-b":"mine"}}`),
		send("apply in the name of the administrator's field manager", "PATCH", lockPath+"?fieldManager=kured-testenv&force=true", applyPatch,
			head+`"name":"kured-lock"},`+own),
		all(send("replace the whole lock", "PUT", lockPath, "", head+asLock+`"name":"kured-lock"},`+own)),
		twice(all(send("delete the lock", "DELETE", lockPath, "", ""))),
		twice(all(send("delete the lock in the background", "DELETE", lockPath+"?propagationPolicy=Background&gracePeriodSeconds=0", "", ""))),
		send("delete all ConfigMaps", "DELETE", inNamespace+"/configmaps", "", ""),
		twice(all(send("delete the lock by its labels", "DELETE", inNamespace+"/configmaps?labelSelector=app.kubernetes.io/component%3Dlock", "", ""))),
		all(send("create the lock", "POST", inNamespace+"/configmaps", "", head+asLock+`"name":"kured-lock"},`+own)),
		all(send("create another lock", "POST", inNamespace+"/configmaps", "", head+asLock+`"name":"kured-lock-2"},`+own)),
		all(send("create another lock by server-side apply", "PATCH", inNamespace+"/configmaps/kured-lock-2?fieldManager=rogue", applyPatch,
			head+asLock+`"name":"kured-lock-2"},`+own)),
		all(send("write the lock's status", "PATCH", lockPath+"/status", mergePatch, `{"data":null}`)),
		send("write the lock's scale", "PATCH", lockPath+"/scale", mergePatch, `{"spec":{"replicas":9}}`),
		send("patch by a type that there is not", "PATCH", lockPath, "application/merge-patch+yaml", "data: null"),
		send("change the policy", "PATCH", policyPath, mergePatch, `{"data":{"max":"9999"}}`),
		send("replace the policy", "PUT", policyPath, "", head+`"name":"kured-policy","namespace":"kube-system"}}`),
		send("delete the policy", "DELETE", policyPath, "", ""),
		send("create a policy", "POST", inNamespace+"/configmaps", "", head+`"name":"kured-policy","namespace":"kube-system"}}`),
		send("create a policy by server-side apply", "PATCH", policyPath+"?fieldManager=rogue&force=true", applyPatch,
			head+`"name":"kured-policy"},"data":{"max":"9999"}}`),
	}
}

// harmlessDeeds are wrong, and allowed.
func harmlessDeeds() []harmless {
	mark := request{method: "PATCH", path: nodesPath + "node-a", media: mergePatch,
		body: `{"metadata":{"annotations":{"kured.dev/cordoned":"` + strings.Repeat("a", 32) + `"}},"spec":{"unschedulable":true}}`}
	unmark := request{method: "PATCH", path: nodesPath + "node-a", media: mergePatch,
		body: `{"metadata":{"annotations":{"kured.dev/cordoned":null}},"spec":{"unschedulable":null}}`}
	return []harmless{
		{name: "cordon the own Node with kured's mark, and uncordon it", requests: []request{mark, unmark},
			why: "that is what kured does; the mark gives no place in the lock"},
		{name: "hold with a limit of 9999", scene: free(), requests: []request{patchOf(lockPath, "holder.node-a", holds("node-a", "max", "9999"))},
			why: "the tightest limit of all holders and of the policy counts, so it widens nobody else's"},
		{name: "hold with the uid of no Node", scene: free(), requests: []request{patchOf(lockPath, "holder.node-a", holds("node-a", "uid", `"none"`))},
			why: "the entry does not count, and the others bury it; so the node holds nothing, which is the same as not to ask"},
		{name: "hold in a zone that is not the own", scene: oneOfThree("zone", `"eu-1b"`),
			requests: []request{patchOf(lockPath, "holder.node-a", holds("node-a", "max", "3", "zone", `"eu-1b"`))},
			why:      "a node knows its zone, the lock does not; the limit stands all the same, and one node more of another zone is down"},
		{name: "hold with the boot id of another boot", scene: free(),
			requests: []request{patchOf(lockPath, "holder.node-a", holds("node-a", "boot", `"`+strings.Repeat("0", 32)+`"`))},
			why:      "the boot id tells kured on this node alone whether it rebooted"},
		{name: "wait since long ago, and with the highest priority", scene: full(),
			requests: []request{patchOf(lockPath, "waiter.node-a", waits("node-a", "since", `"1970-01-01T00:00:00Z"`, "priority", "9999"))},
			why:      "it goes ahead of the others; order is never safety, and they follow when it has released"},
		{name: "wait under a uid of no Node", scene: full(), requests: []request{patchOf(lockPath, "waiter.node-a", waits("node-a", "uid", `"none"`))},
			why: "the others bury it, and it has lost its place"},
		{name: "hold again and again without rebooting", scene: free(), requests: []request{
			patchOf(lockPath, "holder.node-a", holds("node-a")), patchOf(lockPath, "holder.node-a", ""),
			patchOf(lockPath, "holder.node-a", holds("node-a"))},
			why: "a node may hold its one slot for as long as it likes; alerts tell, and an administrator releases it"},
		{name: "remove the own unreadable entry", scene: scene{lock: map[string]string{"holder.node-a": "out of order"}},
			requests: []request{patchOf(lockPath, "holder.node-a", "")},
			why:      "a node can always release"},
		{name: "an entry with a field of a later version", scene: free(),
			requests: []request{patchOf(lockPath, "holder.node-a", holds("node-a", "v", "2", "later", `"something"`, "count", "12"))},
			why:      "later versions of kured may say more; to this one it is a holder"},
		{name: "an entry of 512 bytes", scene: free(), requests: []request{patchOf(lockPath, "holder.node-a",
			holds("node-a", "reason", `"`+strings.Repeat("x", 512-len(holds("node-a", "reason", `""`, "uid", `"u"`)))+`"`, "uid", `"u"`))},
			why: "two keys of 512 bytes are all that a node has in the lock"},
		{name: "patch under the names of many field managers", scene: full(), requests: manyManagers(),
			why: "the API server keeps the records of ten field managers, and joins the others"},
		{name: "read the claim and the volume of a pod of another node", as: dedicated, requests: []request{
			{method: "GET", path: claimsPath + "/volume-of-node-b"}, {method: "GET", path: volumesPath + "/volume-of-node-b"}},
			why: "RBAC knows no selectors; they name volumes, and Secrets at most, which cannot be read"},
		{name: "delete once more, in peace, a pod of another node that terminates", as: dedicated, requests: []request{
			{method: "DELETE", path: podsPath + "pod-that-ends", body: `{"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":3600}`}},
			why: "the API server changes nothing and answers with the pod, which may be read anyway"},
		{name: "set the lock's generation", scene: full(), requests: []request{
			{method: "PATCH", path: lockPath, media: mergePatch, body: `{"metadata":{"generation":999999}}`}},
			why: "the API server keeps none of ConfigMaps, and leaves it out"},
		{name: "read the lock, the policy and all Nodes", scene: full(), requests: []request{
			{method: "GET", path: lockPath}, {method: "GET", path: policyPath}, {method: "GET", path: nodesPath}},
			why: "the limit in force and the evidence of who is gone are in them"},
		{name: "report an Event on another Node", as: []string{byKubelet}, requests: []request{
			{method: "POST", path: "/api/v1/namespaces/default/events", body: `{"apiVersion":"v1","kind":"Event",` +
				`"metadata":{"generateName":"x","namespace":"default"},"involvedObject":{"kind":"Node","name":"node-b"},"reason":"LockReleased"}`}},
			why: "kubelets may; Events are for people, kured never reads them"},
	}
}

// recordOf is a patch of the record that the API server keeps of who wrote which field.
func recordOf(manager, fields string) string {
	return `{"metadata":{"managedFields":[{"manager":"` + manager + `","operation":"Update","apiVersion":"v1",` +
		`"time":"2026-11-22T12:00:00Z","fieldsType":"FieldsV1","fieldsV1":` + fields + `}]}}`
}

func manyFields() string {
	var fields []string
	for i := range 5000 {
		fields = append(fields, `"f:x`+strconv.Itoa(i)+`":{}`)
	}
	return strings.Join(fields, ",")
}

func manyManagers() []request {
	var all []request
	for i := range 12 {
		write := patchOf(lockPath+"?fieldManager=rogue-"+strconv.Itoa(i), "waiter.node-a", waits("node-a", "priority", strconv.Itoa(i)))
		all = append(all, write)
	}
	return all
}
