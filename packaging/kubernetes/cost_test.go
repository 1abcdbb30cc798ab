package kubernetes_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/testenv"
)

// BenchmarkWall measures what the policies cost: writes of the lock, burials, evictions and deletions, in a small cluster and in
// one of 2,000 nodes. The order matters: the wall and then the nodes are added.
//
//	go test -run '^$' -bench Wall -benchtime 100x ./packaging/kubernetes
func BenchmarkWall(b *testing.B) {
	plane := testenv.New(b, testenv.Options{})
	w := &world{plane: plane, admin: newCaller(b, "admin", plane.AdminConfig())}
	createNodes(b, plane.Admin(), "node-a")
	w.learnUIDs(b)
	applyFile(b, plane, "kured.yaml")
	node := w.caller(b, byKubelet, "node-a")
	for w.send(b, node, patchOf(lockPath+"?dryRun=All", "waiter.node-a", waits("node-a"))).refused() {
	}

	b.Run("take and release without a wall", func(b *testing.B) { w.takeAndRelease(b, node) })
	b.Run("eviction among 1 pod without the policy", func(b *testing.B) { w.evict(b, plane, w.admin, 1) })
	b.Run("deletion without the policy", func(b *testing.B) { w.remove(b, w.admin) })
	applyFile(b, plane, "identity.yaml")
	applyFile(b, plane, "wall.yaml")
	w.setLock(b, map[string]string{"holder.node-a": "{}"}, false)
	w.await(b, w.admin, request{method: "DELETE", path: lockPath + "?dryRun=All"}, "kured-lock-keep")
	w.setLock(b, nil, false)
	b.Run("take and release", func(b *testing.B) { w.takeAndRelease(b, node) })
	w.must(b, w.admin, request{method: "PATCH", path: policyPath, media: mergePatch, body: `{"data":{"max":"3","waiting_room":"8"}}`})
	b.Run("take and release under a policy", func(b *testing.B) { w.takeAndRelease(b, node) })
	b.Run("take and release among 99 holders", func(b *testing.B) {
		crowd := map[string]string{}
		for i := range 99 {
			crowd[fmt.Sprintf("holder.other-%d", i)] = holds("node-f", "max", "9999")
		}
		w.must(b, w.admin, request{method: "PATCH", path: policyPath, media: mergePatch, body: `{"data":{"max":"100%"}}`})
		w.setLock(b, crowd, false)
		w.takeAndRelease(b, node)
		w.setLock(b, nil, false)
	})
	dedicated := w.caller(b, byCertificate, "node-a")
	for _, nodes := range []int{1, 2000} {
		for i := 1; i < nodes; i++ {
			createNodes(b, plane.Admin(), fmt.Sprintf("other-%d", i))
		}
		b.Run(fmt.Sprintf("take and release, %d nodes", nodes), func(b *testing.B) { w.takeAndRelease(b, node) })
		b.Run(fmt.Sprintf("burial, %d nodes", nodes), func(b *testing.B) {
			defer serverTime(b)() // with what prepares each round
			for b.Loop() {
				b.StopTimer()
				w.setLock(b, map[string]string{"holder.node-f": holds("node-f")}, false)
				b.StartTimer()
				w.must(b, node, burialOf(lockPath, "holder.node-f", ""))
			}
		})
		b.Run(fmt.Sprintf("write after a burial, %d nodes", nodes), func(b *testing.B) {
			defer serverTime(b)() // with what prepares each round
			for b.Loop() {
				b.StopTimer()
				w.setLock(b, nil, true)
				b.StartTimer()
				w.must(b, node, patchOf(lockPath, "holder.node-a", holds("node-a")))
			}
		})
		w.setLock(b, nil, false)
	}
	b.Run("deletion by kured", func(b *testing.B) { w.remove(b, dedicated) })
	b.Run("deletion by others", func(b *testing.B) { w.remove(b, w.admin) })
	for _, pods := range []int{1, 500, 2000} {
		b.Run(fmt.Sprintf("eviction among %d pods by kured", pods), func(b *testing.B) { w.evict(b, plane, dedicated, pods) })
		b.Run(fmt.Sprintf("eviction among %d pods by others", pods), func(b *testing.B) { w.evict(b, plane, w.admin, pods) })
	}
}

// serverTime reports the API server's processor time for each round besides, which other load on the machine hardly
// changes. To be called at the beginning, and what it returns at the end.
func serverTime(b *testing.B) (report func()) {
	b.Helper()
	before := processorTime(b)
	return func() {
		spent := processorTime(b) - before
		b.ReportMetric(float64(spent.Milliseconds())/float64(b.N), "server-ms/op")
	}
}

// processorTime is that of the API server, a child of this process, so far: proc(5), fields 4, 14 and 15 of stat, in
// hundredths of a second.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	var ticks int
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 13 || fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		if args, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline")); err != nil || !strings.Contains(string(args), "\x00"+testenv.APIServer+"\x00") {
			continue
		}
		for _, field := range fields[11:13] {
			n, err := strconv.Atoi(field)
			if err != nil {
				b.Fatal(err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// takeAndRelease measures two writes.
func (w *world) takeAndRelease(b *testing.B, node caller) {
	defer serverTime(b)()
	for b.Loop() {
		w.must(b, node, patchOf(lockPath, "holder.node-a", holds("node-a", "max", "9999")))
		w.must(b, node, patchOf(lockPath, "holder.node-a", ""))
	}
}

// evict measures evictions as a dry run, in a namespace with that many pods.
func (w *world) evict(b *testing.B, plane *testenv.ControlPlane, who caller, pods int) {
	all := plane.Admin().CoreV1().Pods("default")
	existing, err := all.List(b.Context(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for i := len(existing.Items); i < pods; i++ {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%d", i)},
			Spec:       corev1.PodSpec{NodeName: "node-a", Containers: []corev1.Container{{Name: "c", Image: "c"}}},
		}
		if _, err := all.Create(b.Context(), pod, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	defer serverTime(b)()
	for b.Loop() {
		w.must(b, who, w.eviction("pod-0", "pod-0"))
	}
}

// remove measures deletions of the pod that evict has made first, as a dry run.
func (w *world) remove(b *testing.B, who caller) {
	defer serverTime(b)()
	for b.Loop() {
		w.must(b, who, request{method: "DELETE", path: podsPath + "pod-0?dryRun=All"})
	}
}

// createNodes makes Nodes of the size that they have: what fills one is its list of images, 50 at most.
func createNodes(b *testing.B, client kubernetes.Interface, names ...string) {
	b.Helper()
	var images []corev1.ContainerImage
	for i := range 50 {
		images = append(images, corev1.ContainerImage{SizeBytes: 1 << 26, Names: []string{
			fmt.Sprintf("registry.example.org/team/image-%d@sha256:%s", i, strings.Repeat("0123456789abcdef", 4)),
			fmt.Sprintf("registry.example.org/team/image-%d:v1.2.3", i)}})
	}
	for _, name := range names {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Images: images}}
		if _, err := client.CoreV1().Nodes().Create(b.Context(), node, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
