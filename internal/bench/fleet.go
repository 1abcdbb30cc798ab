package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/testenv"
)

// A way to learn which Nodes are available, beside others.
type way struct {
	name   string
	rounds int
	list   func(context.Context) (nodes int, err error)
}

// cost is what a way took, of the client and of the API server.
type cost struct {
	way
	times     []time.Duration
	wire      int64         // bytes from the API server, all rounds
	allocated uint64        // bytes in the client, all rounds
	cpu       time.Duration // of the API server, all rounds
	nodes     int
}

// fleet measures what it costs to look at all Nodes of a large cluster, on a
// control plane of its own.
func fleet(ctx context.Context, nodes int) (section, error) {
	plane, err := testenv.Start(ctx, testenv.Options{})
	if err != nil {
		return section{}, err
	}
	defer plane.Stop()
	if err := plane.Apply(ctx, []byte(mayListNodes)); err != nil {
		return section{}, err
	}
	size, err := addNodes(ctx, plane.Admin(), nodes)
	if err != nil {
		return section{}, err
	}
	c, meter, err := metered(ctx, plane, nodeName(0))
	if err != nil {
		return section{}, err
	}
	defer meter.close()
	defer c.CloseIdle()

	objects := func(o metav1.ListOptions) func(context.Context) (int, error) {
		return func(ctx context.Context) (int, error) {
			o.ResourceVersion = "0"
			list, err := c.Client.CoreV1().Nodes().List(ctx, o)
			return len(list.Items), err
		}
	}
	// A real cluster's API server is asked by many, all day long: the first answers are not the measure.
	ways := []way{
		{"kured: a Table of all", 100, func(ctx context.Context) (int, error) {
			peers, err := lock.Nodes{Client: c.Client}.Nodes(ctx)
			return len(peers), err
		}},
		{"all objects, as protobuf", 10, objects(metav1.ListOptions{})},
		{"objects of the cordoned only, as protobuf", 100, objects(metav1.ListOptions{FieldSelector: "spec.unschedulable=true"})},
	}
	s := section{
		title:  fmt.Sprintf("One look at a cluster of %d Nodes, each an object of %.1f KiB as JSON", nodes, float64(size)/1024),
		header: []string{"way", "Nodes in the answer", "bytes on the wire", "time", "allocated in the client", "CPU of the API server"},
	}
	for _, w := range ways {
		cost, err := measureWay(ctx, plane.Admin(), meter, w)
		if err != nil {
			return section{}, fmt.Errorf("%s: %w", w.name, err)
		}
		s.rows = append(s.rows, cost.row())
	}
	return s, nil
}

func measureWay(ctx context.Context, admin kubernetes.Interface, meter *meter, w way) (cost, error) {
	c := cost{way: w}
	for range 2 { // connection and caches are warm after it
		var err error
		if c.nodes, err = w.list(ctx); err != nil {
			return c, err
		}
	}
	cpu, err := serverCPU(ctx, admin)
	if err != nil {
		return c, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	wire := meter.bytes.Load()
	for range w.rounds {
		began := time.Now()
		if _, err := w.list(ctx); err != nil {
			return c, err
		}
		c.times = append(c.times, time.Since(began))
	}
	c.wire = meter.bytes.Load() - wire
	runtime.ReadMemStats(&after)
	c.allocated = after.TotalAlloc - before.TotalAlloc
	end, err := serverCPU(ctx, admin)
	c.cpu = end - cpu
	return c, err
}

func (c cost) row() []string {
	n := len(c.times)
	return []string{
		c.name, fmt.Sprint(c.nodes), kibi(float64(c.wire) / float64(n)),
		fmt.Sprintf("p50 %s, p99 %s (of %d)", millis(percentile(c.times, 50)), millis(percentile(c.times, 99)), n),
		kibi(float64(c.allocated) / float64(n)), millis(c.cpu / time.Duration(n)),
	}
}

func kibi(bytes float64) string {
	if bytes >= 1<<20 {
		return fmt.Sprintf("%.1f MiB", bytes/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", bytes/1024)
}

// serverCPU is the processor time that the API server has used.
func serverCPU(ctx context.Context, admin kubernetes.Interface) (time.Duration, error) {
	text, err := admin.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "process_cpu_seconds_total "); ok {
			seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return time.Duration(seconds * float64(time.Second)), err
		}
	}
	return 0, fmt.Errorf("the API server does not tell its process_cpu_seconds_total")
}

const mayListNodes = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: bench-nodes}
rules: [{apiGroups: [""], resources: [nodes], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bench-nodes}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: bench-nodes}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes"}]
`

func nodeName(i int) string { return fmt.Sprintf("node-%04d.example.net", i) }

// addNodes creates Nodes as kubelets do, one in a hundred cordoned and one in
// a hundred not Ready, and returns how large one is.
func addNodes(ctx context.Context, admin kubernetes.Interface, n int) (size int, err error) {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(8)
	for i := range n {
		work.Go(func() error {
			_, err := admin.CoreV1().Nodes().Create(ctx, largeNode(i), metav1.CreateOptions{})
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return 0, fmt.Errorf("create the Nodes: %w", err)
	}
	text, err := admin.CoreV1().RESTClient().Get().Resource("nodes").Name(nodeName(0)).SetHeader("Accept", "application/json").DoRaw(context.WithoutCancel(ctx))
	return len(text), err
}

// largeNode has what kubelets of nodes in use tell of themselves.
func largeNode(i int) *corev1.Node {
	name := nodeName(i)
	amounts := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("263847212Ki"), corev1.ResourcePods: resource.MustParse("110"),
		corev1.ResourceEphemeralStorage: resource.MustParse("959786032Ki"), "hugepages-1Gi": resource.MustParse("0"), "hugepages-2Mi": resource.MustParse("0"),
	}
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				"beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
				"kubernetes.io/hostname": name, "node.kubernetes.io/instance-type": "m7i.16xlarge", "topology.kubernetes.io/region": "eu-1",
				"topology.kubernetes.io/zone": fmt.Sprintf("eu-1%c", 'a'+i%3), "node-role.kubernetes.io/worker": "", "example.net/pool": "general",
			},
			Annotations: map[string]string{
				"csi.volume.kubernetes.io/nodeid":                        `{"ebs.csi.example.net":"i-0123456789abcdef0"}`,
				"kubeadm.alpha.kubernetes.io/cri-socket":                 "unix:///run/containerd/containerd.sock",
				"node.alpha.kubernetes.io/ttl":                           "0",
				"volumes.kubernetes.io/controller-managed-attach-detach": "true",
			},
		},
		Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/24", PodCIDRs: []string{"10.1.0.0/24"}, ProviderID: "example:///eu-1a/i-0123456789abcdef0", Unschedulable: i%100 == 1},
		Status: corev1.NodeStatus{
			Capacity: amounts, Allocatable: amounts,
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}, {Type: corev1.NodeHostName, Address: name}},
			NodeInfo: corev1.NodeSystemInfo{MachineID: "ec2f0a3e5d2b8c0b6b4d0f1a2c3d4e5f", SystemUUID: "ec2f0a3e-5d2b-8c0b-6b4d-0f1a2c3d4e5f", BootID: "0f1a2c3d-4e5f-4a3e-8d2b-8c0b6b4dec2f",
				KernelVersion: "6.12.48+deb13-amd64", OSImage: "Debian GNU/Linux 13 (trixie)", ContainerRuntimeVersion: "containerd://2.1.4",
				KubeletVersion: "v1.37.1", OperatingSystem: "linux", Architecture: "amd64"},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
		},
	}
	for _, kind := range []corev1.NodeConditionType{"NetworkUnavailable", corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeReady} {
		c := corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
			Reason: "KubeletHasSufficient" + string(kind), Message: "kubelet has sufficient " + string(kind) + " available"}
		if kind == corev1.NodeReady && i%100 != 2 {
			c.Status = corev1.ConditionTrue
		}
		n.Status.Conditions = append(n.Status.Conditions, c)
	}
	for image := range 30 {
		repository := fmt.Sprintf("registry.example.net/team-%d/service-%d", image%5, image)
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{
			Names:     []string{fmt.Sprintf("%s@sha256:%x", repository, sha256.Sum256([]byte(repository+name))), fmt.Sprintf("%s:v1.%d.0", repository, i%7)},
			SizeBytes: 123456789,
		})
	}
	return n
}

// meter passes connections on to the API server and counts what comes back.
type meter struct {
	bytes    atomic.Int64
	listener net.Listener
}

// metered connects as kured on that node does, through a meter.
func metered(ctx context.Context, plane *testenv.ControlPlane, node string) (*kube.Cluster, *meter, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	m := &meter{listener: listener}
	go m.serve(strings.TrimPrefix(plane.Server(), "https://"))
	credential, err := plane.NodeCredential(node)
	if err != nil {
		m.close()
		return nil, nil, err
	}
	credential.Server = "https://" + listener.Addr().String()
	dir := filepath.Join(plane.Dir(), "metered")
	if err := os.Mkdir(dir, 0o700); err != nil {
		m.close()
		return nil, nil, err
	}
	path, err := credential.Write(dir, "node")
	if err != nil {
		m.close()
		return nil, nil, err
	}
	// Rights take effect a little after they were applied; a kubelet reads its own Node without them.
	c, err := kube.Connect(ctx, kube.Options{Kubeconfig: path, Version: "bench"})
	if err != nil {
		m.close()
		return nil, nil, err
	}
	return c, m, nil
}

func (m *meter) close() { _ = m.listener.Close() }

func (m *meter) serve(server string) {
	for {
		client, err := m.listener.Accept()
		if err != nil {
			return // closed
		}
		go func() {
			defer client.Close()
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				return // the client sees a closed connection
			}
			defer upstream.Close()
			go func() { _, _ = io.Copy(upstream, client) }() // ends with the connections
			_, _ = io.Copy(counting{client, &m.bytes}, upstream)
		}()
	}
}

// counting is a writer that counts; it hides the connection's own ways to copy.
type counting struct {
	io.Writer
	n *atomic.Int64
}

func (c counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.Writer.Write(p)
}
