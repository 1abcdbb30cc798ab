package kube

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Certificate tells how long the client certificate of a kubeconfig is good
// for. It asks nobody, and reads files only when they changed. Its methods may
// be called concurrently.
type Certificate struct {
	mu         sync.Mutex
	configured string
	stamps     [2]fileStamp // of the kubeconfig, and of the certificate's file
	file       string       // of the certificate; empty: it stands in the kubeconfig, or there is none
	until      time.Time
}

// NewCertificate is that of the kubeconfig at this path; empty: search, as
// Options.Kubeconfig.
func NewCertificate(kubeconfig string) *Certificate { return &Certificate{configured: kubeconfig} }

// Use goes on with another kubeconfig.
func (c *Certificate) Use(kubeconfig string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.configured != kubeconfig {
		c.configured, c.stamps = kubeconfig, [2]fileStamp{}
	}
}

// Expiry is NotAfter of the certificate that TLS presents: the first one in the
// file, whatever certificates of its authorities follow. The zero time means
// that the kubeconfig has another kind of credential. Errors are *Error.
func (c *Certificate) Expiry() (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	path, err := Find(c.configured)
	if err != nil {
		return time.Time{}, err
	}
	stamps, unknown := stampsOf(path, c.file)
	if unknown == nil && c.stamps[0].FileInfo != nil && stamps[0].same(c.stamps[0]) && stamps[1].same(c.stamps[1]) {
		return c.until, nil
	}
	c.stamps = [2]fileStamp{}
	file, until, err := readExpiry(path)
	if err != nil {
		return time.Time{}, err
	}
	if unknown == nil && file == c.file {
		c.stamps = stamps // of both files as they were before they were read
	}
	c.file, c.until = file, until
	return until, nil
}

func stampsOf(kubeconfig, file string) (stamps [2]fileStamp, err error) {
	for i, path := range []string{kubeconfig, file} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return stamps, err
		}
		stamps[i] = fileStamp{info}
	}
	return stamps, nil
}

// readExpiry reads the kubeconfig, and the file that it may name.
func readExpiry(path string) (file string, until time.Time, err error) {
	raw, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return "", time.Time{}, fileError(path, err)
	}
	if err := clientcmd.ResolveLocalPaths(raw); err != nil {
		return "", time.Time{}, &Error{Kind: Malformed, Path: path, Err: err}
	}
	user := currentUser(raw)
	if user == nil {
		return "", time.Time{}, &Error{Kind: Malformed, Path: path, Err: errors.New("its current context has no user")}
	}
	text := user.ClientCertificateData // as in client-go, before the file
	if len(text) == 0 && user.ClientCertificate != "" {
		file = user.ClientCertificate
		if text, err = os.ReadFile(file); err != nil {
			return "", time.Time{}, &Error{Kind: Unreadable, Path: path, Err: err}
		}
	}
	if len(text) == 0 && file == "" {
		return "", time.Time{}, nil
	}
	if until, err = notAfter(text); err != nil {
		return "", time.Time{}, &Error{Kind: Malformed, Path: path, Err: err}
	}
	return file, until, nil
}

func currentUser(raw *clientcmdapi.Config) *clientcmdapi.AuthInfo {
	context := raw.Contexts[raw.CurrentContext]
	if context == nil {
		return nil
	}
	return raw.AuthInfos[context.AuthInfo]
}

// notAfter is the end of the first certificate in text, which may have keys in
// it as well: the kubelet keeps both in one file.
func notAfter(text []byte) (time.Time, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return time.Time{}, errors.New("the client certificate is not in PEM form")
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return time.Time{}, errors.New("the client certificate cannot be read")
		}
		return certificate.NotAfter, nil
	}
}
