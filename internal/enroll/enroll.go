// Package enroll makes the credential of a dedicated identity: a client
// certificate or a token that belongs to one node, as identity.yaml and the
// wall know them, and the kubeconfig around it.
//
// A certificate is made by the CSR API with an administrator's rights. The name
// that it carries is in a PKCS#10 request which no admission policy can read,
// so nodes may neither ask nor approve: a node that could would be any node. A
// token says for what it is wanted in plain fields, so a policy of the API
// server (kured-token) can hold each node to its own, and a node renews it.
package enroll

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/kured-host/kured/internal/kube"
)

// Method is the kind of a credential. The set is closed.
type Method string

// The methods.
const (
	Certificate Method = "certificate"
	Token       Method = "token"
)

// Methods are all methods.
func Methods() []Method { return []Method{Certificate, Token} }

// How identity.yaml and the wall know a dedicated identity.
const (
	userPrefix       = "kured:node:"
	group            = "kured:nodes"
	accountNamespace = "kube-system"
	account          = "kured"
	// AccountUser is the user name of each token.
	AccountUser = "system:serviceaccount:" + accountNamespace + ":" + account
)

// Lifetimes. Both APIs take no less than ten minutes, and the policy
// kured-token allows a node no more than 30 days.
const (
	MinLifetime     = 10 * time.Minute
	MaxOwnLifetime  = 30 * 24 * time.Hour
	DefaultLifetime = MaxOwnLifetime
)

// poll is the time between two looks for a certificate.
const poll = 500 * time.Millisecond

// Credential belongs to one node. It does not show its secrets when printed.
type Credential struct {
	Node   string
	Method Method
	Begins time.Time // when it was made, as far as it says
	Ends   time.Time

	certificate, key []byte // PEM
	token            string
}

// String implements fmt.Stringer.
func (c Credential) String() string { return string(c.Method) + " of node " + c.Node }

// GoString implements fmt.GoStringer.
func (c Credential) GoString() string { return c.String() }

// WithCertificate makes a client certificate for the node and has it signed by
// the signer kubernetes.io/kube-apiserver-client. Whoever the client is needs
// the rights to get the Node, to create, get and approve
// CertificateSigningRequests, and the verb approve for that signer. The signer
// may make the lifetime shorter. It waits until the certificate is there or ctx
// ends; the private key does not leave this process.
func WithCertificate(ctx context.Context, client kubernetes.Interface, node string, lifetime time.Duration) (Credential, error) {
	if _, err := existing(ctx, client, node); err != nil {
		return Credential{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Credential{}, fmt.Errorf("make a private key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: userPrefix + node, Organization: []string{group}}}, key)
	if err != nil {
		return Credential{}, fmt.Errorf("make a certificate request: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Credential{}, fmt.Errorf("write the private key: %w", err)
	}
	signed, err := sign(ctx, client, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), lifetime)
	if err != nil {
		return Credential{}, fmt.Errorf("certificate of node %s: %w", node, err)
	}
	leaf, err := kube.Leaf(signed)
	if err != nil {
		return Credential{}, fmt.Errorf("certificate of node %s: %w", node, err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) || leaf.Subject.CommonName != userPrefix+node || !slices.Equal(leaf.Subject.Organization, []string{group}) {
		return Credential{}, fmt.Errorf("certificate of node %s: the signer gave one for somebody else", node)
	}
	return Credential{
		Node: node, Method: Certificate, Begins: leaf.NotBefore, Ends: leaf.NotAfter,
		certificate: signed, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}, nil
}

// sign has a request approved and signed. The cluster removes it after an hour.
func sign(ctx context.Context, client kubernetes.Interface, request []byte, lifetime time.Duration) ([]byte, error) {
	requests := client.CertificatesV1().CertificateSigningRequests()
	seconds := int32(lifetime / time.Second)
	made, err := requests.Create(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "kured-enroll-", Labels: map[string]string{"app.kubernetes.io/name": "kured"}},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: request, SignerName: certificatesv1.KubeAPIServerClientSignerName, ExpirationSeconds: &seconds,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
		}}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("ask for it: %w", err)
	}
	// The object that is approved is the one that was made here, by its UID and resourceVersion.
	made.Status.Conditions = append(made.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "KuredEnroll", Message: "made and approved by kured enroll"})
	if _, err := requests.UpdateApproval(ctx, made.Name, made, metav1.UpdateOptions{}); err != nil {
		return nil, fmt.Errorf("approve CertificateSigningRequest %s: %w", made.Name, err)
	}
	for {
		now, err := requests.Get(ctx, made.Name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("look for CertificateSigningRequest %s: %w", made.Name, err)
		}
		if now.UID != made.UID || !bytes.Equal(now.Spec.Request, request) {
			return nil, fmt.Errorf("CertificateSigningRequest %s was replaced by somebody", made.Name)
		}
		for _, c := range now.Status.Conditions {
			if c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed {
				return nil, fmt.Errorf("CertificateSigningRequest %s: %s: %s", made.Name, clip(string(c.Type)), clip(c.Message))
			}
		}
		if len(now.Status.Certificate) > 0 {
			return now.Status.Certificate, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("CertificateSigningRequest %s is approved, but nobody signs it (some clusters have no signer %s; take a token): %w",
				made.Name, certificatesv1.KubeAPIServerClientSignerName, ctx.Err())
		case <-time.After(poll):
		}
	}
}

// WithToken asks for a token of the ServiceAccount kured that is bound to the
// Node with this UID, or to that which there is if uid is empty (Kubernetes
// 1.32 or later). An administrator needs the rights to get the Node and to
// create serviceaccounts/token; a node that has such a token may get the next
// one for itself, with its UID. The API server may make the lifetime shorter.
func WithToken(ctx context.Context, client kubernetes.Interface, node, uid string, lifetime time.Duration) (Credential, error) {
	if uid == "" {
		self, err := existing(ctx, client, node)
		if err != nil {
			return Credential{}, err
		}
		uid = string(self.UID)
	}
	seconds := int64(lifetime / time.Second)
	begins := time.Now()
	got, err := client.CoreV1().ServiceAccounts(accountNamespace).CreateToken(ctx, account, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: &seconds,
			BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Node", Name: node, UID: types.UID(uid)},
		}}, metav1.CreateOptions{})
	if err != nil {
		return Credential{}, fmt.Errorf("token of node %s: %w", node, err)
	}
	held, err := kube.ReadToken(got.Status.Token)
	switch {
	case err != nil:
		return Credential{}, fmt.Errorf("token of node %s: %w", node, err)
	case held.Node != node:
		// An API server of before 1.32 may drop what it does not know.
		return Credential{}, fmt.Errorf("token of node %s: the API server gave one that is not bound to the Node: it takes Kubernetes 1.32 or later", node)
	}
	return Credential{Node: node, Method: Token, Begins: begins, Ends: got.Status.ExpirationTimestamp.Time, token: got.Status.Token}, nil
}

func existing(ctx context.Context, client kubernetes.Interface, node string) (*corev1.Node, error) {
	found, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("look for node %s: %w", clip(node), err)
	}
	return found, nil
}
