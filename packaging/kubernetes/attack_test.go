package kubernetes_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var update = flag.Bool("update", false, "write testdata/attacks.txt anew")

const attacksFile = "testdata/attacks.txt"

// A scene is what an attack finds.
type scene struct {
	lock   map[string]string
	burial bool              // the lock still has the label of the last burial
	policy map[string]string // what kured-policy says
}

// An attack is what the rogue node-a does. Nothing of it may succeed, and nothing in the cluster may have changed after it.
type attack struct {
	name    string
	scene   scene
	as      []string // kinds of credential; all three if empty
	prepare []request
	request request
	either  []string // the policies that refuse it, if more than one: the API server asks them in no order
}

// A harmless deed is something wrong that a node may do, because it can do no harm to others by it.
type harmless struct {
	name     string
	why      string
	scene    scene
	as       []string
	requests []request
}

// The scenes.
func full() scene { // node-b holds the only slot, node-c waits
	return scene{lock: map[string]string{"holder.node-b": holds("node-b"), "waiter.node-c": waits("node-c")}}
}

func free() scene { return scene{} }

func mine() scene { // node-a holds one of three slots
	return scene{lock: map[string]string{"holder.node-a": holds("node-a", "max", "3"), "waiter.node-c": waits("node-c")}}
}

func oneOfThree(changes ...string) scene { // node-b holds one of three slots
	changes = append([]string{"max", "3"}, changes...)
	return scene{lock: map[string]string{"holder.node-b": holds("node-b", changes...)}}
}

func gone() scene { // node-b holds, and so does a node that is gone, which waits as well
	return scene{lock: map[string]string{
		"holder.node-b": holds("node-b", "max", "3"), "holder.node-f": holds("node-f", "max", "3"), "waiter.node-f": waits("node-f"),
	}}
}

// twice marks an attack that two policies refuse: to delete a lock that is held.
func twice(a attack) attack {
	a.either = []string{"kured-lock", "kured-lock-keep"}
	return a
}

func (s scene) with(key, value string) scene {
	lock := map[string]string{key: value}
	for k, v := range s.lock {
		lock[k] = v
	}
	s.lock = lock
	return s
}

func (s scene) under(rules ...string) scene {
	s.policy = map[string]string{}
	for pair := range slices.Chunk(rules, 2) {
		s.policy[pair[0]] = pair[1]
	}
	return s
}

func (w *world) set(t testing.TB, s scene) {
	t.Helper()
	entries := map[string]string{}
	for key, value := range s.lock {
		entries[key] = w.uids.Replace(value)
	}
	w.setLock(t, entries, s.burial)
	w.setPolicy(t, s.policy)
}

// TestAttacks lets node-a try everything that a node must not be able to do, with each credential that it can have. The
// answers are in testdata/attacks.txt.
func TestAttacks(t *testing.T) {
	w := theWorld(t)
	callers := map[string]caller{}
	for _, kind := range []string{byKubelet, byCertificate, byToken, byMore} {
		callers[kind] = w.caller(t, kind, "node-a")
	}
	for _, stranger := range w.strangers(t) {
		callers[stranger.name] = stranger
	}
	callers[byPod] = w.podCaller(t)
	for _, r := range []request{eventOf("POST", "", "of-the-kubelet", "node-a", "kubelet"), eventOf("POST", "", "of-node-b", "node-b", "kured")} {
		if got := w.send(t, w.admin, r); got.refused() && got.code != http.StatusConflict { // it is there already
			t.Fatalf("%d %s", got.code, got.message)
		}
	}
	attacks := slices.Concat(attacksOnSlots(), attacksOnOthers(), attacksByBurial(), attacksOnTerms(), attacksByForm(),
		attacksOnObject(), attacksOnNodes(), attacksOnPods(), attacksOnEvents(), attacksOnTokens(), attacksOnRights())

	var report bytes.Buffer
	fmt.Fprintf(&report, "%s\n", strings.TrimSpace(golden))
	names := map[string]bool{}
	for number, a := range attacks {
		if names[a.name] {
			t.Errorf("two attacks with the name %q", a.name)
		}
		names[a.name] = true
		fmt.Fprintf(&report, "\n%d. %s\n", number+1, a.name)
		a.run(t, w, callers, &report)
	}
	fmt.Fprintf(&report, "\n\nHARMLESS BY DESIGN\n")
	for number, h := range harmlessDeeds() {
		fmt.Fprintf(&report, "\n%d. %s\nWhy: %s\n", number+1, h.name, h.why)
		h.run(t, w, callers, &report)
	}
	fmt.Fprintf(&report, "\n\nAFTER THE NODE HAS BEEN DELETED\n\n")
	w.afterItsNode(t, &report)
	if len(attacks) < 30 {
		t.Errorf("%d attacks, want 30 or more", len(attacks))
	}
	compare(t, report.Bytes())
}

const golden = `
What a node tries against the lock, and what the API server answers. Written by TestAttacks (-update); a change here is a
change of what a node can do. The node is node-a; its credential is the kubelet's, a certificate made for kured, or a token
bound to the Node; "privileged" is a kubelet to whom somebody gave every right on ConfigMaps, and the others are no nodes.
After each attack the lock and all that is around it are as they were.
`

func (a attack) run(t *testing.T, w *world, callers map[string]caller, report *bytes.Buffer) {
	t.Helper()
	for _, r := range a.prepare {
		describe(report, "first, allowed: ", r)
	}
	describe(report, "", a.request)
	var answers []string
	var said [][]string
	for _, kind := range kinds(a.as) {
		w.set(t, a.scene)
		for _, r := range a.prepare {
			w.must(t, callers[kind], r)
		}
		before := w.picture(t)
		got := w.send(t, callers[kind], a.request)
		if !got.refused() {
			t.Errorf("%s, as %s: succeeded with %d %s", a.name, kind, got.code, got.body)
		}
		if after := w.picture(t); after != before {
			t.Errorf("%s, as %s: before\n%s\nafter\n%s", a.name, kind, before, after)
		}
		text := fmt.Sprintf("%d %s", got.code, got.message)
		for _, policy := range a.either {
			if strings.Contains(text, "Policy '"+policy+"'") {
				text = fmt.Sprintf("%d by one of the policies %s", got.code, strings.Join(a.either, " and "))
			}
		}
		if i := slices.Index(answers, text); i >= 0 {
			said[i] = append(said[i], kind)
		} else {
			answers, said = append(answers, text), append(said, []string{kind})
		}
	}
	for i, text := range answers {
		fmt.Fprintf(report, "  %s: %s\n", strings.Join(said[i], ", "), text)
	}
}

func (h harmless) run(t *testing.T, w *world, callers map[string]caller, report *bytes.Buffer) {
	t.Helper()
	for _, r := range h.requests {
		describe(report, "", r)
	}
	for _, kind := range kinds(h.as) {
		w.set(t, h.scene)
		for _, r := range h.requests {
			if got := w.send(t, callers[kind], r); got.refused() {
				t.Errorf("%s, as %s: %s: %d %s", h.name, kind, r.path, got.code, got.message)
			}
		}
	}
	fmt.Fprintf(report, "  %s: allowed\n", strings.Join(kinds(h.as), ", "))
}

// afterItsNode has the three credentials of a node take the lock when its Node is no more.
func (w *world) afterItsNode(t *testing.T, report *bytes.Buffer) {
	t.Helper()
	nodes := w.plane.Admin().CoreV1().Nodes()
	if _, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-e"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	take, bury := patchOf(lockPath, "holder.node-e", holds("node-e")), burialOf(lockPath, "holder.node-e", "")
	describe(report, "", take)
	w.set(t, free())
	var gone []caller
	for _, kind := range []string{byKubelet, byCertificate, byToken} {
		c := w.caller(t, kind, "node-e")
		w.must(t, c, take)
		w.must(t, c, patchOf(lockPath, "holder.node-e", ""))
		gone = append(gone, c)
	}
	if err := nodes.Delete(t.Context(), "node-e", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// The API server remembers for 10 s that a token was good.
	w.await(t, gone[2], request{method: "GET", path: lockPath}, "Unauthorized")
	for _, c := range gone {
		w.set(t, free())
		got := w.send(t, c, take)
		if !got.refused() {
			// It does not count: any node may bury it.
			w.must(t, w.node, bury)
			got.message = "allowed, and then buried by another node"
		}
		fmt.Fprintf(report, "  %s: %d %s\n", c.name, got.code, got.message)
	}
}

func kinds(as []string) []string {
	if len(as) == 0 {
		return []string{byKubelet, byCertificate, byToken}
	}
	return as
}

// describe writes a request, a long body shortened in the middle.
func describe(report *bytes.Buffer, prefix string, r request) {
	media := ""
	if r.media != "" {
		media = " as " + strings.TrimPrefix(r.media, "application/")
	}
	if r.header != "" {
		media += " with " + r.header
	}
	fmt.Fprintf(report, "%s%s %s%s\n", prefix, r.method, r.path, media)
	if body := r.body; len(body) > 700 {
		fmt.Fprintf(report, "%s ... %d bytes ... %s\n", body[:300], len(body)-600, body[len(body)-300:])
	} else if body != "" {
		fmt.Fprintf(report, "%s\n", body)
	}
}

func compare(t *testing.T, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(attacksFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(attacksFile)
	if err != nil {
		t.Fatal(err)
	}
	wantLines, gotLines := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range max(len(wantLines), len(gotLines)) {
		line := func(lines []string) string {
			if i < len(lines) {
				return lines[i]
			}
			return "(the end)"
		}
		if line(wantLines) != line(gotLines) {
			t.Fatalf("%s:%d (run with -update if it is right)\n have %s\n want %s", attacksFile, i+1, line(gotLines), line(wantLines))
		}
	}
}
