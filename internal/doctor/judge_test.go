package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv/fakelogin1"
)

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		release := make(chan struct{})
		found := Run(t.Context(), time.Minute, []Check{
			{"slow", func(ctx context.Context) []Finding { <-ctx.Done(); return one(warn("wait", "%v", ctx.Err())) }},
			{"deaf", func(context.Context) []Finding { <-release; return nil }},
			{"quick", func(context.Context) []Finding {
				return []Finding{ok("a\x1b[31m\n b"), ok("%s", strings.Repeat("x", 1000))}
			}},
		})
		close(release)
		say(t, found, "warning: context deadline exceeded", "fail: not finished after 1m0s", "ok: a [31m b", "ok: xxx")
		for i, name := range []string{"slow", "deaf", "quick", "quick"} {
			if found[i].Check != name {
				t.Errorf("finding %d is of %q, want %q", i, found[i].Check, name)
			}
		}
		if n := len([]rune(found[3].Text)); n != longest {
			t.Errorf("%d characters", n)
		}
		if took := time.Since(begun); took != 66*time.Second {
			t.Errorf("took %s", took)
		}
		if Worst(found) != Fail || Worst(found[2:]) != OK || Worst(found[:1]) != Warning || Worst(nil) != OK {
			t.Error("the worst is another")
		}
	})
}

func TestClock(t *testing.T) {
	begun := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ended := begun.Add(2 * time.Second)
	for off, want := range map[time.Duration]string{
		0: "ok: ", 2 * time.Second: "ok: ", -time.Second: "ok: ", 7 * time.Second: "ok: ", -6 * time.Second: "ok: ",
		8 * time.Second: "warning: this machine's clock is 6s behind", -7 * time.Second: "warning: this machine's clock is 6s ahead of",
		62 * time.Second: "warning: ", 63 * time.Second: "fail: this machine's clock is 1m1s behind", -time.Hour: "fail: this machine's clock is 59m59s ahead of",
	} {
		say(t, one(clock(begun.Add(off), begun, ended)), want)
	}
}

func TestValidity(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	of := func(kind kube.CredentialKind, left, life time.Duration) kube.Validity {
		return kube.Validity{Kind: kind, Begins: now.Add(left - life), Ends: now.Add(left)}
	}
	const day = 24 * time.Hour
	say(t, Validity(of(kube.ClientCertificate, day, 7*day), nil, now), "ok: the client certificate is good until 2026-01-02T12:00:00Z")
	say(t, Validity(of(kube.ClientCertificate, day, 365*day), nil, now), "warning: the client certificate ends at 2026-01-02T12:00:00Z, in 24h0m0s, and is not renewed")
	say(t, Validity(of(kube.BearerToken, time.Hour, day), nil, now), "warning: the token ends at 2026-01-01T13:00:00Z, in 1h0m0s, and is not renewed")
	say(t, Validity(of(kube.BearerToken, time.Hour, 3*time.Hour), nil, now), "ok: the token is good until 2026-01-01T13:00:00Z")
	say(t, Validity(of(kube.ClientCertificate, -time.Hour, day), nil, now), "fail: the client certificate ended at 2026-01-01T11:00:00Z")
	say(t, Validity(kube.Validity{}, nil, now), "ok: the credential has no end that can be seen")
	say(t, Validity(kube.Validity{}, errors.New("no file"), now), "fail: the credential cannot be read: no file")
}

func TestIdentity(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	say(t, Identity("token of node a", now.Add(time.Hour), false, "renew", now), "ok: the token of node a is good until 2026-01-01T13:00:00Z")
	say(t, Identity("token of node a", now.Add(time.Hour), true, "renew", now), "warning: the token of node a ends at 2026-01-01T13:00:00Z, in 1h0m0s, and is not renewed")
	say(t, Identity("token of node a", now, true, "renew", now), "fail: the token of node a ended at 2026-01-01T12:00:00Z")
}

func TestGracePeriod(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"":                           0,
		"shutdownGracePeriod: 0s":    0,
		"shutdownGracePeriod: 1m30s": 90 * time.Second,
		`{"kind":"KubeletConfiguration","shutdownGracePeriod":"30s"}`:                                                                         30 * time.Second,
		"shutdownGracePeriodByPodPriority:\n- {priority: 0, shutdownGracePeriodSeconds: 20}\n- {priority: 9, shutdownGracePeriodSeconds: 10}": 30 * time.Second,
	} {
		if got, err := gracePeriod(text); err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"shutdownGracePeriod: soon", "shutdownGracePeriod: -5s", "- x", "shutdownGracePeriodByPodPriority: [{shutdownGracePeriodSeconds: -1}]"} {
		if got, err := gracePeriod(text); err == nil {
			t.Errorf("%q: %s", text, got)
		}
	}
	say(t, one(delay(5*time.Second, time.Minute, "x")), "warning: the kubelet wants 1m0s for the pods that are left at a shutdown (x), but logind gives it 5s")
	say(t, one(delay(time.Minute, time.Minute, "x")), "ok: ")
	say(t, one(delay(5*time.Second, 0, "x")), "ok: the kubelet does not delay a shutdown")
	say(t, one(delay(math.MaxInt64, time.Minute, "x")), "ok: logind lets a shutdown be delayed for ever")
}

func TestLogind(t *testing.T) {
	login := fakelogin1.Start(t)
	manager := logind.Manager{Address: login.Address(), KexecFile: filepath.Join(t.TempDir(), "none")}
	for answer, want := range map[string]string{
		"yes": "ok: logind would reboot", "na": "fail: ", "no": "fail: logind does not let us", "challenge": "warning: ", "inhibited": "ok: logind would reboot this machine once", "?": "fail: ",
	} {
		login.SetCanReboot(answer)
		say(t, Logind(t.Context(), manager, logind.Normal), want)
	}
	login.SetCanReboot("yes")
	say(t, Logind(t.Context(), manager, logind.Kexec), "ok: ", `fail: reboot method "kexec" cannot be used`)

	m := tree(t, map[string]string{"var/lib/kubelet/config.yaml": "shutdownGracePeriod: 30s\n"})
	say(t, m.Delay(t.Context(), manager), "warning: how long logind lets a shutdown be delayed is not known")
	login.SetRawProperty("InhibitDelayMaxUSec", uint64(5_000_000))
	say(t, m.Delay(t.Context(), manager), "warning: the kubelet wants 30s")
	say(t, tree(t, nil).Delay(t.Context(), manager), "ok: logind lets a shutdown be delayed for 5s; no configuration of a kubelet")
	login.SetRawProperty("InhibitDelayMaxUSec", uint64(math.MaxUint64))
	say(t, m.Delay(t.Context(), manager), "ok: ")
	login.SetRawProperty("InhibitDelayMaxUSec", "5s")
	say(t, m.Delay(t.Context(), manager), "warning: how long")
	login.Leave()
	say(t, Logind(t.Context(), manager, logind.Normal), "fail: ")
}

func TestListen(t *testing.T) {
	us := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, `kured_build_info{version="dev"} 1`) }))
	defer us.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	socket := filepath.Join(t.TempDir(), "m.sock")
	say(t, one(Listen(t.Context(), us.Listener.Addr().String(), false)), "ok: "+us.Listener.Addr().String()+" is our daemon's")
	say(t, one(Listen(t.Context(), other.Listener.Addr().String(), false)), "warning: "+other.Listener.Addr().String()+" is in use by something")
	say(t, one(Listen(t.Context(), other.Listener.Addr().String(), true)), "ok: ")
	say(t, one(Listen(t.Context(), "127.0.0.1:0", false)), "ok: 127.0.0.1:0 is free")
	say(t, one(Listen(t.Context(), "192.0.2.1:9788", false)), "fail: 192.0.2.1:9788 cannot be listened on")
	say(t, one(Listen(t.Context(), "unix:"+socket, false)), "ok: unix:"+socket+" is free")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: us.Config.Handler} //nolint:gosec // of a test
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	say(t, one(Listen(t.Context(), "unix:"+socket, false)), "ok: unix:"+socket+" is our daemon's")
	left := filepath.Join(t.TempDir(), "left.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: left})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	say(t, one(Listen(t.Context(), "unix:"+left, false)), "ok: unix:"+left+" is left by a process that is gone")
}

func TestDaemon(t *testing.T) {
	now := time.Now()
	say(t, Daemon(status.Status{Phase: status.Idle, Since: now.Add(-time.Hour)}, nil, now), "ok: the daemon runs, idle for 1h0m0s")
	say(t, Daemon(status.Status{Phase: status.Held, Detail: "3 reboots"}, nil, now), "fail: this node is held, and a person is needed: 3 reboots")
	say(t, Daemon(status.Status{Phase: status.Rebooting, Reason: status.RebootOverdue}, nil, now), "fail: this node is rebooting, and a person is needed: reboot-overdue")
	say(t, Daemon(status.Status{}, control.ErrNotRunning, now), "fail: the daemon does not run")
	say(t, Daemon(status.Status{}, control.ErrSilent, now), "fail: the daemon runs and does not answer")
	say(t, Daemon(status.Status{}, control.ErrPermission, now), "warning: what the daemon does cannot be asked")
}

func TestKubeconfig(t *testing.T) {
	for _, c := range []struct {
		err    kube.Error
		remedy string
	}{
		{kube.Error{Kind: kube.NotFound, Err: fs.ErrNotExist}, "see whether this node has joined the cluster"},
		{kube.Error{Kind: kube.Unreadable, Err: fs.ErrPermission}, "run kured doctor as root"},
		{kube.Error{Kind: kube.Unreachable}, "see whether the API server runs, and the network between"},
		{kube.Error{Kind: kube.Ambiguous}, "correct [kubernetes] in /etc/kured/kured.toml"},
	} {
		found := Kubeconfig(nil, &c.err)
		say(t, found, "fail: ")
		if found[0].Remedy != c.remedy {
			t.Errorf("%s: %s", c.err.Kind, found[0].Remedy)
		}
	}
}

func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "url")
	check := func(content string) error {
		if content != "good" {
			return errors.New("not an address")
		}
		return nil
	}
	say(t, one(Secret(path, check)), "fail: open ")
	for content, want := range map[string]string{"good\n": "warning: " + path + " holds a secret", "SECRET": "fail: " + path + ": not an address"} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		say(t, one(Secret(path, check)), want)
	}
	if err := os.WriteFile(path, []byte("good"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	say(t, one(Secret(path, check)), "ok: ")
}

func TestPool(t *testing.T) {
	own := map[string]string{"pool": "web", "zone": "eu-1a"}
	say(t, Pool(own, "", ""), "ok: every node; zones do not matter")
	say(t, Pool(own, "pool in (web, db)", "zone"), "ok: pool in (web, db); zone eu-1a")
	say(t, Pool(own, "pool=db", "rack"), "warning: this node is not one of the pool's", "warning: the Node has no label rack")
	say(t, Pool(own, "pool=a=b", ""), "fail: ")
}

func TestVersions(t *testing.T) {
	say(t, Versions("1.0.0", "252", "v1.29.1", 29), "warning: kured 1.0.0, systemd 252, Kubernetes v1.29.1: the API server can keep")
	say(t, Versions("1.0.0", "", "v1.30.0", 30), "ok: kured 1.0.0, Kubernetes v1.30.0")
}

// FuzzApt: whatever it is, it ends, and what is plainly said is found.
func FuzzApt(f *testing.F) {
	f.Add(`Unattended-Upgrade { Automatic-Reboot "false"; /* x */ };`)
	f.Add("A::B \"c\"; // d\n#clear x;\nE { F:: \"g\"; \"h\"; }")
	f.Fuzz(func(t *testing.T, text string) {
		found := map[string]string{}
		aptSettings(text, found)
		for key := range found {
			if key != strings.ToLower(key) {
				t.Errorf("key %q", key)
			}
		}
		if strings.ContainsAny(text, "\"{}/#") {
			return
		}
		aptSettings(text+";\nA::B \"c\";", found)
		if found["a::b"] != "c" {
			t.Errorf("behind %q it is not found", text)
		}
	})
}

func FuzzIni(f *testing.F) {
	f.Add("[a]\nb = \"c\"\n# d=e\nf=g")
	f.Fuzz(func(t *testing.T, text string) {
		iniSettings(text)
		if got := iniSettings(text + "\n[a]\nb='c'\n")["a.b"]; got != "c" {
			t.Errorf("%q", got)
		}
	})
}

func FuzzGracePeriod(f *testing.F) {
	f.Add("shutdownGracePeriod: 1m30s")
	f.Add("shutdownGracePeriodByPodPriority: [{shutdownGracePeriodSeconds: 10}]")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := gracePeriod(text); err == nil && got < 0 {
			t.Errorf("%q: %s", text, got)
		}
	})
}
