package kube

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kured-host/kured/internal/status"
)

// Kind sorts the errors of Connect. The set is closed.
type Kind string

// The kinds.
const (
	NotFound     Kind = "not-found"    // no kubeconfig
	Ambiguous    Kind = "ambiguous"    // several kubelets' kubeconfigs, and none is configured
	Unreadable   Kind = "unreadable"   // the kubeconfig or a file that it names cannot be read
	Malformed    Kind = "malformed"    // the kubeconfig cannot be used as it is
	Untrusted    Kind = "untrusted"    // the API server's certificate is not of the CA we know
	Unauthorized Kind = "unauthorized" // the API server does not know us (401), or an exec plugin gives no credential
	Forbidden    Kind = "forbidden"    // it knows us and we may not read our Node (403)
	Unreachable  Kind = "unreachable"  // no answer, or one that may pass (5xx, 429)
	NoNode       Kind = "no-node"      // there is no Node of our name
	Mismatch     Kind = "mismatch"     // the configured node name is not that of the credential
)

// Error is why there is no connection to the cluster.
type Error struct {
	Kind     Kind
	Path     string // of the kubeconfig
	Server   string // URL, if it came that far
	Node     string // the name, if it came that far
	Personal bool   // of a command that a person runs, not of the daemon
	Err      error
}

// Permanent reports whether only another configuration of kured can help, so
// that trying again is pointless. A kubeconfig can be repaired while we wait.
func (e *Error) Permanent() bool { return e.Kind == Mismatch }

// Reason is the word for it in the status.
func (e *Error) Reason() status.Reason {
	switch e.Kind {
	case Unreachable, Untrusted:
		return status.APIUnreachable
	case Forbidden:
		return status.APIForbidden
	case NoNode:
		return status.NodeMissing
	default:
		return status.NoCredential
	}
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Error is one line: what is wrong, the cause, and what to do.
func (e *Error) Error() string {
	what, do := e.explain()
	switch {
	case !e.Personal:
	case e.Kind == NotFound, e.Kind == Ambiguous, e.Kind == Unreadable, e.Kind == Malformed:
		do = "give another one with --kubeconfig"
	case e.ofPlugin():
		do = "" // what that program says is on the terminal
	}
	var b strings.Builder
	b.WriteString(what)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %s", strings.Join(strings.Fields(e.Err.Error()), " "))
	}
	if do != "" {
		fmt.Fprintf(&b, " (%s)", do)
	}
	return b.String()
}

// ofPlugin reports whether a credential plugin gave no credential, so that the
// API server was not asked.
func (e *Error) ofPlugin() bool {
	return e.Kind == Unauthorized && e.Err != nil && isPluginError(e.Err)
}

func (e *Error) explain() (what, do string) {
	file := "kubeconfig"
	if e.Path != "" {
		file += " " + e.Path
	}
	switch e.Kind {
	case NotFound:
		return file + " not found", "join the node to a cluster, or set kubernetes.kubeconfig"
	case Ambiguous:
		return "kubeconfigs of several kubelets found", "set kubernetes.kubeconfig to that of the kubelet that runs here"
	case Unreadable:
		return file + " cannot be read", "kured must run as root; the kubelet writes these files when it joins the cluster"
	case Malformed:
		return file + " cannot be used", "correct it, or set kubernetes.kubeconfig to another one"
	case Untrusted:
		return "the certificate of the API server " + e.Server + " is not trusted", "compare it with the certificate authority in " + file
	case Unauthorized:
		if e.ofPlugin() {
			return "there is no credential from the program that " + file + " names", "what that program says is in the journal of kured.service"
		}
		return "the API server " + e.Server + " does not accept the credential", "see whether the certificate or token in " + file + " has expired"
	case Forbidden:
		return fmt.Sprintf("the API server %s does not let us read the Node %q", e.Server, e.Node), "use the kubelet's own kubeconfig, or apply the manifests of kured"
	case Unreachable:
		return "the API server " + e.Server + " cannot be reached", ""
	case NoNode:
		return fmt.Sprintf("there is no Node %q in the cluster", e.Node), "the kubelet registers it when it starts; set kubernetes.node_name if the name is another"
	case Mismatch:
		return "kubernetes.node_name and " + file + " disagree", "remove kubernetes.node_name, or use the kubeconfig of that node"
	default:
		return file, ""
	}
}

// gone reports that the API server itself says that there is no such object,
// and not something between us and it that knows no such page.
func gone(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// apiError sorts an error of a request.
func apiError(c *Cluster, node string, err error) *Error {
	e := &Error{Kind: Unreachable, Path: c.Kubeconfig, Server: c.Server, Node: node, Err: err}
	var (
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		hostname    x509.HostnameError
		request     *url.Error
	)
	if errors.As(err, &request) {
		e.Err = request.Err // without the URL of the request: the server is named already
	}
	switch {
	case errors.As(err, &certificate), errors.As(err, &authority), errors.As(err, &hostname):
		e.Kind = Untrusted
	case apierrors.IsUnauthorized(err):
		e.Kind = Unauthorized
	case apierrors.IsForbidden(err):
		e.Kind = Forbidden
	case gone(err):
		e.Kind = NoNode
		if err.Error() == fmt.Sprintf("nodes %q not found", node) {
			e.Err = nil // says the same
		}
	case isPluginError(e.Err):
		e.Kind = Unauthorized
	}
	return e
}
