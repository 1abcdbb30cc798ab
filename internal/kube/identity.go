package kube

import (
	"context"
	"fmt"
	"os"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Where the name of our Node came from.
const (
	SourceCredential    = "credential"    // the API server says who we are
	SourceCertificate   = "certificate"   // the same, read in the client certificate: the API server does not say it
	SourceToken         = "token"         // the same, read in the token
	SourceConfiguration = "configuration" // kubernetes.node_name
	SourceHostname      = "hostname"
)

// Users that belong to one node.
const (
	kubeletUserPrefix   = "system:node:" // the kubelet's own certificate
	dedicatedUserPrefix = "kured:node:"  // a certificate made for kured on that node
	// Set for a service account token that is bound to a Node (KEP-4193).
	nodeNameExtra = "authentication.kubernetes.io/node-name"
)

// nodeOfUser is the node that a user name belongs to, if it is one of a node.
func nodeOfUser(user string) (name string, ok bool) {
	for _, prefix := range []string{kubeletUserPrefix, dedicatedUserPrefix} {
		if name, ok = strings.CutPrefix(user, prefix); ok {
			return name, true
		}
	}
	return "", false
}

// identify finds the name of our Node and sees that the Node exists.
func (c *Cluster) identify(ctx context.Context, configured string) error {
	name, source, err := c.credentialName(ctx)
	if err != nil {
		return err
	}
	switch {
	case name != "" && configured != "" && name != configured:
		return &Error{Kind: Mismatch, Path: c.Kubeconfig, Server: c.Server, Node: configured,
			Err: fmt.Errorf("%q is configured, the credential is that of %q", configured, name)}
	case name != "":
	case configured != "":
		name, source = configured, SourceConfiguration
	default:
		if name, err = os.Hostname(); err != nil {
			return &Error{Kind: NoNode, Path: c.Kubeconfig, Server: c.Server, Err: err}
		}
		// The form in which a kubelet takes it.
		name, source = strings.ToLower(strings.TrimSpace(name)), SourceHostname
	}
	self, err := c.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return apiError(c, name, err)
	}
	c.NodeName, c.NodeNameSource, c.UID, c.Labels = name, source, string(self.UID), self.Labels
	return nil
}

// NodeUID looks up any Node by its name: is there one, and which UID has it.
// That there is none, only the API server itself can say: who asks takes it for
// evidence. It needs the right to get nodes, which a kubelet has only for its own.
func (c *Cluster) NodeUID(ctx context.Context, name string) (uid string, found bool, err error) {
	other, err := c.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case gone(err):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("look up node %s: %w", name, err)
	}
	return string(other.UID), true, nil
}

// credentialName learns who we are, and the node that the credential belongs
// to, "" if it is not a node's.
func (c *Cluster) credentialName(ctx context.Context) (name, source string, err error) {
	review, err := c.Client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	switch {
	case err == nil:
		user := review.Status.UserInfo
		c.User = user.Username
		if node, ok := nodeOfUser(user.Username); ok {
			return node, SourceCredential, nil
		}
		if bound := user.Extra[nodeNameExtra]; len(bound) == 1 {
			return bound[0], SourceCredential, nil
		}
		return "", "", nil
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err): // before Kubernetes 1.28, or shut off
		if c.User, err = c.transport.certificateUser(); err != nil {
			return "", "", &Error{Kind: Unauthorized, Path: c.Kubeconfig, Server: c.Server, Err: err}
		}
		if node, ok := nodeOfUser(c.User); ok {
			return node, SourceCertificate, nil
		}
		if c.User != "" {
			return "", "", nil
		}
		token := c.transport.token()
		c.User = token.Subject
		return token.Node, SourceToken, nil
	default:
		return "", "", apiError(c, "", err)
	}
}
