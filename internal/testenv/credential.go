package testenv

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// lifetime of the CA and of credentials that do not say otherwise.
const lifetime = 7 * 24 * time.Hour

// A Subject is somebody to whom the control plane's CA gives a client certificate.
type Subject struct {
	User   string   // the certificate's common name
	Groups []string // the certificate's organizations
	// Lifetime of the certificate from now on. Default: a week.
	Lifetime time.Duration
}

// NodeSubject is the kubelet of the node: user system:node:NAME in group system:nodes.
func NodeSubject(node string) Subject {
	return Subject{User: "system:node:" + node, Groups: []string{"system:nodes"}}
}

// A Credential is a client certificate, or a token, with everything that is needed to use it.
type Credential struct {
	Server      string // URL of the API server; may be replaced before use
	CA          []byte // PEM certificate of the server's CA
	Certificate []byte // PEM client certificate
	Key         []byte // PEM private key
	Token       string // bearer token, in place of certificate and key
}

// Issue makes a client certificate for the subject.
func (cp *ControlPlane) Issue(subject Subject) (Credential, error) {
	if subject.User == "" {
		return Credential{}, errors.New("issue a credential: no user")
	}
	if subject.Lifetime == 0 {
		subject.Lifetime = lifetime
	}
	certificate, key, err := cp.ca.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: subject.User, Organization: subject.Groups},
		NotAfter:    time.Now().Add(subject.Lifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return Credential{}, fmt.Errorf("issue a credential for %s: %w", subject.User, err)
	}
	return Credential{Server: cp.Server(), CA: cp.ca.pem, Certificate: certificate, Key: key}, nil
}

// NodeCredential issues the credential of the node's kubelet.
func (cp *ControlPlane) NodeCredential(node string) (Credential, error) {
	return cp.Issue(NodeSubject(node))
}

// NodeToken asks, as the administrator, for a token of the ServiceAccount that is
// bound to the Node: the API server refuses it once the Node is gone (KEP-4193).
// Both must exist; without a node the token is bound to nothing. It is valid for
// an hour.
func (cp *ControlPlane) NodeToken(ctx context.Context, namespace, serviceAccount, node string) (Credential, error) {
	fail := func(err error) (Credential, error) {
		return Credential{}, fmt.Errorf("token of %s/%s for node %q: %w", namespace, serviceAccount, node, err)
	}
	var spec authenticationv1.TokenRequestSpec
	if node != "" {
		bound, err := cp.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return fail(err)
		}
		spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Node", Name: node, UID: bound.UID}
	}
	answer, err := cp.client.CoreV1().ServiceAccounts(namespace).CreateToken(
		ctx, serviceAccount, &authenticationv1.TokenRequest{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return fail(err)
	}
	return Credential{Server: cp.Server(), CA: cp.ca.pem, Token: answer.Status.Token}, nil
}

// Kubeconfig issues a credential and writes it as name.kubeconfig, name.crt and
// name.key into the control plane's directory. The kubeconfig refers to the
// other two as files, so that replacing them rotates the credential.
func (cp *ControlPlane) Kubeconfig(name string, subject Subject) (path string, err error) {
	credential, err := cp.Issue(subject)
	if err != nil {
		return "", err
	}
	return credential.Write(cp.dir, name)
}

// NodeKubeconfig issues a credential of the node's kubelet and returns a
// kubeconfig that holds all of it.
func (cp *ControlPlane) NodeKubeconfig(node string) ([]byte, error) {
	credential, err := cp.NodeCredential(node)
	if err != nil {
		return nil, err
	}
	return credential.Kubeconfig()
}

// Config is a client configuration that holds the credential itself, without a
// proxy and with client-go's default limit of requests.
func (c Credential) Config() *rest.Config {
	return &rest.Config{
		Host:            c.Server,
		BearerToken:     c.Token,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.CA, CertData: c.Certificate, KeyData: c.Key},
		Proxy:           func(*http.Request) (*url.URL, error) { return nil, nil },
	}
}

// Kubeconfig is a kubeconfig that holds the credential itself. client-go never
// reloads such a one.
func (c Credential) Kubeconfig() ([]byte, error) {
	return kubeconfig(
		&api.Cluster{Server: c.Server, CertificateAuthorityData: c.CA},
		&api.AuthInfo{ClientCertificateData: c.Certificate, ClientKeyData: c.Key, Token: c.Token})
}

// KubeconfigWithFiles is a kubeconfig that refers to the credential by these
// paths, which need not exist on this machine. Certificate and key may be one
// file, as the kubelet's kubelet-client-current.pem is.
func (c Credential) KubeconfigWithFiles(ca, certificate, key string) ([]byte, error) {
	return kubeconfig(
		&api.Cluster{Server: c.Server, CertificateAuthority: ca},
		&api.AuthInfo{ClientCertificate: certificate, ClientKey: key})
}

// Write writes name.kubeconfig, name-ca.crt, name.crt and name.key into dir, for
// their owner only, each in one step. Written again, it is a rotation.
func (c Credential) Write(dir, name string) (kubeconfigPath string, err error) {
	path := func(suffix string) string { return filepath.Join(dir, name+suffix) }
	content, err := c.KubeconfigWithFiles(path("-ca.crt"), path(".crt"), path(".key"))
	if err != nil {
		return "", err
	}
	for _, file := range []struct {
		path    string
		content []byte
	}{
		{path("-ca.crt"), c.CA}, {path(".key"), c.Key}, {path(".crt"), c.Certificate}, {path(".kubeconfig"), content},
	} {
		if err := writeAtomically(file.path, file.content); err != nil {
			return "", fmt.Errorf("write credential %s: %w", name, err)
		}
	}
	return path(".kubeconfig"), nil
}

func writeAtomically(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func kubeconfig(cluster *api.Cluster, user *api.AuthInfo) ([]byte, error) {
	content, err := clientcmd.Write(api.Config{
		Clusters:       map[string]*api.Cluster{"test": cluster},
		AuthInfos:      map[string]*api.AuthInfo{"test": user},
		Contexts:       map[string]*api.Context{"test": {Cluster: "test", AuthInfo: "test"}},
		CurrentContext: "test",
	})
	if err != nil {
		return nil, fmt.Errorf("write kubeconfig: %w", err)
	}
	return content, nil
}

// An authority is the one CA of a control plane: of its server and its clients.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	pem         []byte
	keyPEM      []byte
}

func newAuthority() (*authority, error) {
	a := &authority{certificate: &x509.Certificate{
		Subject:               pkix.Name{CommonName: "kured test CA"},
		NotAfter:              time.Now().Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}}
	var err error
	// Without a key yet the template signs itself.
	if a.pem, _, err = a.issue(a.certificate); err != nil {
		return nil, fmt.Errorf("make a CA: %w", err)
	}
	block, _ := pem.Decode(a.pem)
	if a.certificate, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("read back the CA: %w", err)
	}
	return a, nil
}

// newKey makes a private key and its PEM form.
func newKey() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}), nil
}

// issue signs the template with a new key and returns both as PEM.
func (a *authority) issue(template *x509.Certificate) (certificate, key []byte, err error) {
	private, key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	if a.key == nil {
		a.key, a.keyPEM = private, key
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, err
	}
	// Test nodes may have clocks that are a little behind.
	template.NotBefore = time.Now().Add(-time.Hour)
	template.KeyUsage |= x509.KeyUsageDigitalSignature
	signed, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), key, nil
}

// server issues a serving certificate for the names, IP addresses among them.
func (a *authority) server(names []string) (certificate, key []byte, err error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: APIServer},
		NotAfter:    time.Now().Add(lifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return a.issue(template)
}
