package kube

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/kured-host/kured/internal/status"
)

// wantError checks the kind and that the message begins so, in one line.
func wantError(t *testing.T, err error, kind Kind, message string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *Error that is %s", err, kind)
	}
	if e.Kind != kind || !strings.HasPrefix(err.Error(), message) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got  %s: %v\nwant %s: %s…", e.Kind, err, kind, message)
	}
}

func TestKubeconfigsThatCannotBeUsed(t *testing.T) {
	for name, c := range map[string]struct {
		break_  func(t *testing.T, f files)
		kind    Kind
		message string // after "kubeconfig <path> "
	}{
		"missing":        {func(t *testing.T, f files) { os.Remove(f.path("kubelet.conf")) }, NotFound, "not found: no such file or directory (join the node"},
		"not YAML":       {func(t *testing.T, f files) { f.write(t, "kubelet.conf", []byte("{")) }, Malformed, "cannot be used: "},
		"empty":          {func(t *testing.T, f files) { f.write(t, "kubelet.conf", nil) }, Malformed, "cannot be used: it has no context (correct it"},
		"something else": {func(t *testing.T, f files) { f.write(t, "kubelet.conf", []byte("kind: Pod\napiVersion: v1\n")) }, Malformed, "cannot be used: "},
		"user missing": {func(t *testing.T, f files) {
			f.write(t, "kubelet.conf", []byte("contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n"))
		}, Malformed, "cannot be used: "},
		"bad server":        {func(t *testing.T, f files) { f.kubeconfig(t, "https://[::1", certificateUser) }, Malformed, "cannot be used: "},
		"old auth provider": {func(t *testing.T, f files) { f.kubeconfig(t, "https://127.0.0.1:1", "{auth-provider: {name: gcp}}") }, Malformed, "cannot be used: "},
		"no certificate":    {func(t *testing.T, f files) { os.Remove(f.path("current.pem")) }, Unreadable, "cannot be read: open "},
		"no CA":             {func(t *testing.T, f files) { os.Remove(f.path("ca.crt")) }, Unreadable, "cannot be read: open "},
		"no token file":     {func(t *testing.T, f files) { f.kubeconfig(t, "https://127.0.0.1:1", "{tokenFile: token}") }, Unreadable, "cannot be read: open "},
		"bad certificate":   {func(t *testing.T, f files) { f.write(t, "1.pem", []byte("x")) }, Malformed, "cannot be used: client certificate: "},
		"bad CA":            {func(t *testing.T, f files) { f.write(t, "ca.crt", []byte("x")) }, Malformed, "cannot be used: unable to load root certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			f := files{t.TempDir()}
			ca := newAuthority(t, "ca")
			f.write(t, "ca.crt", ca.pem)
			f.node(t, ca, "system:node:node-a", "1")
			path := f.kubeconfig(t, "https://127.0.0.1:1", certificateUser)
			c.break_(t, f)
			_, err := Connect(t.Context(), Options{Kubeconfig: path})
			wantError(t, err, c.kind, "kubeconfig "+path+" "+c.message)
			var e *Error
			if errors.As(err, &e); e.Permanent() || e.Reason() != status.NoCredential {
				t.Errorf("permanent %v, reason %s", e.Permanent(), e.Reason())
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host = strings.ToLower(host)
	type want struct {
		name, source string
		kind         Kind
		message      string
	}
	for name, c := range map[string]struct {
		user       string // of the certificate
		configured string
		prepare    func(*fakeAPI)
		want       want
	}{
		"credential":                    {user: "system:node:node-a", want: want{name: "node-a", source: SourceCredential}},
		"credential and configuration":  {user: "system:node:node-a", configured: "node-a", want: want{name: "node-a", source: SourceCredential}},
		"they disagree":                 {user: "system:node:node-a", configured: "node-b", want: want{kind: Mismatch, message: "kubernetes.node_name and kubeconfig "}},
		"token bound to a node":         {user: "system:serviceaccount:kube-system:kured", prepare: func(f *fakeAPI) { f.extra = map[string][]string{nodeNameExtra: {"node-a"}} }, want: want{name: "node-a", source: SourceCredential}},
		"dedicated":                     {user: "kured:node:node-a", want: want{name: "node-a", source: SourceCredential}},
		"dedicated, they disagree":      {user: "kured:node:node-b", configured: "node-a", want: want{kind: Mismatch, message: "kubernetes.node_name and kubeconfig "}},
		"dedicated, old server":         {user: "kured:node:node-a", prepare: func(f *fakeAPI) { f.reviews = 404 }, want: want{name: "node-a", source: SourceCertificate}},
		"prefix in the middle":          {user: "x:kured:node:node-a", configured: "node-a", want: want{name: "node-a", source: SourceConfiguration}},
		"not a node, configured":        {user: "admin", configured: "node-a", want: want{name: "node-a", source: SourceConfiguration}},
		"not a node":                    {user: "admin", prepare: func(f *fakeAPI) { f.nodes[host] = 200 }, want: want{name: host, source: SourceHostname}},
		"old server":                    {user: "system:node:node-a", prepare: func(f *fakeAPI) { f.reviews = 404 }, want: want{name: "node-a", source: SourceCertificate}},
		"reviews shut off":              {user: "system:node:node-a", prepare: func(f *fakeAPI) { f.reviews = 403 }, want: want{name: "node-a", source: SourceCertificate}},
		"old server, they disagree":     {user: "system:node:node-a", configured: "node-b", prepare: func(f *fakeAPI) { f.reviews = 404 }, want: want{kind: Mismatch, message: "kubernetes.node_name and kubeconfig "}},
		"old server, not a node":        {user: "admin", configured: "node-a", prepare: func(f *fakeAPI) { f.reviews = 404 }, want: want{name: "node-a", source: SourceConfiguration}},
		"no such node":                  {user: "system:node:node-z", want: want{kind: NoNode, message: `there is no Node "node-z" in the cluster (the kubelet registers it`}},
		"a page that is not there":      {user: "system:node:node-a", prepare: func(f *fakeAPI) { f.nodes["node-a"] = 404 }, want: want{kind: Unreachable, message: "the API server "}},
		"node forbidden":                {user: "admin", configured: "node-a", prepare: func(f *fakeAPI) { f.nodes["node-a"] = 403 }, want: want{kind: Forbidden, message: "the API server "}},
		"server in trouble":             {user: "system:node:node-a", prepare: func(f *fakeAPI) { f.reviews = 500 }, want: want{kind: Unreachable, message: "the API server "}},
		"certificate that says nothing": {user: "", want: want{kind: Unauthorized, message: "the API server "}},
	} {
		t.Run(name, func(t *testing.T) {
			api := newFakeAPI(t)
			if c.prepare != nil {
				c.prepare(api)
			}
			_, path := kubelet(t, api, c.user)
			got, err := Connect(t.Context(), Options{Kubeconfig: path, NodeName: c.configured, Version: "1.2.3"})
			if c.want.kind != "" {
				wantError(t, err, c.want.kind, c.want.message)
				eventually(t, "no connection", func() bool { return api.connections() == 0 })
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.NodeName != c.want.name || got.NodeNameSource != c.want.source || got.Server != api.URL || got.Kubeconfig != path {
				t.Errorf("got %+v", got)
			}
			if got.Labels["zone"] != "eu-1a" {
				t.Errorf("labels %v", got.Labels)
			}
			if users := api.users(); len(users) != 2 || !api.agents["kured/1.2.3"] || len(api.agents) != 1 {
				t.Errorf("requests of %q by %v", users, api.agents)
			}
		})
	}
}

func TestServersThatCannotBeTalkedTo(t *testing.T) {
	api := newFakeAPI(t)
	f, path := kubelet(t, api, "system:node:node-a")

	f.write(t, "ca.crt", newAuthority(t, "another").pem)
	_, err := Connect(t.Context(), Options{Kubeconfig: path})
	wantError(t, err, Untrusted, "the certificate of the API server "+api.URL+" is not trusted: tls: failed to verify certificate: x509: certificate signed by unknown authority")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.kubeconfig(t, "https://"+l.Addr().String(), certificateUser)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = Connect(ctx, Options{Kubeconfig: path}) // accepts and says nothing
	wantError(t, err, Unreachable, "the API server https://"+l.Addr().String()+" cannot be reached: ")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the cause is lost: %v", err)
	}
	l.Close()
	_, err = Connect(t.Context(), Options{Kubeconfig: path})
	wantError(t, err, Unreachable, "the API server https://"+l.Addr().String()+" cannot be reached: dial tcp "+l.Addr().String()+": connect: connection refused")
}

// eventually waits for what another goroutine or process brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// LAW 7: nothing to do costs no connection and no goroutine, and so no timer.
func TestIdleHoldsNothing(t *testing.T) {
	api := newFakeAPI(t)
	_, path := kubelet(t, api, "system:node:node-a")
	none := func() bool { return len(clientGoroutines()) == 0 }
	eventually(t, "the goroutines of earlier tests end", none)
	c, err := Connect(t.Context(), Options{Kubeconfig: path})
	if err != nil {
		t.Fatal(err)
	}
	if none() {
		t.Fatal("the goroutine of an open connection is not recognized")
	}
	if n := api.connections(); n != 1 {
		t.Errorf("%d connections for two requests", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err := c.Client.CoreV1().ConfigMaps("kube-system").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.CloseIdle() // not under the watch
	if n := api.connections(); n != 1 {
		t.Errorf("%d connections while watching", n)
	}
	w.Stop()
	cancel()
	eventually(t, "no connection, no goroutine of a client", func() bool {
		c.CloseIdle()
		return api.connections() == 0 && none()
	})
	if _, err := c.Client.CoreV1().Nodes().Get(t.Context(), "node-a", metav1.GetOptions{}); err != nil {
		t.Errorf("after being idle: %v", err)
	}
}

// clientGoroutines are the stacks that stand in client-go, klog or the client
// side of HTTP.
func clientGoroutines() []string {
	buf := make([]byte, 1<<20)
	var found []string
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		for _, mark := range []string{"k8s.io/client-go/", "k8s.io/klog/", "k8s.io/apimachinery/", "http.(*Transport)", "http.(*persistConn)", "http2.(*clientConn", "http2.(*ClientConn", "http2ClientConn"} {
			if strings.Contains(stack, mark) {
				found = append(found, stack)
				break
			}
		}
	}
	return found
}

// Where nobody may ask the API server who it is, as in some hardened clusters, a token says whose it is.
func TestIdentityByToken(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host = strings.ToLower(host)
	const pod = `{"sub":"system:serviceaccount:a:b","iat":1000,"exp":4000,"kubernetes.io":{"pod":{"name":"p"},"node":{"name":"node-a"}}}`
	for name, c := range map[string]struct{ token, user, node, source string }{
		"of a node": {tokenOf(nodeToken), "system:serviceaccount:kube-system:kured", "node-a", SourceToken},
		"of a pod":  {tokenOf(pod), "system:serviceaccount:a:b", host, SourceHostname},
		"opaque":    {"opaque", "", host, SourceHostname},
	} {
		for _, form := range []string{"token", "tokenFile"} {
			api := newFakeAPI(t)
			api.reviews, api.nodes[host], api.tokens[c.token] = 403, 200, "whoever"
			f := files{t.TempDir()}
			f.write(t, "ca.crt", api.ca.pem)
			f.write(t, "token", []byte(c.token+"\n"))
			user := map[string]string{"token": "{token: " + c.token + "}", "tokenFile": "{tokenFile: token}"}[form]
			got, err := Connect(t.Context(), Options{Kubeconfig: f.kubeconfig(t, api.URL, user)})
			if err != nil {
				t.Errorf("%s, %s: %v", name, form, err)
				continue
			}
			got.CloseIdle()
			if got.NodeName != c.node || got.NodeNameSource != c.source || got.User != c.user {
				t.Errorf("%s, %s: %s by %s, user %q", name, form, got.NodeName, got.NodeNameSource, got.User)
			}
		}
	}
}

// By NodeUID others tell that a holder of the lock is gone: LAW 1.
func TestNodeUID(t *testing.T) {
	api := newFakeAPI(t)
	api.nodes["node-b"], api.nodes["node-c"] = 404, 500
	_, path := kubelet(t, api, "system:node:node-a")
	c, err := Connect(t.Context(), Options{Kubeconfig: path})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()
	for name, want := range map[string]struct{ found, known bool }{
		"node-a": {true, true},
		"node-z": {false, true},
		"node-b": {false, false}, // a load balancer's page
		"node-c": {false, false},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, found, err := c.NodeUID(ctx, name); found != want.found || (err == nil) != want.known {
			t.Errorf("%s: %t, %v", name, found, err)
		}
	}
}

// The kubelet turns the link current.pem to a new file. The next request uses
// it; a watch under way is not cut.
func TestRotatedCertificate(t *testing.T) {
	api := newFakeAPI(t)
	api.nodes["node-b"] = 200
	f, path := kubelet(t, api, "system:node:node-a")
	c, err := Connect(t.Context(), Options{Kubeconfig: path})
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.Client.CoreV1().ConfigMaps("kube-system").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	get := func() string {
		t.Helper()
		if _, err := c.Client.CoreV1().Nodes().Get(t.Context(), "node-a", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		users := api.users()
		return users[len(users)-1]
	}
	f.node(t, api.ca, "system:node:node-a-2", "2")
	if got := get(); got != "system:node:node-a-2" {
		t.Errorf("after rotation the request came from %s", got)
	}
	f.write(t, "2.pem", []byte("half a fi")) // being written
	if got := get(); got != "system:node:node-a-2" {
		t.Errorf("with a broken file the request came from %s", got)
	}
	if err := os.Remove(f.path("current.pem")); err != nil {
		t.Fatal(err)
	}
	if got := get(); got != "system:node:node-a-2" {
		t.Errorf("without a file the request came from %s", got)
	}
	f.node(t, api.ca, "system:node:node-a-3", "3")
	if got := get(); got != "system:node:node-a-3" {
		t.Errorf("after the second rotation the request came from %s", got)
	}
	select {
	case event, open := <-w.ResultChan():
		t.Errorf("the watch ended: %v, %v", event, open)
	default:
	}
	if n := api.connections(); n != 2 {
		t.Errorf("%d connections: that of the watch and the newest are expected", n)
	}
	w.Stop()
	eventually(t, "no connection", func() bool { c.CloseIdle(); return api.connections() == 0 })
}

// Some kubeconfigs hold the credential itself. One that is written anew counts
// from the next request on, too.
func TestRotatedKubeconfig(t *testing.T) {
	api := newFakeAPI(t)
	api.nodes["node-b"] = 200
	f, path := kubelet(t, api, "system:node:node-a")
	inline := func(user string) string {
		cert, key := api.ca.issue(t, user)
		return fmt.Sprintf("{client-certificate-data: %s, client-key-data: %s}",
			base64.StdEncoding.EncodeToString(cert), base64.StdEncoding.EncodeToString(key))
	}
	api.tokens["token"] = "by token"
	f.kubeconfig(t, api.URL, inline("system:node:node-a"))
	c, err := Connect(t.Context(), Options{Kubeconfig: path, Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	for _, next := range []struct{ name, user, want string }{
		{"certificate", inline("the next"), "the next"},
		{"token", "{token: token}", "by token"},
		{"cut short", "{", "by token"},
		{"file", certificateUser, "system:node:node-a"},
	} {
		f.kubeconfig(t, api.URL, next.user)
		if _, err := c.Client.CoreV1().Nodes().Get(t.Context(), "node-a", metav1.GetOptions{}); err != nil {
			t.Errorf("%s: %v", next.name, err)
		}
		if users := api.users(); users[len(users)-1] != next.want {
			t.Errorf("%s: the request came from %s", next.name, users[len(users)-1])
		}
	}
	if len(api.agents) != 1 {
		t.Errorf("requests by %v", api.agents)
	}
	// What was learned is of another cluster, perhaps: the caller has to connect anew.
	asked := len(api.users())
	f.kubeconfig(t, "https://127.0.0.1:1", certificateUser)
	_, err = c.Client.CoreV1().Nodes().Get(t.Context(), "node-a", metav1.GetOptions{})
	wantError(t, errors.Unwrap(err), Unreachable, "the API server "+api.URL+" cannot be reached: the kubeconfig leads to https://127.0.0.1:1 now")
	if len(api.users()) != asked {
		t.Error("the old server was asked")
	}
	eventually(t, "no connection", func() bool { c.CloseIdle(); return api.connections() == 0 })
}

// What is written while it is read is read once more.
func TestKubeconfigChangesMeanwhile(t *testing.T) {
	api := newFakeAPI(t)
	api.tokens["old"], api.tokens["newer"] = "old", "newer"
	f := files{t.TempDir()}
	f.write(t, "ca.crt", api.ca.pem)
	path := f.kubeconfig(t, api.URL, "{token: old}")
	client, fresh, err := newClient(path, func() (*rest.Config, error) {
		cfg, err := load(path, pluginTime)
		f.kubeconfig(t, api.URL, "{token: newer}")
		return cfg, err
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Nodes().Get(t.Context(), "node-a", metav1.GetOptions{}); err != nil || !slices.Equal(api.users(), []string{"newer"}) {
		t.Errorf("asked by %v, %v", api.users(), err)
	}
	eventually(t, "no connection", func() bool { fresh.closeIdle(); return api.connections() == 0 })
}

func TestRotatedCA(t *testing.T) {
	api := newFakeAPI(t)
	f, path := kubelet(t, api, "system:node:node-a")
	c, err := Connect(t.Context(), Options{Kubeconfig: path})
	if err != nil {
		t.Fatal(err)
	}
	next := newAuthority(t, "next")
	api.use(t, next)
	f.write(t, "ca.crt", append(slices.Clone(api.ca.pem), next.pem...))
	c.CloseIdle()
	if _, err := c.Client.CoreV1().Nodes().Get(t.Context(), "node-a", metav1.GetOptions{}); err != nil {
		t.Errorf("after the CA was rotated: %v", err)
	}
}

func TestTokens(t *testing.T) {
	api := newFakeAPI(t)
	api.tokens["inline"], api.tokens["filed"], api.tokens["executed"] = "system:node:node-a", "system:node:node-a", "system:node:node-a"
	f := files{t.TempDir()}
	f.write(t, "ca.crt", api.ca.pem)
	f.write(t, "token", []byte("filed\n"))
	f.write(t, "plugin", []byte(`#!/bin/sh
echo x >> `+f.path("calls")+`
[ -t 0 ] && exit 9
cat <<END
{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"executed","expirationTimestamp":"2099-01-01T00:00:00Z"}}
END
`))
	if err := os.Chmod(f.path("plugin"), 0o700); err != nil {
		t.Fatal(err)
	}
	plugin := func(command string) string {
		return fmt.Sprintf("{exec: {apiVersion: client.authentication.k8s.io/v1, command: %s, interactiveMode: Always}}", command)
	}
	for name, user := range map[string]string{"inline": "{token: inline}", "file": "{tokenFile: token}", "plugin": plugin("./plugin")} {
		c, err := Connect(t.Context(), Options{Kubeconfig: f.kubeconfig(t, api.URL, user)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.NodeName != "node-a" || c.User != "system:node:node-a" {
			t.Errorf("%s: %+v", name, c)
		}
		eventually(t, "no connection", func() bool { c.CloseIdle(); return api.connections() == 0 })
	}
	if calls, err := os.ReadFile(f.path("calls")); err != nil || string(calls) != "x\n" {
		t.Errorf("calls of the plugin: %q, %v", calls, err)
	}
	_, err := Connect(t.Context(), Options{Kubeconfig: f.kubeconfig(t, api.URL, plugin("/nonexistent/plugin"))})
	wantError(t, err, Unauthorized, "there is no credential from the program that kubeconfig "+f.path("kubelet.conf")+" names: getting credentials: exec: ")
	_, err = Connect(t.Context(), Options{Kubeconfig: f.kubeconfig(t, api.URL, "{token: unknown}")})
	wantError(t, err, Unauthorized, "the API server "+api.URL+" does not accept the credential: Unauthorized (see whether")
}

// A plugin may also give a certificate.
func TestPluginWithCertificate(t *testing.T) {
	api := newFakeAPI(t)
	f := files{t.TempDir()}
	f.write(t, "ca.crt", api.ca.pem)
	cert, key := api.ca.issue(t, "system:node:node-a")
	f.write(t, "plugin", fmt.Appendf(nil, "#!/bin/sh\ncat <<'END'\n{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\",\"status\":{\"clientCertificateData\":%q,\"clientKeyData\":%q}}\nEND\n", cert, key))
	if err := os.Chmod(f.path("plugin"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, reviews := range []int{0, 404} { // old servers: the name is read in the certificate
		api.reviews = reviews
		c, err := Connect(t.Context(), Options{Kubeconfig: f.kubeconfig(t, api.URL, "{exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin}}")})
		if err != nil {
			t.Fatal(err)
		}
		if c.NodeName != "node-a" {
			t.Errorf("%+v", c)
		}
		c.CloseIdle()
	}
}

// A plugin that hangs is ended, with what it has started: client-go would wait
// for it for ever, whatever the context says.
func TestPluginThatHangs(t *testing.T) {
	api := newFakeAPI(t)
	f := files{t.TempDir()}
	f.write(t, "ca.crt", api.ca.pem)
	path := f.kubeconfig(t, api.URL, "{exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin}}")
	ask := func(script string, limit time.Duration) error {
		f.write(t, "plugin", []byte("#!/bin/sh\n"+script))
		if err := os.Chmod(f.path("plugin"), 0o700); err != nil {
			t.Fatal(err)
		}
		cfg, err := load(path, limit)
		if err != nil {
			t.Fatal(err)
		}
		client, _, err := newClient("", func() (*rest.Config, error) { return cfg, nil }, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.CoreV1().Nodes().Get(t.Context(), "node-a", metav1.GetOptions{})
		return errors.Unwrap(err)
	}
	err := ask("sleep 1000 & echo $! >"+f.path("child")+"; wait", 300*time.Millisecond)
	if want := "getting credentials: exec: " + f.path("plugin") + " has not answered within 0.3 s"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	child, err := os.ReadFile(f.path("child"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of what the plugin has started", func() bool {
		state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(child)) + "/stat")
		return err != nil || strings.Contains(string(state), ") Z ")
	})
	err = ask("exit 3", time.Minute)
	if want := "getting credentials: exec: executable " + f.path("plugin") + " failed with exit code 3"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// A timeout(1) that knows short options alone, as that of BusyBox, does as well.
func TestPluginWithAnotherTimeout(t *testing.T) {
	api := newFakeAPI(t)
	api.tokens["token"] = "system:node:node-a"
	f := files{t.TempDir()}
	f.write(t, "ca.crt", api.ca.pem)
	for name, script := range map[string]string{
		"timeout": `case $1 in --*) exit 1;; esac; [ "$1 $2" = "-k5 30" ] && shift 2 && exec "$@"`,
		"plugin":  `echo '{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": {"token": "token"}}'`,
	} {
		f.write(t, name, []byte("#!/bin/sh\n"+script+"\n"))
		if err := os.Chmod(f.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", f.path("")+":"+os.Getenv("PATH"))
	c, err := Connect(t.Context(), Options{Kubeconfig: f.kubeconfig(t, api.URL, "{exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin}}")})
	if err != nil {
		t.Fatal(err)
	}
	c.CloseIdle()
}

func TestRequestsAreCounted(t *testing.T) {
	api := newFakeAPI(t)
	_, path := kubelet(t, api, "system:node:node-a")
	var mu sync.Mutex
	var got []string
	c, err := Connect(t.Context(), Options{Kubeconfig: path, OnRequest: func(verb string, code int) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintln(verb, code))
	}})
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.Client.CoreV1().ConfigMaps("ns").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.Stop()
	_, _ = c.Client.CoreV1().Nodes().Get(t.Context(), "node-z", metav1.GetOptions{})
	eventually(t, "no connection", func() bool { c.CloseIdle(); return api.connections() == 0 })
	api.Listener.Close()
	if _, err := c.Client.CoreV1().Nodes().Get(t.Context(), "node-a", metav1.GetOptions{}); err == nil {
		t.Error("an answer without a server")
	}
	want := "create 201\nget 200\nwatch 200\nget 404\nget 0\n"
	mu.Lock()
	defer mu.Unlock()
	if all := strings.Join(got, ""); all != want {
		t.Errorf("got\n%swant\n%s", all, want)
	}
}
