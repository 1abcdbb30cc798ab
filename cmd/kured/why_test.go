package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/explain"
	"github.com/kured-host/kured/internal/present"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/fakelogin1"
	"github.com/kured-host/kured/internal/testenv/standin"
)

// moment is a time in a file of a script: {time -3h12m} as JSON has it, {clock
// -3h12m} as people are told, in UTC.
var moment = regexp.MustCompile(`\{(time|clock) ([-+][0-9a-z]+)\}`)

// momentsCommand is the command of scripts
//
//	moments FILE...   puts times into the files that are so far from now
func momentsCommand(ts *testscript.TestScript, _ bool, files []string) {
	now := time.Now()
	for _, file := range files {
		text := moment.ReplaceAllStringFunc(ts.ReadFile(file), func(word string) string {
			m := moment.FindStringSubmatch(word)
			d, err := time.ParseDuration(m[2])
			ts.Check(err)
			if m[1] == "time" {
				return now.Add(d).UTC().Format(time.RFC3339Nano)
			}
			return explain.Clock(now.Add(d), now, time.UTC)
		})
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
	}
}

// Whatever is in the way of a running daemon, kured why names it, and all that
// is behind it, in the order in which it has to go. The API server is real.
func TestWhyNamesEachBlockerInTurn(t *testing.T) {
	c := &cluster{testenv.New(t, testenv.Options{Controllers: true}), t, t.TempDir()}
	c.apply("kured.yaml")
	for _, name := range []string{"node-a", "node-b"} {
		testenv.NewNode(t, c.ControlPlane, standin.Options{NodeName: name})
	}
	login := fakelogin1.Start(t)
	release := login.Inhibit("apt", "shutdown", "block", "upgrading libc6")
	annotate := func(value string) {
		t.Helper()
		patch := []byte(`{"metadata":{"annotations":{"kured.dev/pause":` + value + `}}}`)
		if _, err := c.Admin().CoreV1().Nodes().Patch(t.Context(), "node-a", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	annotate(`"disk is being replaced"`)
	backup := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "backup", Namespace: "default", Labels: map[string]string{"job": "backup"}},
		Spec: corev1.PodSpec{NodeName: "node-a", Containers: []corev1.Container{{Name: "c", Image: "registry.example/backup"}}}}
	if _, err := c.Admin().CoreV1().Pods("default").Create(t.Context(), backup, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.put(`{"holder.node-b":"{\"v\":1,\"boot\":\"1\",\"phase\":\"draining\",\"since\":\"` + time.Now().Add(-3*time.Minute).UTC().Format(time.RFC3339) + `\",\"max\":1,\"uid\":\"` + string(c.node("node-b").UID) + `\"}"}`)

	cfg := config.Default()
	cfg.Log.Format, cfg.Sentinel.Settle, cfg.Kubernetes.Kubeconfig = "text", 0, c.as(testenv.NodeSubject("node-a"))
	cfg.Sentinel.Paths, cfg.Metrics.Listen = []string{filepath.Join(c.dir, "reboot-required")}, nil
	cfg.Gates.BlockingPods, cfg.Gates.Recheck = []string{"job=backup"}, config.Duration(100*time.Millisecond)
	for name, text := range map[string]string{"reboot-required": "", "pause": "until=" + time.Now().Add(49*time.Hour).UTC().Format(time.RFC3339) + " upgrade"} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := testPlan(t, c.dir, login.Address(), "0123456789abcdef0123456789abcdef", cfg)
	p.log = slog.New(slog.DiscardHandler)
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := p.run(t.Context(), reloading{}); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(ended.Wait) // after the context of the test has ended

	why := func() (code int, a present.Answer) {
		var b bytes.Buffer
		root := newRoot()
		root.SetArgs([]string{"why", "-o", "json", "--socket", p.socket()})
		root.SetOut(&b)
		var coded *exitError
		if err := root.ExecuteContext(t.Context()); errors.As(err, &coded) {
			code = coded.code
		}
		if json.Unmarshal(b.Bytes(), &a) != nil {
			return 0, present.Answer{} // the daemon does not answer yet
		}
		return code, a
	}
	for _, step := range []struct {
		reason status.Reason
		code   int
		text   string
		behind []status.Reason
		open   func()
	}{
		{status.Paused, 3, "paused until ", []status.Reason{status.Inhibited, status.Paused, status.BlockingPods}, func() {
			if err := os.Remove(filepath.Join(c.dir, "pause")); err != nil {
				t.Fatal(err)
			}
		}},
		{status.Inhibited, 3, "a block inhibitor is held: apt (pid ", []status.Reason{status.Paused, status.BlockingPods}, release},
		{status.Paused, 3, "annotation kured.dev/pause: paused (disk is being replaced)", []status.Reason{status.BlockingPods}, func() { annotate("null") }},
		{status.BlockingPods, 3, "waits for pods: default/backup", nil, func() {
			now := int64(0)
			if err := c.Admin().CoreV1().Pods("default").Delete(t.Context(), "backup", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
				t.Fatal(err)
			}
		}},
		{status.LockFull, 1, "place 1 of 1 behind node-b (draining, holds the lock for ", nil, func() {}},
	} {
		var code int
		var last present.Answer
		c.eventually("blocked by "+step.text, func() bool {
			code, last = why()
			for _, p := range last.Points {
				if p.Kind == explain.Blocks {
					return p.Reason == step.reason && strings.Contains(p.Text, step.text)
				}
			}
			return false
		})
		var behind []status.Reason
		for _, p := range last.Points {
			if p.Kind == explain.Also {
				behind = append(behind, p.Reason)
			}
		}
		if code != step.code || !slices.Equal(behind, step.behind) || last.GatesError != "" {
			t.Errorf("%s: code %d, behind it %q; %+v", step.text, code, behind, last)
		}
		step.open()
	}
}
