package kube

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// CredentialKind is the kind of a credential that has an end. The set is closed.
type CredentialKind string

// The kinds.
const (
	ClientCertificate CredentialKind = "certificate"
	BearerToken       CredentialKind = "token"
)

// Validity is how long a credential is good. The zero value is that of one
// without an end that can be seen: of a plugin, or an opaque token.
type Validity struct {
	Kind   CredentialKind
	Begins time.Time
	Ends   time.Time
}

// Late reports whether a credential should have been renewed by now, whoever
// does that: less than a twelfth of its life is left, or less than 30 days. The
// kubelet renews when 30 to 10 % are left (nextRotationDeadline in client-go's
// util/certificate), kured enroll when a third is. The alert KuredCredentialExpires has
// the same rule.
func (v Validity) Late(now time.Time) bool {
	const part, most = 12, 30 * 24 * time.Hour
	return v.Kind != "" && v.Ends.Sub(now) < min(v.Ends.Sub(v.Begins)/part, most)
}

// Credential tells how long the credential of a kubeconfig is good. It asks
// nobody, and reads files only when they changed. Its methods may be called
// concurrently.
type Credential struct {
	mu         sync.Mutex
	configured string
	stamps     []fileStamp // of the kubeconfig, and of the credential's file; nil: not known
	file       string      // of the credential; empty: it stands in the kubeconfig, or there is none
	is         Validity
}

// NewCredential is that of the kubeconfig at this path; empty: search, as
// Options.Kubeconfig.
func NewCredential(kubeconfig string) *Credential { return &Credential{configured: kubeconfig} }

// Use goes on with another kubeconfig.
func (c *Credential) Use(kubeconfig string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.configured != kubeconfig {
		c.configured, c.stamps = kubeconfig, nil
	}
}

// Validity is that of the certificate that TLS presents: the first one in the
// file, whatever certificates of its authorities follow. Without a certificate
// it is what the token says of itself. Errors are *Error.
func (c *Credential) Validity() (Validity, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	path, err := Find(c.configured)
	if err != nil {
		return Validity{}, err
	}
	stamps, unknown := stampsOf(path, c.file)
	if unknown == nil && sameStamps(stamps, c.stamps) {
		return c.is, nil
	}
	c.stamps = nil
	file, is, err := readValidity(path)
	if err != nil {
		return Validity{}, err
	}
	if unknown == nil && file == c.file {
		c.stamps = stamps // of both files as they were before they were read
	}
	c.file, c.is = file, is
	return is, nil
}

// readValidity reads the kubeconfig, and the file that it may name.
func readValidity(path string) (file string, is Validity, err error) {
	raw, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return "", Validity{}, fileError(path, err)
	}
	if err := clientcmd.ResolveLocalPaths(raw); err != nil {
		return "", Validity{}, &Error{Kind: Malformed, Path: path, Err: err}
	}
	user := currentUser(raw)
	if user == nil {
		return "", Validity{}, &Error{Kind: Malformed, Path: path, Err: errors.New("its current context has no user")}
	}
	read := func(name string) (text []byte, err error) {
		if text, err = os.ReadFile(name); err != nil {
			return nil, &Error{Kind: Unreadable, Path: path, Err: err}
		}
		return text, nil
	}
	switch { // as client-go: data before the certificate's file, the token's file before the token
	case len(user.ClientCertificateData) > 0 || user.ClientCertificate != "":
		text := user.ClientCertificateData
		if len(text) == 0 {
			file = user.ClientCertificate
			if text, err = read(file); err != nil {
				return "", Validity{}, err
			}
		}
		leaf, err := Leaf(text)
		if err != nil {
			return "", Validity{}, &Error{Kind: Malformed, Path: path, Err: fmt.Errorf("the client certificate: %w", err)}
		}
		return file, Validity{ClientCertificate, leaf.NotBefore, leaf.NotAfter}, nil
	case user.TokenFile != "":
		text, err := read(user.TokenFile)
		if err != nil {
			return "", Validity{}, err
		}
		return user.TokenFile, tokenValidity(string(text)), nil
	}
	return "", tokenValidity(user.Token), nil
}

// tokenValidity is that of any token: some are opaque, and some have no end.
func tokenValidity(text string) Validity {
	token, err := ReadToken(strings.TrimSpace(text))
	if err != nil {
		return Validity{}
	}
	return Validity{BearerToken, token.Begins, token.Ends}
}

func currentUser(raw *clientcmdapi.Config) *clientcmdapi.AuthInfo {
	context := raw.Contexts[raw.CurrentContext]
	if context == nil {
		return nil
	}
	return raw.AuthInfos[context.AuthInfo]
}

// Leaf is the certificate that TLS presents: the first one in text, in PEM form,
// which may have keys in it as well, as the kubelet keeps both in one file.
func Leaf(text []byte) (*x509.Certificate, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, errors.New("it is not in PEM form")
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("it cannot be read")
		}
		return leaf, nil
	}
}
