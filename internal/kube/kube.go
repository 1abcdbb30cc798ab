// Package kube finds the node's kubeconfig, learns which Node we are and makes
// the client for the API server.
//
// The transport is ours, not the one that client-go makes and caches: that one
// keeps a goroutine for ever that looks at certificate files every five minutes
// (transport/cert_rotation.go), closes all connections when they changed, even
// under a write, and cannot be told to let go. A daemon with nothing to do must
// do nothing. So client-go resolves the credentials (files, exec plugins, token
// files, impersonation, proxies) and this package puts them into an
// http.Transport that is made anew when a request finds the kubeconfig, or the
// certificate or CA files, changed. New requests use the new files, those under way end
// undisturbed on the old connection, and no timer runs. After CloseIdle there
// is no connection and no goroutine.
package kube

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// client-go's default of 5 requests a second would stretch a drain.
const (
	requestsPerSecond = 50
	requestsBurst     = 100
)

// Options says whom to connect to and as whom. The zero value searches the
// kubelet's kubeconfig and learns the name from it.
type Options struct {
	Kubeconfig string // path; empty: search
	NodeName   string // as configured; empty: from the credential
	Version    string // of kured, for the User-Agent

	// OnRequest, if set, is told each HTTP request when its response starts:
	// one of Verbs, and the status code, 0 if there was no response. It may be
	// called concurrently.
	OnRequest func(verb string, code int)
}

// Cluster is a working connection to the API server, as the Node we are.
type Cluster struct {
	Client         kubernetes.Interface
	NodeName       string
	NodeNameSource string            // one of the Source constants
	UID            string            // of our Node object
	Labels         map[string]string // of our Node object, as they were when we connected
	User           string            // the name under which the API server knows us
	Kubeconfig     string            // path
	Server         string            // URL

	transport *freshTransport
}

// Connect loads the kubeconfig, learns the name of our Node and sees that the
// Node exists. It makes two requests, each limited by ctx. Errors are *Error.
func Connect(ctx context.Context, o Options) (*Cluster, error) {
	path, err := Find(o.Kubeconfig)
	if err != nil {
		return nil, err
	}
	read := func() (*rest.Config, error) {
		cfg, err := load(path, pluginTime)
		if err != nil {
			return nil, err
		}
		cfg.QPS, cfg.Burst = requestsPerSecond, requestsBurst
		cfg.UserAgent = "kured/" + o.Version
		cfg.ContentType = runtime.ContentTypeProtobuf
		cfg.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		return cfg, nil
	}
	client, transport, err := newClient(path, read, o.OnRequest)
	if err != nil {
		return nil, malformed(path, err)
	}
	c := &Cluster{Client: client, Kubeconfig: path, Server: transport.cfg.Host, transport: transport}
	if err := c.identify(ctx, o.NodeName); err != nil {
		c.CloseIdle()
		return nil, err
	}
	return c, nil
}

// CloseIdle closes every connection on which no request or watch is open. The
// next request opens a new one, with the credentials and CA then on disk.
func (c *Cluster) CloseIdle() { c.transport.closeIdle() }

// load reads the kubeconfig at path. A credential plugin gets that much time.
func load(path string, plugin time.Duration) (*rest.Config, error) {
	raw, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	if len(raw.Contexts) == 0 {
		// clientcmd would quietly take this for "http://localhost:8080".
		return nil, &Error{Kind: Malformed, Path: path, Err: errors.New("it has no context")}
	}
	if err := clientcmd.ResolveLocalPaths(raw); err != nil {
		return nil, &Error{Kind: Malformed, Path: path, Err: err}
	}
	for _, user := range raw.AuthInfos {
		if user.Exec != nil {
			user.Exec.InteractiveMode = clientcmdapi.NeverExecInteractiveMode
			user.Exec.StdinUnavailable = true
			limitPlugin(user.Exec, plugin)
		}
	}
	if err := readable(raw); err != nil {
		return nil, &Error{Kind: Unreadable, Path: path, Err: err}
	}
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*raw, "", &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return nil, fileError(path, err)
	}
	return cfg, nil
}

// readable opens each file that the current context needs. clientcmd opens
// them too, but its error cannot be told from that of a malformed file.
func readable(raw *clientcmdapi.Config) error {
	context := raw.Contexts[raw.CurrentContext]
	if context == nil {
		return nil // clientcmd says it better
	}
	var paths []string
	if cluster := raw.Clusters[context.Cluster]; cluster != nil {
		paths = append(paths, cluster.CertificateAuthority)
	}
	if user := raw.AuthInfos[context.AuthInfo]; user != nil {
		paths = append(paths, user.ClientCertificate, user.ClientKey, user.TokenFile)
	}
	for _, path := range paths {
		if path == "" {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_ = f.Close() // only read
	}
	return nil
}

// fileError sorts an error of reading or understanding the kubeconfig.
func fileError(path string, err error) *Error {
	e := &Error{Kind: Malformed, Path: path, Err: err}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		e.Kind, e.Err = Unreadable, pe.Err // without the path, which is named already
		if errors.Is(err, fs.ErrNotExist) {
			e.Kind = NotFound
		}
	}
	return e
}

// malformed sorts an error of making a client.
func malformed(path string, err error) error {
	if sorted := (*Error)(nil); errors.As(err, &sorted) {
		return err
	}
	return &Error{Kind: Malformed, Path: path, Err: err}
}

// IsKubelet reports whether our credential is the kubelet's own: NodeRestriction
// lets it do less to its Node than others.
func (c *Cluster) IsKubelet() bool { return strings.HasPrefix(c.User, kubeletUserPrefix) }
