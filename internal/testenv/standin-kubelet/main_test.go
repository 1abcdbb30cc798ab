package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/testenv"
)

// TestServiceOnANode runs the program as systemd does on a node: against an API
// server at another address, with the node's own kubeconfig and boot id.
func TestServiceOnANode(t *testing.T) {
	cluster := testenv.New(t, testenv.Options{BindAddress: "127.0.0.2", ServerNames: []string{"api.test"}})
	kubeconfig := filepath.Join(t.TempDir(), "kubelet.conf")
	content, err := cluster.NodeKubeconfig("service")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kubeconfig, content, 0o600); err != nil {
		t.Fatal(err)
	}
	address := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", address)
	expect := func(want string) {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		message := make([]byte, 100)
		n, err := socket.Read(message)
		if got := string(message[:n]); err != nil || got != want {
			t.Fatalf("the service manager was told %q, %v, want %q", got, err, want)
		}
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"--kubeconfig=" + kubeconfig, "--node-name=service", "--node-ip=127.0.0.3"})
	}()
	expect("READY=1")
	node, err := cluster.Admin().CoreV1().Nodes().Get(t.Context(), "service", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(kernelBootID)
	if err != nil {
		t.Fatal(err)
	}
	if got := node.Status.NodeInfo.BootID; got != strings.TrimSpace(string(own)) {
		t.Errorf("boot id %s, want this machine's %s", got, own)
	}
	if got := node.Status.Addresses[0].Address; got != "127.0.0.3" {
		t.Errorf("address %s, want 127.0.0.3", got)
	}
	stop()
	expect("STOPPING=1")
	if err := <-ended; err != nil {
		t.Error(err)
	}

	// The server's certificate is good for the further name.
	config := cluster.AdminConfig()
	config.ServerName = "api.test"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Discovery().ServerVersion(); err != nil {
		t.Error(err)
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{
		{"--kubeconfig=/nonexistent", "--node-name=n"},
		{"--unknown"},
	} {
		if err := run(t.Context(), args); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
