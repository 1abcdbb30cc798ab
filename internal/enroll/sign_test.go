package enroll

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// signer is the CSR API with a signer of which a test decides what it does.
type signer struct {
	t       *testing.T
	request certificatesv1.CertificateSigningRequest
	sign    func(s *signer, asked *x509.CertificateRequest)
}

func (s *signer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	var answer any = &s.request
	switch {
	case strings.HasPrefix(r.URL.Path, "/api/v1/nodes/"):
		answer = &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}}
	case r.Method == http.MethodPost:
		if err := json.NewDecoder(r.Body).Decode(&s.request); err != nil {
			s.t.Error(err)
		}
		s.request.Name, s.request.UID = "kured-enroll-1", "made"
	case r.Method == http.MethodPut: // approved
		block, _ := pem.Decode(s.request.Spec.Request)
		asked, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			s.t.Error(err)
		}
		s.sign(s, asked)
	}
	s.request.TypeMeta = metav1.TypeMeta{APIVersion: "certificates.k8s.io/v1", Kind: "CertificateSigningRequest"}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.t.Error(err)
	}
}

// issue signs a certificate with a key that is thrown away.
func (s *signer) issue(user string, public any) {
	authority := s.key()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: user, Organization: []string{group}},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
	}, &x509.Certificate{}, public, authority)
	if err != nil {
		s.t.Error(err)
	}
	s.request.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (s *signer) key() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Error(err)
	}
	return key
}

// What comes back is looked at before it is believed.
func TestWithCertificate(t *testing.T) {
	for name, c := range map[string]struct {
		sign func(s *signer, asked *x509.CertificateRequest)
		want string // of the error
	}{
		"signed":         {func(s *signer, asked *x509.CertificateRequest) { s.issue(asked.Subject.CommonName, asked.PublicKey) }, ""},
		"another's name": {func(s *signer, asked *x509.CertificateRequest) { s.issue("kured:node:b", asked.PublicKey) }, "for somebody else"},
		"another's key":  {func(s *signer, asked *x509.CertificateRequest) { s.issue(asked.Subject.CommonName, s.key().Public()) }, "for somebody else"},
		"another object": {func(s *signer, asked *x509.CertificateRequest) {
			s.issue(asked.Subject.CommonName, asked.PublicKey)
			s.request.UID = "another"
		}, "was replaced by somebody"},
		"denied": {func(s *signer, _ *x509.CertificateRequest) {
			s.request.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateDenied, Message: "no\x1b[2J"}}
		}, "kured-enroll-1: Denied: no [2J"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(&signer{t: t, sign: c.sign})
			defer server.Close()
			client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := WithCertificate(t.Context(), client, "a", time.Hour)
			if c.want == "" && (err != nil || got.Node != "a" || got.Method != Certificate || len(got.key) == 0) ||
				c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
