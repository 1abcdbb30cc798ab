package fleet_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/fleet"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
)

var plane *testenv.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(testenv.Main(m, testenv.Options{}, func(cp *testenv.ControlPlane) { plane = cp }))
}

// lab is a pool of its own on the real API server.
type lab struct {
	t    *testing.T
	name string // of the namespace, the pool and the prefix of its nodes
}

func newLab(t *testing.T) *lab {
	l := &lab{t, strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")) + fmt.Sprint(time.Now().UnixNano()%100000)}
	_, err := plane.Admin().CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.name}}, metav1.CreateOptions{})
	l.must(err)
	_, err = plane.Admin().CoreV1().ConfigMaps(l.name).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kured-lock"}}, metav1.CreateOptions{})
	l.must(err)
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) node(name, announced string) {
	l.t.Helper()
	obj := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: l.name + "-" + name, Labels: map[string]string{"pool": l.name}}}
	if announced != "" {
		obj.Annotations = map[string]string{"kured.dev/status": announced}
	}
	_, err := plane.Admin().CoreV1().Nodes().Create(l.t.Context(), obj, metav1.CreateOptions{})
	l.must(err)
}

func (l *lab) announce(name, text string) {
	l.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"kured.dev/status":%q}}}`, text)
	_, err := plane.Admin().CoreV1().Nodes().Patch(l.t.Context(), l.name+"-"+name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	l.must(err)
}

func (l *lab) lock(key, value string) {
	l.t.Helper()
	patch := fmt.Sprintf(`{"data":{%q:%q}}`, key, value)
	_, err := plane.Admin().CoreV1().ConfigMaps(l.name).Patch(l.t.Context(), "kured-lock", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	l.must(err)
}

func (l *lab) fleet(client kubernetes.Interface) fleet.Fleet {
	object := lock.ConfigMap{Client: client, Namespace: l.name, Name: "kured-lock", PolicyName: "kured-policy"}
	half := intstr.FromString("50%")
	return fleet.Fleet{Client: client, Selector: "pool=" + l.name, Lock: object,
		Viewer: lock.Viewer{Rules: object, Policy: "kured-policy", Pace: lock.DefaultPace(), Max: &half}}
}

func TestListReal(t *testing.T) {
	l := newLab(t)
	l.node("a", "")
	l.node("b", `{"v":1,"phase":"idle","since":"2026-11-22T12:00:00Z","boot":"x","version":"1.0.0"}`)
	l.node("c", "")
	l.node("d", `{"v":1,"phase":"blocked","reason":"outside-window","since":"2026-11-22T12:00:00Z","boot":"x","version":"1.0.0"}`)
	l.lock("holder."+l.name+"-c", `{"v":1,"boot":"`+strings.Repeat("a", 32)+`","phase":"draining","since":"2026-11-22T12:00:00Z","max":9,"uid":"u"}`)
	v, err := l.fleet(plane.Admin()).List(t.Context())
	l.must(err)
	if got := v.Summary(); got != "4 nodes: 1 draining (of 2 allowed), 1 blocked (outside-window), 1 idle, 1 unknown" {
		t.Errorf("%s\n%+v", got, v)
	}
	if r, found, err := l.fleet(plane.Admin()).One(t.Context(), l.name+"-d"); err != nil || !found || r.Reason != status.OutsideWindow {
		t.Errorf("one: %+v, %v, %v", r, found, err)
	}
	if _, found, err := l.fleet(plane.Admin()).One(t.Context(), "nobody"); err != nil || found {
		t.Errorf("nobody: %v, %v", found, err)
	}
}

// What changes is shown within seconds; a hundred changes at once are a few pictures; a lost API server is told, not an end.
func TestWatchReal(t *testing.T) {
	l := newLab(t)
	l.node("a", `{"v":1,"phase":"idle","since":"2026-11-22T12:00:00Z","boot":"x","version":"1"}`)
	var mu sync.Mutex
	var seen []fleet.View
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- l.fleet(plane.Admin()).Watch(ctx, func(v fleet.View) error {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, v)
			return nil
		})
	}()
	await := func(what string, ok func(v fleet.View) bool) (pictures int) {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			mu.Lock()
			n := len(seen)
			good := n > 0 && ok(seen[n-1])
			mu.Unlock()
			if good {
				return n
			}
		}
		t.Fatalf("never: %s; %+v", what, seen)
		return 0
	}
	before := await("idle", func(v fleet.View) bool { return len(v.Nodes) == 1 && v.Nodes[0].Phase == status.Idle })
	for i := range 100 {
		l.announce("a", fmt.Sprintf(`{"v":1,"phase":"blocked","reason":"inhibited","detail":"%d","since":"2026-11-22T12:00:00Z","boot":"x","version":"1"}`, i))
	}
	began := time.Now()
	after := await("the last change", func(v fleet.View) bool { return v.Nodes[0].Detail == "99" })
	if n := after - before; n > 3+int(time.Since(began)/time.Second)*2+10 {
		t.Errorf("%d pictures of 100 changes", n)
	}
	l.lock("waiter."+l.name+"-a", `{"v":1,"since":"2026-11-22T12:00:00Z","priority":0,"uid":"u"}`)
	await("its place", func(v fleet.View) bool { return v.Nodes[0].Place == 1 })
	l.node("b", "")
	await("a new node", func(v fleet.View) bool { return len(v.Nodes) == 2 })
	l.must(plane.Admin().CoreV1().Nodes().Delete(t.Context(), l.name+"-b", metav1.DeleteOptions{}))
	await("that it is gone", func(v fleet.View) bool { return len(v.Nodes) == 1 })

	l.must(plane.StopAPIServer())
	await("that the API server is gone", func(v fleet.View) bool { return v.Stale != "" && len(v.Nodes) == 1 })
	l.must(plane.StartAPIServer(t.Context()))
	await("that it is back", func(v fleet.View) bool { return v.Stale == "" })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestPauseReal(t *testing.T) {
	l := newLab(t)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	p := fleet.Pauser{Client: plane.Admin(), Namespace: l.name, Policy: "kured-policy", By: "alice", Now: func() time.Time { return now }}
	object := lock.ConfigMap{Client: plane.Admin(), Namespace: l.name, Name: "kured-lock", PolicyName: "kured-policy"}
	said := func(done []string, err error, want ...string) {
		t.Helper()
		if err != nil || !slices.Equal(done, want) {
			t.Errorf("said %q, %v; want %q", done, err, want)
		}
	}
	closed := func(want string) {
		t.Helper()
		policy, err := object.Policy(t.Context())
		l.must(err)
		for _, skew := range []time.Duration{-10 * time.Minute, time.Minute} { // of the nodes' clocks
			if _, detail, _ := policy.Closed(now.Add(skew)); detail != want {
				t.Errorf("nodes %s ahead read %q, want %q", skew, detail, want)
			}
		}
	}
	done, err := p.Resume(t.Context())
	said(done, err, "all nodes: was not paused here")
	if _, err := plane.Admin().CoreV1().ConfigMaps(l.name).Get(t.Context(), "kured-policy", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a policy out of nothing: %v", err)
	}
	done, err = p.Pause(t.Context(), time.Time{}, "release day")
	said(done, err, "all nodes: paused until somebody resumes it")
	closed("paused for the whole cluster: release day; by alice, 2026-11-22T12:00:00Z")

	const owners = "2030-01-01/2030-01-02 holidays\n"
	_, err = plane.Admin().CoreV1().ConfigMaps(l.name).Patch(t.Context(), "kured-policy", types.MergePatchType,
		[]byte(`{"data":{"max":"2","freeze":"2030-01-01/2030-01-02 holidays","paused.other":"repair"}}`), metav1.PatchOptions{})
	l.must(err)
	done, err = p.Pause(t.Context(), now.Add(time.Hour), "disk\nwork")
	said(done, err, "paused before: release day; by alice, 2026-11-22T12:00:00Z", "all nodes: paused until 2026-11-22T13:00:00Z")
	closed("frozen until 2026-11-22T13:00:00Z: pause: disk work; by alice, 2026-11-22T12:00:00Z")
	done, err = p.Pause(t.Context(), now.Add(2*time.Hour), "more disk work")
	said(done, err, "paused before: 2026-11-22T11:00:00Z/2026-11-22T13:00:00Z pause: disk work; by alice, 2026-11-22T12:00:00Z",
		"all nodes: paused until 2026-11-22T14:00:00Z")
	own := p
	own.Lock = "kured-lock"
	done, err = own.Pause(t.Context(), time.Time{}, "this pool")
	said(done, err, "the nodes of the lock "+l.name+"/kured-lock: paused until somebody resumes it")
	done, err = p.Resume(t.Context())
	said(done, err, "all nodes: not paused any more", "still paused, for the lock kured-lock: this pool; by alice, 2026-11-22T12:00:00Z", "still paused, for the lock other: repair")
	closed("paused for the whole cluster: this pool; by alice, 2026-11-22T12:00:00Z")
	done, err = own.Resume(t.Context())
	said(done, err, "the nodes of the lock "+l.name+"/kured-lock: not paused any more", "still paused, for the lock other: repair")
	closed("")
	cm, err := plane.Admin().CoreV1().ConfigMaps(l.name).Get(t.Context(), "kured-policy", metav1.GetOptions{})
	l.must(err)
	if want := map[string]string{"max": "2", "freeze": owners, "paused.other": "repair"}; !maps.Equal(cm.Data, want) {
		t.Errorf("left %q, want %q", cm.Data, want)
	}
	for reason, until := range map[string]time.Time{" \n": {}, "x": now} {
		if _, err := p.Pause(t.Context(), until, reason); err == nil {
			t.Errorf("paused for %q until %s", reason, until)
		}
	}

	// Many at once, of different locks: nobody's word is lost.
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			p := p
			p.Lock = fmt.Sprintf("pool-%d", i)
			if _, err := p.Pause(t.Context(), time.Time{}, "together"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	cm, err = plane.Admin().CoreV1().ConfigMaps(l.name).Get(t.Context(), "kured-policy", metav1.GetOptions{})
	l.must(err)
	if len(cm.Data) != 7 {
		t.Errorf("after four at once: %q", cm.Data)
	}
}
