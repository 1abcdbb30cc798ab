package fleet

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

const bootA, bootB = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

var at = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// says is the text of an announcement.
func says(a node.Announcement) string {
	a.V = 1
	if a.Since.IsZero() {
		a.Since = at
	}
	if a.Boot == "" {
		a.Boot = bootA
	}
	b, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// nodes makes members that are Ready and of boot A.
func nodes(announced map[string]string) map[string]member {
	members := map[string]member{}
	for name, text := range announced {
		members[name] = member{peer: lock.Peer{Name: name, Ready: true}, boot: bootA, announced: text}
	}
	return members
}

func holder(boot string, phase status.Phase) string {
	return fmt.Sprintf(`{"v":1,"boot":"%s","phase":"%s","since":"2026-11-22T11:00:00Z","max":1,"reason":"linux-image","uid":"u"}`, boot, phase)
}

const waiter = `{"v":1,"since":"2026-11-22T11:30:00Z","priority":0,"uid":"u"}`

// Who has the word: the lock, the boot id, and else the node.
func TestRows(t *testing.T) {
	old := nodes(map[string]string{"n": says(node.Announcement{Phase: status.Rebooting, Boot: bootA, Cycle: bootA})})
	rebooted := old["n"]
	rebooted.boot = bootB
	for _, c := range []struct {
		name    string
		members map[string]member
		lock    map[string]string
		want    string // phase reason lock place problem
	}{
		{"never seen", nodes(map[string]string{"n": ""}), nil, "unknown   0 "},
		{"idle", nodes(map[string]string{"n": says(node.Announcement{Phase: status.Idle})}), nil, "idle   0 "},
		{"blocked", nodes(map[string]string{"n": says(node.Announcement{Phase: status.Blocked, Reason: status.OutsideWindow})}), nil, "blocked outside-window  0 "},
		{"garbage", nodes(map[string]string{"n": "\x1b[2J"}), nil, "unknown   0 its announcement cannot be read: no JSON object with a version v"},
		{"of a newer kured", nodes(map[string]string{"n": `{"v":2}`}), nil, "unknown   0 its announcement cannot be read: version 2, this kured reads version 1"},
		{"of an earlier boot", nodes(map[string]string{"n": says(node.Announcement{Phase: status.Blocked, Reason: status.Inhibited, Boot: bootB})}), nil,
			"blocked inhibited  0 that is what it said before its last boot"},
		{"claims to drain", nodes(map[string]string{"n": says(node.Announcement{Phase: status.Draining, Cycle: bootA})}), nil,
			"draining   0 it says draining and does not hold the lock"},
		{"claims to hold and waits", nodes(map[string]string{"n": says(node.Announcement{Phase: status.Draining, Cycle: bootA})}),
			map[string]string{"waiter.n": waiter}, "queued  waits 1 "},
		{"waits and says why", nodes(map[string]string{"n": says(node.Announcement{Phase: status.Queued, Reason: status.LockFull})}),
			map[string]string{"waiter.n": waiter}, "queued lock-full waits 1 "},
		{"waits outside", nodes(map[string]string{"n": says(node.Announcement{Phase: status.Queued, Reason: status.RoomFull})}), nil, "queued room-full  0 "},
		{"holds, says nothing", nodes(map[string]string{"n": ""}), map[string]string{"holder.n": holder(bootA, status.Locked)}, "locked  holds 0 "},
		{"holds, says less", nodes(map[string]string{"n": says(node.Announcement{Phase: status.Blocked, Cycle: bootA})}),
			map[string]string{"holder.n": holder(bootA, status.Draining)}, "draining  holds 0 "},
		{"holds, says more", nodes(map[string]string{"n": says(node.Announcement{Phase: status.Held, Reason: status.DrainTimeout, Cycle: bootA})}),
			map[string]string{"holder.n": holder(bootA, status.Draining)}, "held drain-timeout holds 0 "},
		{"holds, says more of another cycle", nodes(map[string]string{"n": says(node.Announcement{Phase: status.Held, Reason: status.DrainTimeout, Cycle: bootB})}),
			map[string]string{"holder.n": holder(bootA, status.Draining)}, "draining  holds 0 "},
		{"reboots", old, map[string]string{"holder.n": holder(bootA, status.Rebooting)}, "rebooting  holds 0 "},
		{"is back, and its kured has not said so", map[string]member{"n": {peer: rebooted.peer, boot: bootB}},
			map[string]string{"holder.n": holder(bootA, status.Rebooting)}, "returning awaiting-return holds 0 "},
		{"is back", map[string]member{"n": {boot: bootB, announced: says(node.Announcement{Phase: status.Returning, Reason: status.NotReady, Boot: bootB, Cycle: bootA})}},
			map[string]string{"holder.n": holder(bootA, status.Rebooting)}, "returning not-ready holds 0 "},
		{"gone", nil, map[string]string{"holder.n": holder(bootA, status.Rebooting)}, "rebooting  holds 0 there is no such node in this pool"},
		{"damaged entry", nodes(map[string]string{"n": says(node.Announcement{Phase: status.Idle})}), map[string]string{"holder.n": "{}"},
			"held entry-unreadable unreadable 0 its entry in the lock cannot be read and counts as a holder: version 0, this kured reads version 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, strange := rows(c.members, lock.Parse(c.lock))
			if len(all) != 1 || len(strange) != 0 {
				t.Fatalf("%+v, %+v", all, strange)
			}
			r := all[0]
			if got := fmt.Sprintf("%s %s %s %d %s", r.Phase, r.Reason, r.Lock, r.Place, r.Problem); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
	_, strange := rows(nil, lock.Parse(map[string]string{"x": "y"}))
	if len(strange) != 1 || strange[0].Key != "x" {
		t.Errorf("a key that is nobody's: %+v", strange)
	}
}

// A row says of its own node only, whatever the node writes.
func TestRowsAreBounded(t *testing.T) {
	evil := nodes(map[string]string{
		"evil": `{"v":1,"phase":"idle","node":"good","lock":"holds","place":1,"detail":"` + strings.Repeat(`x\u001b`, 300) + `","packages":["` + strings.Repeat("y", 900) + `"]}`,
		"good": says(node.Announcement{Phase: status.Idle}),
	})
	all, _ := rows(evil, lock.Parse(nil))
	if len(all) != 2 || all[0].Node != "evil" || all[0].Lock != "" || all[0].Place != 0 || all[1].Phase != status.Idle {
		t.Errorf("%+v", all)
	}
	if text := fmt.Sprintf("%+v", all); len(text) > 1500 || strings.Contains(text, "\x1b") {
		t.Errorf("%d bytes: %q", len(text), text)
	}
}

// pool14 is a cluster in which much goes on.
func pool14() (map[string]member, lock.State) {
	members := nodes(map[string]string{
		"a": "", "b": says(node.Announcement{Phase: status.Idle}), "c": says(node.Announcement{Phase: status.Blocked, Reason: status.OutsideWindow}),
		"d": says(node.Announcement{Phase: status.Blocked, Reason: status.Inhibited}), "e": says(node.Announcement{Phase: status.Blocked, Reason: status.OutsideWindow}),
		"f": "", "g": "", "h": says(node.Announcement{Phase: status.Queued, Reason: status.RoomFull}),
		"i": says(node.Announcement{Phase: status.Idle}), "k": says(node.Announcement{Phase: status.Held, Reason: status.RebootBudget}),
		"z": says(node.Announcement{Phase: status.Draining, Cycle: bootA}),
	})
	return members, lock.Parse(map[string]string{
		"holder.z": holder(bootA, status.Draining),
		"waiter.g": waiter, "waiter.f": strings.Replace(waiter, "11:30", "11:40", 1),
	})
}

func TestOrderAndSummary(t *testing.T) {
	members, s := pool14()
	v := View{Limit: 1}
	v.Nodes, v.Strange = rows(members, s)
	var order []string
	for _, r := range v.Nodes {
		order = append(order, r.Node)
	}
	if got := strings.Join(order, " "); got != "z g f h c d e k a b i" {
		t.Errorf("order %s", got)
	}
	for _, c := range []struct {
		v    View
		want string
	}{
		{v, "11 nodes: 1 draining (of 1 allowed), 3 queued, 1 held (reboot-budget), 3 blocked (2 outside-window, 1 inhibited), 2 idle, 1 unknown"},
		{View{Nodes: v.Nodes}, "11 nodes: 1 draining, 3 queued, 1 held (reboot-budget), 3 blocked (2 outside-window, 1 inhibited), 2 idle, 1 unknown"},
		{View{Limit: 3, Nodes: []Row{{Phase: status.Rebooting, Lock: Holds}, {Phase: status.Draining, Lock: Holds}}},
			"2 nodes: 1 rebooting, 1 draining, 2 of 3 allowed hold the lock"},
		{View{Limit: 1, Nodes: []Row{{Phase: status.Idle}}, Strange: []lock.Unreadable{{Key: "x"}}}, "1 node: 1 idle, 1 of 1 allowed hold the lock"},
		{View{Limit: 1}, "0 nodes"},
		{View{Nodes: []Row{{Phase: status.Blocked, Reason: status.OutsideWindow}, {Phase: status.Blocked, Reason: status.OutsideWindow}}}, "2 nodes: 2 blocked (outside-window)"},
	} {
		if got := c.v.Summary(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestMemberOf(t *testing.T) {
	obj := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"node-role.kubernetes.io/control-plane": ""},
		Annotations: map[string]string{node.StatusAnnotation: "x"}}}
	obj.Spec.Unschedulable = true
	obj.Status.NodeInfo.BootID = "AAAAAAAA-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
	obj.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if got := memberOf(obj); got != (member{lock.Peer{Name: "n", Ready: true, Cordoned: true, ControlPlane: true}, bootA, "x"}) {
		t.Errorf("%+v", got)
	}
}
