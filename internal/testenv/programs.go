package testenv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// auditPolicy logs each request once, and a watch also when it begins.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
`

// Ports are taken from below Linux' usual ephemeral range (32768 and up), so
// that no outgoing connection takes the API server's port during an outage.
const firstPort, lastPort = 20000, 32000

func (cp *ControlPlane) file(name string) string { return filepath.Join(cp.dir, name) }

// prepare makes the directory, the CA and everything that does not depend on the port.
func (cp *ControlPlane) prepare() error {
	if err := os.MkdirAll(cp.dir, 0o700); err != nil {
		return fmt.Errorf("directory of the control plane: %w", err)
	}
	var err error
	if cp.dir, err = filepath.Abs(cp.dir); err != nil {
		return fmt.Errorf("directory of the control plane: %w", err)
	}
	if len(cp.dir) >= 90 {
		return fmt.Errorf("directory %s: the path is too long for a Unix socket in it", cp.dir)
	}
	if cp.ca, err = newAuthority(); err != nil {
		return err
	}
	names := append([]string{
		cp.options.BindAddress, "127.0.0.1", "10.0.0.1", "localhost",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc",
	}, cp.options.ServerNames...)
	certificate, key, err := cp.ca.server(names)
	if err != nil {
		return fmt.Errorf("certificate of the API server: %w", err)
	}
	_, tokenKey, err := newKey()
	if err != nil {
		return fmt.Errorf("key of the service accounts: %w", err)
	}
	for name, content := range map[string][]byte{
		"ca.crt": cp.ca.pem, "ca.key": cp.ca.keyPEM,
		"server.crt": certificate, "server.key": key,
		"tokens.key": tokenKey, "audit-policy.yaml": []byte(auditPolicy),
	} {
		if err := writeAtomically(cp.file(name), content); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// identify writes the kubeconfigs, which hold the port.
func (cp *ControlPlane) identify() error {
	for name, subject := range map[string]Subject{
		ControllerManager: {User: "system:kube-controller-manager"},
		Scheduler:         {User: "system:kube-scheduler"},
	} {
		if _, err := cp.Kubeconfig(name, subject); err != nil {
			return err
		}
	}
	var err error
	if cp.admin, err = cp.Issue(Subject{User: "admin", Groups: []string{"system:masters"}}); err != nil {
		return err
	}
	if _, err := cp.admin.Write(cp.dir, "admin"); err != nil {
		return err
	}
	if cp.client, err = kubernetes.NewForConfig(cp.AdminConfig()); err != nil {
		return fmt.Errorf("client of the administrator: %w", err)
	}
	stranger, err := cp.Issue(Subject{User: "stranger"})
	if err != nil {
		return err
	}
	if cp.stranger, err = kubernetes.NewForConfig(stranger.Config()); err != nil {
		return fmt.Errorf("client of a user without rights: %w", err)
	}
	return nil
}

// startAPIServerOnFreePort tries other ports when somebody else takes the
// chosen one between the look and the use.
func (cp *ControlPlane) startAPIServerOnFreePort(ctx context.Context) error {
	for try := 1; ; try++ {
		var err error
		if cp.port, err = freePort(ctx, cp.options.BindAddress); err != nil {
			return err
		}
		if err := cp.identify(); err != nil {
			return err
		}
		err = cp.run(ctx, APIServer, cp.apiServerArgs(), cp.apiServerReady)
		if err == nil || try == 5 || !strings.Contains(err.Error(), "address already in use") {
			return err
		}
	}
}

func freePort(ctx context.Context, address string) (int, error) {
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		var listener net.Listener
		if listener, err = new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port))); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("no free port on %s: %w", address, err)
}

func (cp *ControlPlane) etcdArgs() []string {
	client, peer := "unix://"+cp.file("etcd.sock"), "unix://"+cp.file("etcd-peer.sock")
	return []string{
		"--name=etcd", "--data-dir=" + cp.file("etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=etcd=" + peer,
		"--unsafe-no-fsync", "--log-level=warn",
	}
}

func (cp *ControlPlane) etcdHealthy(ctx context.Context) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", cp.file("etcd.sock"))
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://etcd/health", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s", response.Status)
	}
	return nil
}

func (cp *ControlPlane) apiServerArgs() []string {
	args := []string{
		"--etcd-servers=unix://" + cp.file("etcd.sock"),
		"--bind-address=" + cp.options.BindAddress, "--secure-port=" + strconv.Itoa(cp.port),
		// A loopback API server has no endpoint that could be published.
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24",
		"--allow-privileged=true", "--profiling=false",
		"--tls-cert-file=" + cp.file("server.crt"), "--tls-private-key-file=" + cp.file("server.key"),
		"--client-ca-file=" + cp.file("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + cp.file("tokens.key"), "--service-account-signing-key-file=" + cp.file("tokens.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
	}
	if !cp.options.Controllers {
		args = append(args, "--disable-admission-plugins=ServiceAccount")
	}
	if cp.options.Audit {
		args = append(args, "--audit-policy-file="+cp.file("audit-policy.yaml"),
			"--audit-log-path="+cp.file("audit.log"), "--audit-log-mode=blocking",
			// In MB: at 100, the default, a new file is begun, and Requests would miss what is in the old one.
			"--audit-log-maxsize=100000")
	}
	return args
}

// apiServerReady also waits for what the API server creates by itself shortly
// before or after it says that it is ready: its namespaces, and the roles that
// let every user ask who he is, which the authorizer learns from a watch.
func (cp *ControlPlane) apiServerReady(ctx context.Context) error {
	if _, err := cp.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		return err
	}
	for _, namespace := range []string{"default", "kube-system", "kube-node-lease"} {
		if _, err := cp.client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{}); err != nil {
			return err
		}
	}
	_, err := cp.stranger.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	return err
}

func (cp *ControlPlane) controllerManagerArgs() []string {
	return []string{
		"--kubeconfig=" + cp.file(ControllerManager+".kubeconfig"), "--leader-elect=false", "--secure-port=0",
		"--use-service-account-credentials=true", "--service-account-private-key-file=" + cp.file("tokens.key"),
		"--root-ca-file=" + cp.file("ca.crt"),
		"--cluster-signing-cert-file=" + cp.file("ca.crt"), "--cluster-signing-key-file=" + cp.file("ca.key"),
		// The default of 20 requests/s delays the start by 6 s, because every
		// controller first asks for a token of its own.
		"--kube-api-qps=300", "--kube-api-burst=600",
	}
}

// controllersWork asks for the first thing without which no pod can be created.
func (cp *ControlPlane) controllersWork(ctx context.Context) error {
	_, err := cp.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
	return err
}

func (cp *ControlPlane) schedulerArgs() []string {
	return []string{
		"--kubeconfig=" + cp.file(Scheduler+".kubeconfig"), "--leader-elect=false", "--secure-port=0",
		"--kube-api-qps=300", "--kube-api-burst=600",
	}
}
