package kubernetes_test

import "strconv"

// onLock is an attack by one write as kured's.
func onLock(name string, s scene, pairs ...string) attack {
	return attack{name: name, scene: s, request: patchOf(lockPath, pairs...)}
}

// attacksOnSlots try to become a holder, or a waiter, out of turn.
func attacksOnSlots() []attack {
	room := scene{lock: map[string]string{"holder.node-b": holds("node-b")}}
	for i := range 16 {
		room = room.with("waiter.other-"+strconv.Itoa(i), waits("node-c"))
	}
	return []attack{
		onLock("take the lock while it is full", full(), "holder.node-a", holds("node-a")),
		onLock("take the full lock with a limit that is wide enough", full(), "holder.node-a", holds("node-a", "max", "9999")),
		onLock("take the lock with a limit of one's own that is narrower than the number of holders",
			oneOfThree(), "holder.node-a", holds("node-a", "max", "1")),
		onLock("take the lock in the holder's place", full(), "holder.node-b", "", "holder.node-a", holds("node-a")),
		onLock("take the slot that an unreadable entry holds", scene{lock: map[string]string{"holder.node-x": "what is this?"}},
			"holder.node-a", holds("node-a")),
		onLock("take the slot that an unknown key holds", scene{lock: map[string]string{"frozen": "yes"}},
			"holder.node-a", holds("node-a")),
		onLock("take a slot beside an entry of which nobody knows the limit", oneOfThree().with("holder.node-x", "what is this?"),
			"holder.node-a", holds("node-a", "max", "3")),
		onLock("take a slot in another zone", oneOfThree("zone", `"eu-1b"`), "holder.node-a", holds("node-a", "max", "3", "zone", `"eu-1a"`)),
		onLock("take a slot without a zone while a zone holds", oneOfThree("zone", `"eu-1b"`), "holder.node-a", holds("node-a", "max", "3")),
		onLock("take the lock while it is paused", free().under("paused", "it is Christmas"), "holder.node-a", holds("node-a")),
		onLock("take the lock while this one alone is paused", free().under("paused.kured-lock", "not this pool"),
			"holder.node-a", holds("node-a")),
		onLock("take more than the policy allows", oneOfThree().under("max", "1"), "holder.node-a", holds("node-a", "max", "3")),
		onLock("take more than the policy allows for this lock", oneOfThree().under("max", "3", "max.kured-lock", "1"),
			"holder.node-a", holds("node-a", "max", "3")),
		onLock("take a second slot under a policy that makes no sense", oneOfThree().under("max", "many"),
			"holder.node-a", holds("node-a", "max", "3")),
		onLock("hold and wait at once", free(), "holder.node-a", holds("node-a"), "waiter.node-a", waits("node-a")),
		onLock("wait while holding", mine(), "waiter.node-a", waits("node-a")),
		onLock("take the lock and stay in the waiting room", free().with("waiter.node-a", waits("node-a")), "holder.node-a", holds("node-a")),
		onLock("enter the waiting room when 16 wait", room, "waiter.node-a", waits("node-a")),
		onLock("enter the waiting room when as many wait as the policy allows", full().under("waiting_room", "1"),
			"waiter.node-a", waits("node-a")),
	}
}

// attacksOnOthers write entries of other nodes, or under other names.
func attacksOnOthers() []attack {
	b := func(changes ...string) string { return holds("node-b", changes...) }
	return []attack{
		onLock("hold under the name of another node", free(), "holder.node-d", holds("node-d")),
		onLock("hold under the name of no node", free(), "holder.node-nobody", holds("node-nobody")),
		onLock("hold under a name that begins with the own name", free(), "holder.node-ab", holds("node-a")),
		onLock("hold under a name below the own name", free(), "holder.node-a.x", holds("node-a")),
		onLock("hold under the own name in capitals", free(), "holder.NODE-A", holds("node-a")),
		onLock("hold under the own name by another prefix", free(), "Holder.node-a", holds("node-a")),
		onLock("hold under no name", free(), "holder.", holds("node-a")),
		onLock("write a key that is neither a holder's nor a waiter's", free(), "node-a", holds("node-a")),
		onLock("write a key with a letter beyond ASCII", free(), "holder.node-а", holds("node-a")),
		onLock("put many keys into the lock", free(), manyKeys()...),
		onLock("overwrite a holder", full(), "holder.node-b", holds("node-a")),
		onLock("remove a holder", full(), "holder.node-b", ""),
		onLock("forge the boot id of a holder", full(), "holder.node-b", b("boot", `"00000000000000000000000000000000"`)),
		onLock("forge the uid of a holder", full(), "holder.node-b", b("uid", `"another"`)),
		onLock("forge the phase of a holder", full(), "holder.node-b", b("phase", `"rebooting"`)),
		onLock("raise the limit in the entry of a holder", full(), "holder.node-b", b("max", "9999")),
		onLock("make the entry of a holder unreadable", full(), "holder.node-b", b("v", "99")),
		onLock("swap the own entry with a holder's", mine().with("holder.node-b", b("max", "3")),
			"holder.node-a", b("max", "3"), "holder.node-b", holds("node-a", "max", "3")),
		onLock("overwrite a waiter", full(), "waiter.node-c", waits("node-c", "priority", "-9999")),
		onLock("remove a waiter", full(), "waiter.node-c", ""),
		onLock("make another node wait", full(), "waiter.node-d", waits("node-d")),
		onLock("make a waiter a holder", scene{lock: map[string]string{"waiter.node-c": waits("node-c")}},
			"waiter.node-c", "", "holder.node-c", holds("node-c")),
		onLock("leave and take another along", mine(), "holder.node-a", "", "waiter.node-c", ""),
		{name: "remove all entries", scene: full(),
			request: request{method: "PATCH", path: lockPath, media: mergePatch, body: `{"data":null}`}},
		{name: "remove all entries by a JSON patch", scene: full(),
			request: request{method: "PATCH", path: lockPath, media: jsonPatch, body: `[{"op":"remove","path":"/data"}]`}},
		{name: "move a holder's entry to the own name", scene: full(), request: request{method: "PATCH", path: lockPath, media: jsonPatch,
			body: `[{"op":"move","from":"/data/holder.node-b","path":"/data/holder.node-a"}]`}},
		{name: "copy a holder's entry to the own name", scene: oneOfThree("max", "1"), request: request{method: "PATCH", path: lockPath,
			media: jsonPatch, body: `[{"op":"copy","from":"/data/holder.node-b","path":"/data/holder.node-a"}]`}},
		{name: "replace all entries by a strategic merge patch", scene: full(), request: request{method: "PATCH", path: lockPath,
			media: strategicPatch, body: `{"data":{"$patch":"replace","holder.node-a":` + quoted(holds("node-a")) + `}}`}},
		{name: "delete by a strategic merge patch", scene: full(), request: request{method: "PATCH", path: lockPath,
			media: strategicPatch, body: `{"$patch":"delete"}`}},
		{name: "name the own key twice in the request", scene: full(), request: request{method: "PATCH", path: lockPath, media: mergePatch,
			body: `{"data":{"holder.node-a":null,"holder.node-a":` + quoted(holds("node-a")) + `}}`}},
		{name: "name the data twice in the request", scene: full(), request: request{method: "PATCH", path: lockPath, media: mergePatch,
			body: `{"data":{},"data":{"holder.node-b":null}}`}},
	}
}

func manyKeys() []string {
	var pairs []string
	for i := range 100 {
		pairs = append(pairs, "waiter.node-a-"+strconv.Itoa(i), waits("node-a"))
	}
	return pairs
}

// attacksByBurial pretend that a node is gone.
func attacksByBurial() []attack {
	burial := func(name string, s scene, pairs ...string) attack {
		return attack{name: name, scene: s, request: burialOf(lockPath, pairs...)}
	}
	labelled := gone()
	labelled.burial = true
	return []attack{
		burial("bury a living holder", full(), "holder.node-b", ""),
		burial("bury a living waiter", full(), "waiter.node-c", ""),
		burial("bury a living node among the gone", gone(), "holder.node-f", "", "waiter.node-f", "", "holder.node-b", ""),
		burial("bury and take in one write", gone(), "holder.node-f", "", "holder.node-a", holds("node-a", "max", "3")),
		burial("bury and wait in one write", gone(), "holder.node-f", "", "waiter.node-a", waits("node-a")),
		burial("bury and release in one write", gone().with("holder.node-a", holds("node-a", "max", "3")),
			"holder.node-f", "", "holder.node-a", ""),
		burial("bury and forge in one write", gone(), "holder.node-f", "", "holder.node-b", holds("node-b", "max", "9")),
		burial("bury nobody", full()),
		burial("take with the label of a burial", free(), "holder.node-a", holds("node-a")),
		onLock("remove the entry of a node that is gone without the label", gone(), "holder.node-f", ""),
		{name: "bury with the label at another value", scene: gone(), request: mergeOf(lockPath, `"yes"`, "holder.node-f", "")},
		{name: "bury with a second label", scene: gone(), request: request{method: "PATCH", path: lockPath, media: mergePatch,
			body: `{"metadata":{"labels":{"kured.dev/burial":"true","app.kubernetes.io/component":null}},"data":{"holder.node-b":null}}`}},
		burial("bury a living node while the label is still there", labelled, "holder.node-b", ""),
		{name: "leave the label where it is", scene: scene{burial: true}, request: request{method: "PATCH", path: lockPath,
			media: mergePatch, body: `{"data":{"waiter.node-a":` + quoted(waits("node-a")) + `}}`}},
		burial("bury an entry of no form", scene{lock: map[string]string{"holder.node-f": "what is this?"}}, "holder.node-f", ""),
		burial("bury an entry without a uid", scene{lock: map[string]string{"holder.node-b": holds("node-b", "uid", "")}}, "holder.node-b", ""),
		burial("bury an entry with two uids", scene{lock: map[string]string{"holder.node-f": holds("node-f", "extra", `"x","uid":"y"`)}},
			"holder.node-f", ""),
		burial("bury a key of no node", scene{lock: map[string]string{"frozen": "yes"}}, "frozen", ""),
	}
}
