package kube

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// PersonOptions says as whom a person connects.
type PersonOptions struct {
	Kubeconfig string // path, as given on the command line; empty: kubectl's rules
	Kubelet    string // path of the node's kubeconfig, as configured; empty: search
	Version    string // of kured, for the User-Agent
}

// Person is a connection as whoever runs a command: an admin on any machine,
// or root on a node.
type Person struct {
	Client     kubernetes.Interface
	User       string // the name under which the API server knows us; empty if nobody says it
	Node       string // the node whose credential this is; empty: a person's
	Kubeconfig string // path, or several joined by ":"
	Server     string // URL
}

// ConnectPerson connects with the kubeconfig that is given or, by kubectl's
// rules, with those in $KUBECONFIG or with ~/.kube/config. If there is neither,
// and only then, it takes the kubelet's, as the daemon does. It makes one
// request. Errors are *Error.
func ConnectPerson(ctx context.Context, o PersonOptions) (*Person, error) {
	p, err := connectPerson(ctx, o)
	var e *Error
	if errors.As(err, &e) {
		e.Personal = true
	}
	return p, err
}

func connectPerson(ctx context.Context, o PersonOptions) (*Person, error) {
	raw, path, err := personal(o)
	if err != nil {
		return nil, err
	}
	if len(raw.Contexts) == 0 {
		return nil, &Error{Kind: Malformed, Path: path, Err: errors.New("it has no context")}
	}
	if err := readable(raw); err != nil {
		return nil, &Error{Kind: Unreadable, Path: path, Err: err}
	}
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*raw, "", &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return nil, fileError(path, err)
	}
	cfg.UserAgent = "kured/" + o.Version
	client, transport, err := newClient("", func() (*rest.Config, error) { return cfg, nil }, nil)
	if err != nil {
		return nil, malformed(path, err)
	}
	c := &Cluster{Client: client, Kubeconfig: path, Server: cfg.Host, transport: transport}
	node, _, err := c.credentialName(ctx)
	if err != nil {
		return nil, err
	}
	return &Person{Client: client, User: c.User, Node: node, Kubeconfig: path, Server: c.Server}, nil
}

// personal reads the kubeconfig that ConnectPerson uses, with paths resolved.
func personal(o PersonOptions) (raw *clientcmdapi.Config, path string, err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath, rules.WarnIfAllMissing = o.Kubeconfig, false
	rules.MigrationRules = nil // of files as Kubernetes 1.0 had them; it would write
	path = strings.Join(rules.Precedence, string(filepath.ListSeparator))
	switch {
	case o.Kubeconfig != "":
		path = o.Kubeconfig
		if _, err := check(path); err != nil {
			return nil, path, err
		}
	case !anyExists(rules.Precedence):
		if os.Getenv(clientcmd.RecommendedConfigPathEnvVar) != "" {
			return nil, path, &Error{Kind: NotFound, Path: path, Err: errors.New("$KUBECONFIG names no file that exists")}
		}
		if rules.ExplicitPath, err = Find(o.Kubelet); err != nil {
			var e *Error
			if errors.As(err, &e) && e.Kind == NotFound {
				err = &Error{Kind: NotFound, Path: o.Kubelet, Err: fmt.Errorf("$KUBECONFIG is not set, and there is neither %s nor the kubelet's", clientcmd.RecommendedHomeFile)}
			}
			return nil, "", err
		}
		path = rules.ExplicitPath
	}
	if raw, err = rules.Load(); err != nil {
		return nil, path, fileError(path, err)
	}
	return raw, path, nil
}

func anyExists(paths []string) bool {
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return true // one that cannot be read is an error, not a reason to take another
		}
	}
	return false
}
