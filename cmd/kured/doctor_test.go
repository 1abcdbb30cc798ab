package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/doctor"
	"github.com/kured-host/kured/internal/manifests"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/fakelogin1"
)

// patient is a node to be examined: files below a directory, a logind of its
// own, and a real API server.
type patient struct {
	*cluster
	root  string // of its files
	login *fakelogin1.Login1
	limit time.Duration // of each check
}

// newPatient makes a node on which all is well, except that nobody has applied anything to the cluster.
func newPatient(t *testing.T, plane *testenv.ControlPlane) *patient {
	t.Helper()
	p := &patient{cluster: &cluster{ControlPlane: plane, t: t, dir: t.TempDir()}, root: t.TempDir(), login: fakelogin1.Start(t), limit: time.Minute}
	p.login.SetRawProperty("InhibitDelayMaxUSec", uint64(5_000_000))
	for key, value := range map[string]string{
		"DBUS_SYSTEM_BUS_ADDRESS": p.login.Address(), "RUNTIME_DIRECTORY": p.dir, "STATE_DIRECTORY": p.dir, "CONFIGURATION_DIRECTORY": p.dir,
		"KURED_SCHEDULE_FILE": filepath.Join(p.dir, "scheduled"), "KURED_BOOT_ID": "0123456789abcdef0123456789abcdef",
	} {
		t.Setenv(key, value)
	}
	p.file("etc/os-release", `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"`+"\nID=debian\n")
	p.file("etc/kernel/postinst.d/unattended-upgrades", "")
	for _, unit := range []string{"kured.service", "kured-uncordon.service"} {
		p.file("usr/lib/systemd/system/"+unit, "")
		p.link("/usr/lib/systemd/system/"+unit, "etc/systemd/system/multi-user.target.wants/"+unit)
	}
	p.configure("")
	var daemon control.Feed
	daemon.Publish(status.Status{Node: "node-a", Phase: status.Idle, Since: time.Now()})
	server, err := control.New(t.Context(), filepath.Join(p.dir, filepath.Base(control.DefaultPath)), control.Daemon{Status: &daemon})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *patient) file(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) link(to, name string) {
	p.t.Helper()
	path := filepath.Join(p.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(to, path)); err != nil {
		p.t.Fatal(err)
	}
}

// configure writes kured.toml, with the kubelet's kubeconfig of node-a.
func (p *patient) configure(more string) {
	p.t.Helper()
	text := "[kubernetes]\nkubeconfig = \"" + p.as(testenv.NodeSubject("node-a")) + "\"\n" + more + "\n[metrics]\nlisten = []\n"
	if err := os.WriteFile(filepath.Join(p.dir, "kured.toml"), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// examine runs the command, which has to end with the code of its findings.
func (p *patient) examine() []doctor.Finding {
	p.t.Helper()
	cmd := newDoctor()
	var out bytes.Buffer
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--root", p.root, "--config", filepath.Join(p.dir, "kured.toml"), "-o", "json", "--timeout", p.limit.String()})
	err := cmd.ExecuteContext(p.t.Context())
	var d struct {
		Worst    doctor.Level
		Findings []doctor.Finding
	}
	if wrong := json.Unmarshal(out.Bytes(), &d); wrong != nil {
		p.t.Fatalf("%v, %v\n%s", wrong, err, out.String())
	}
	code := 0
	var coded *exitError
	if errors.As(err, &coded) {
		code = coded.code
	}
	if want := slices.Index(doctor.Levels(), d.Worst); code != want || d.Worst != doctor.Worst(d.Findings) {
		p.t.Errorf("exit code %d for %q (%v)", code, d.Worst, err)
	}
	return d.Findings
}

// expect looks for findings of this level with these words, and for no other that is not ok.
func expect(t *testing.T, found []doctor.Finding, level doctor.Level, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !slices.ContainsFunc(found, func(f doctor.Finding) bool {
			return f.Level == level && strings.Contains(f.Check+": "+f.Text, text) && f.Remedy != ""
		}) {
			t.Errorf("no %s with a remedy that says %q", level, text)
		}
	}
	for _, f := range found {
		if f.Level != doctor.OK && !slices.ContainsFunc(texts, func(text string) bool {
			return f.Level == level && strings.Contains(f.Check+": "+f.Text, text)
		}) {
			t.Errorf("not expected: %s %s: %s (%s)", f.Level, f.Check, f.Text, f.Remedy)
		}
	}
	if t.Failed() {
		for _, f := range found {
			t.Logf("%s %s: %s", f.Level, f.Check, f.Text)
		}
	}
}

// One story, for what is applied cannot be taken back so quickly: each piece
// that is missing gives its line, and at last all is well.
func TestDoctorAtRealAPIServer(t *testing.T) {
	plane := testenv.New(t, testenv.Options{})
	p := newPatient(t, plane)
	ctx := t.Context()
	for _, name := range []string{"node-a", "node-b"} {
		if _, err := plane.Admin().CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("nothing applied", func(t *testing.T) {
		found := p.examine()
		for _, text := range []string{
			"right: get configmaps kube-system/kured-lock is not allowed: the node cannot see the lock",
			"right: get daemonsets.apps is not allowed", "lock: read lock kube-system/kured-lock",
		} {
			if !slices.ContainsFunc(found, func(f doctor.Finding) bool {
				return f.Level == doctor.Fail && strings.HasPrefix(f.Check+": "+f.Text, text) && f.Remedy == "kured manifests | kubectl apply --server-side -f -"
			}) {
				t.Errorf("no failure that says %q", text)
			}
		}
	})
	apply := func(o manifests.Options) {
		text, err := manifests.Render(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := plane.Apply(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	apply(manifests.Options{})
	p.eventually("the rights", func() bool { return doctor.Worst(p.examine()) != doctor.Fail })
	t.Run("no wall", func(t *testing.T) { expect(t, p.examine(), doctor.Warning, "wall: the nodes alone keep the rules") })

	apply(manifests.Options{Wall: true})
	p.eventually("the wall", func() bool { return doctor.Worst(p.examine()) == doctor.OK })
	t.Run("all is well", func(t *testing.T) {
		found := p.examine()
		expect(t, found, doctor.OK)
		for _, text := range []string{
			"identity: node node-a, user system:node:node-a, groups system:nodes, system:authenticated", "credential: the client certificate is good until",
			"right: create pods/eviction", "right: watch pods with spec.nodeName=node-a", "node: a dry run of the cordon of node-a is accepted",
			"wall: the API server keeps the rules", "lock: kube-system/kured-lock: 0 hold it, 0 wait", "clock: this machine's clock agrees",
			"logind: logind would reboot", "sentinel: Debian GNU/Linux 12 (bookworm): a reboot is asked for by unattended-upgrades", "versions: kured dev, systemd 252",
		} {
			if !slices.ContainsFunc(found, func(f doctor.Finding) bool { return strings.HasPrefix(f.Check+": "+f.Text, text) }) {
				t.Errorf("nothing says %q", text)
			}
		}
		if n := p.node("node-a"); n.Spec.Unschedulable || len(n.Annotations) > 0 {
			t.Errorf("the Node was changed: %+v", n)
		}
	})
	t.Run("all that can be configured", func(t *testing.T) {
		p.configure("[node]\nconditions = true\n[lock]\nmin_ready = 1\n[drain]\nwait_for_volumes = \"1m\"\non_timeout = \"force\"\n")
		defer p.configure("")
		expect(t, p.examine(), doctor.OK)
	})
	t.Run("an identity of its own", func(t *testing.T) {
		apply(manifests.Options{Identity: manifests.Dedicated, Wall: true})
		text := "[kubernetes]\nkubeconfig = \"" + p.as(testenv.Subject{User: "kured:node:node-a", Groups: []string{"kured:nodes"}}) + "\"\n" +
			"[node]\nconditions = true\n[drain]\nwait_for_volumes = \"1m\"\non_timeout = \"force\"\n[metrics]\nlisten = []\n"
		if err := os.WriteFile(filepath.Join(p.dir, "kured.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		defer p.configure("")
		p.eventually("the rights", func() bool { return doctor.Worst(p.examine()) == doctor.OK })
	})
	t.Run("a person's credential", func(t *testing.T) {
		text := "[kubernetes]\nnode_name = \"node-a\"\nkubeconfig = \"" + p.as(testenv.Subject{User: "carol", Groups: []string{"system:masters"}}) + "\"\n[metrics]\nlisten = []\n"
		if err := os.WriteFile(filepath.Join(p.dir, "kured.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		defer p.configure("")
		// Who may break the glass is not held by the wall.
		expect(t, p.examine(), doctor.Warning, "identity: node node-a, user carol", "wall: the nodes alone keep the rules")
	})
	t.Run("an API server that hangs", func(t *testing.T) {
		if err := plane.PauseAPIServer(); err != nil {
			t.Fatal(err)
		}
		p.limit = 2 * time.Second
		found := p.examine()
		p.limit = time.Minute
		if err := plane.ResumeAPIServer(); err != nil {
			t.Fatal(err)
		}
		expect(t, found, doctor.Fail, "kubeconfig: the API server "+plane.Server()+" cannot be reached")
	})
	t.Run("what does not fit the Node", func(t *testing.T) {
		p.configure("[lock]\nnode_selector = \"pool=web\"\n[node]\nlabels_before = { \"kubernetes.io/state\" = \"away\" }\n")
		defer p.configure("")
		found := p.examine()
		for _, text := range []string{"warning pool: this node is not one of the pool's", "fail node: "} {
			if !slices.ContainsFunc(found, func(f doctor.Finding) bool {
				return strings.HasPrefix(string(f.Level)+" "+f.Check+": "+f.Text, text)
			}) {
				t.Errorf("nothing says %q", text)
			}
		}
	})
	t.Run("another lock", func(t *testing.T) {
		p.configure("[lock]\nname = \"kured-lock-web\"\n")
		defer p.configure("")
		found := p.examine()
		if i := slices.IndexFunc(found, func(f doctor.Finding) bool { return f.Check == "lock" }); found[i].Level != doctor.Fail || !strings.Contains(found[i].Remedy, "--pool") {
			t.Errorf("%+v", found[i])
		}
	})
	t.Run("policy", func(t *testing.T) {
		defer p.policy(`null`)
		p.policy(`{"paused":"release day"}`)
		expect(t, p.examine(), doctor.Warning, "policy: kube-system/kured-policy lets nobody reboot: paused for the whole cluster: release day")
		p.policy(`{"max":"many"}`)
		expect(t, p.examine(), doctor.Fail, "policy: kube-system/kured-policy: the policy cannot be understood")
	})
	t.Run("damaged lock", func(t *testing.T) {
		p.put(`{"holder.node-b":"out of order"}`)
		expect(t, p.examine(), doctor.Warning, "lock: 1 key of kube-system/kured-lock cannot be read")
		p.put(`{"holder.node-b":null,"holder.node-a":"out of order"}`)
		expect(t, p.examine(), doctor.Fail, "lock: our own entry")
		p.put(`{"holder.node-a":null}`)
	})
	t.Run("wrong node name", func(t *testing.T) {
		p.configure("node_name = \"node-b\"\n")
		defer p.configure("")
		expect(t, p.examine(), doctor.Fail, "kubeconfig: kubernetes.node_name and kubeconfig")
	})
	t.Run("no such node", func(t *testing.T) {
		if err := plane.Admin().CoreV1().Nodes().Delete(ctx, "node-a", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		expect(t, p.examine(), doctor.Fail, `kubeconfig: there is no Node "node-a" in the cluster`)
		if _, err := plane.Admin().CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("wrong configuration", func(t *testing.T) {
		p.configure("[lock]\nnam = \"x\"\n")
		defer p.configure("")
		t.Setenv("KUBECONFIG", "")
		found := p.examine()
		if found[0].Check != "configuration" || found[0].Level != doctor.Fail || !strings.Contains(found[0].Text, `lock.nam: unknown, did you mean "name"?`) {
			t.Errorf("%+v", found[0])
		}
	})
	t.Run("the DaemonSet kured", func(t *testing.T) {
		labels := map[string]string{"name": "kured"}
		set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "kured"}, Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "registry.example/kured"}}}},
		}}
		if _, err := plane.Admin().AppsV1().DaemonSets("kube-system").Create(ctx, set, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		expect(t, p.examine(), doctor.Fail, "DaemonSet: the DaemonSet kube-system/kured is in the cluster")
		p.configure("[compat]\ndaemonset = \"kube-system/kured\"\n")
		expect(t, p.examine(), doctor.OK)
	})
}

func (c *cluster) policy(data string) {
	c.t.Helper()
	_, err := c.Admin().CoreV1().ConfigMaps("kube-system").Patch(c.t.Context(), "kured-policy", "application/merge-patch+json", []byte(`{"data":null}`), metav1.PatchOptions{})
	if err == nil {
		_, err = c.Admin().CoreV1().ConfigMaps("kube-system").Patch(c.t.Context(), "kured-policy", "application/merge-patch+json", []byte(`{"data":`+data+`}`), metav1.PatchOptions{})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// What a gate or a notice goes to: a server that answers, one whose
// certificate is not trusted, one that is not there, a file with a wrong address.
func TestDoctorAsksServers(t *testing.T) {
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"status":"success","data":{"resultType":"vector","result":[]}}`)) //nolint:errcheck // of a test
	}))
	defer good.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0) // it is told what we think of its certificate
	untrusted.StartTLS()
	defer untrusted.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(secret, []byte("slak://hook:SECRET@webhook\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := `[kubernetes]
kubeconfig = "` + dir + `/missing"
[[prometheus]]
urls = ["` + good.URL + `"]
queries = ["up == 0"]
[[prometheus]]
urls = ["` + untrusted.URL + `"]
[[alertmanager]]
urls = ["http://` + nobody + `"]
timeout = "1s"
[[alertmanager]]
urls = ["http://` + nobody + `"]
alerts = false
silence = ['node="{node}"']
[[prometheus]]
urls = ["http://` + nobody + `"]
alerts = "none"
return_queries = ["up == 0"]
[[notify]]
url_file = "` + secret + `"
`
	if err := os.WriteFile(filepath.Join(dir, "kured.toml"), []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=" + dir + "/no-bus", "RUNTIME_DIRECTORY": dir, "STATE_DIRECTORY": dir,
		"CONFIGURATION_DIRECTORY": dir, "KURED_BOOT_ID": "0123456789abcdef0123456789abcdef"} {
		t.Setenv(key, value)
	}
	cmd := newDoctor()
	var out bytes.Buffer
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--root", t.TempDir(), "--config", filepath.Join(dir, "kured.toml")})
	if err := cmd.ExecuteContext(t.Context()); err == nil {
		t.Error("all is well")
	}
	for _, part := range []string{
		"ok       prometheus[1]    it answers: 0 alerts; queries: 1\n",
		"tls: failed to verify certificate: x509: certificate signed by unknown authority\n", "-> set ca_file",
		"connection refused\n", "service",
		"fail     alertmanager[1]", "reached from this node; until then nothing reboots\n",
		"warning  alertmanager[2]", "reached from this node; until then alerts are not silenced\n",
		"fail     prometheus[3]", "reached from this node; until then a node that has rebooted stays cordoned and keeps the lock\n",
		"missing not found", "there are none in " + dir + "/hooks",
	} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("nothing says %q", part)
		}
	}
	if strings.Contains(out.String(), "SECRET") {
		t.Error("a secret is shown")
	}
	if t.Failed() {
		t.Log(out.String())
	}
}
