package enroll

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/statefile"
	"github.com/kured-host/kured/internal/status"
)

// Server is the cluster's side of a kubeconfig.
type Server struct {
	URL  string
	Name string // that its certificate is for, if another than in the URL
	CA   []byte // PEM; empty: the authorities that the node trusts
}

// ServerOf is where the current context of these kubeconfigs leads. They are
// paths joined as in $KUBECONFIG. One that does not check the server's
// certificate is refused: a node would give its token to anybody.
func ServerOf(paths string) (Server, error) {
	rules := clientcmd.ClientConfigLoadingRules{Precedence: filepath.SplitList(paths)}
	raw, err := rules.Load()
	if err != nil {
		return Server{}, fmt.Errorf("read %s: %w", paths, err)
	}
	context := raw.Contexts[raw.CurrentContext]
	if context == nil || raw.Clusters[context.Cluster] == nil {
		return Server{}, fmt.Errorf("%s: the current context has no cluster", paths)
	}
	cluster := raw.Clusters[context.Cluster]
	s := Server{URL: cluster.Server, Name: cluster.TLSServerName, CA: cluster.CertificateAuthorityData}
	switch {
	case cluster.InsecureSkipTLSVerify:
		return Server{}, fmt.Errorf("%s: it does not check the API server's certificate; a node has to", paths)
	case cluster.ProxyURL != "":
		return Server{}, fmt.Errorf("%s: it goes through a proxy of its own, which nodes need not have", paths)
	case len(s.CA) == 0 && cluster.CertificateAuthority != "":
		if s.CA, err = os.ReadFile(cluster.CertificateAuthority); err != nil {
			return Server{}, fmt.Errorf("the API server's authority: %w", err)
		}
	}
	if !strings.HasPrefix(s.URL, "https://") {
		return Server{}, fmt.Errorf("%s: %q is no https:// address", paths, clip(s.URL))
	}
	return s, nil
}

// Kubeconfig is a kubeconfig that holds the credential itself.
func (c Credential) Kubeconfig(s Server) ([]byte, error) {
	text, err := clientcmd.Write(api.Config{
		Clusters:       map[string]*api.Cluster{"cluster": {Server: s.URL, TLSServerName: s.Name, CertificateAuthorityData: s.CA}},
		AuthInfos:      map[string]*api.AuthInfo{"kured": {ClientCertificateData: c.certificate, ClientKeyData: c.key, Token: c.token}},
		Contexts:       map[string]*api.Context{"kured": {Cluster: "cluster", AuthInfo: "kured"}},
		CurrentContext: "kured",
	})
	if err != nil {
		return nil, errors.New("write the kubeconfig: it has no form") // the cause could show what is in it
	}
	return text, nil
}

// Write replaces the file at path in one step, readable by its owner alone. After
// a crash there is the old one or the new one.
func Write(path string, content []byte) error {
	if err := statefile.Replace(path, content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Read is the credential in the kubeconfig at path. An error that is
// fs.ErrNotExist says that there is none; one that is ErrOther, that the
// kubeconfig is not of a dedicated identity.
func Read(path string) (Credential, error) {
	raw, err := clientcmd.LoadFromFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return Credential{}, fmt.Errorf("read a kubeconfig: %w", err)
	}
	if err != nil {
		return Credential{}, fmt.Errorf("%s is no kubeconfig", path) // the cause may quote it
	}
	context := raw.Contexts[raw.CurrentContext]
	if context == nil || raw.AuthInfos[context.AuthInfo] == nil {
		return Credential{}, fmt.Errorf("%s: the current context has no user", path)
	}
	user := raw.AuthInfos[context.AuthInfo]
	switch {
	case user.Token != "":
		held, err := kube.ReadToken(user.Token)
		if err != nil || held.Subject != AccountUser || !isNode(held.Node) {
			return Credential{}, fmt.Errorf("%s: %w", path, ErrOther)
		}
		return Credential{Node: held.Node, Method: Token, Begins: held.Begins, Ends: held.Ends, token: user.Token}, nil
	case len(user.ClientCertificateData) > 0:
		leaf, err := kube.Leaf(user.ClientCertificateData)
		if err != nil {
			return Credential{}, fmt.Errorf("%s: the client certificate: %w", path, err)
		}
		node, ok := strings.CutPrefix(leaf.Subject.CommonName, userPrefix)
		if !ok || !isNode(node) {
			return Credential{}, fmt.Errorf("%s: %w", path, ErrOther)
		}
		return Credential{Node: node, Method: Certificate, Begins: leaf.NotBefore, Ends: leaf.NotAfter}, nil
	}
	return Credential{}, fmt.Errorf("%s: %w", path, ErrOther)
}

// isNode reports whether a Node can have this name, which is then safe to show.
func isNode(name string) bool { return len(validation.IsDNS1123Subdomain(name)) == 0 }

// ErrOther is a kubeconfig that kured enroll did not make.
var ErrOther = errors.New("not the credential of a dedicated identity, as kured enroll makes it")

// Anew is the command by which an administrator makes a new one.
func (c Credential) Anew() string { return "kured enroll " + c.Node + " --method " + string(c.Method) }

// Due reports whether a credential is to be renewed: a third of its life is left.
func (c Credential) Due(now time.Time) bool {
	return c.Ends.Sub(now) <= c.Ends.Sub(c.Begins)/3
}

// clip is text of others, bounded and printable.
func clip(text string) string { return status.Clean(text, 300) }
