package kube

import (
	"encoding/base64"
	"os"
	"strings"
	"testing"
	"time"
)

func TestValidity(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.issue(t, "system:node:node-a")
	leaf, err := Leaf(cert)
	if err != nil {
		t.Fatal(err)
	}
	certificate := Validity{ClientCertificate, leaf.NotBefore, leaf.NotAfter}
	token := Validity{BearerToken, time.Unix(1000, 0), time.Unix(4000, 0)}
	inline := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	for name, c := range map[string]struct {
		user, failure string
		want          Validity
	}{
		"inline":                 {user: "{client-certificate-data: " + inline(cert) + ", client-key-data: " + inline(key) + "}", want: certificate},
		"file":                   {user: "{client-certificate: both.pem, client-key: both.pem}", want: certificate},
		"chain":                  {user: "{client-certificate: chain.pem, client-key: both.pem}", want: certificate},
		"certificate and token":  {user: "{client-certificate: both.pem, client-key: both.pem, tokenFile: token}", want: certificate},
		"token":                  {user: "{token: " + tokenOf(nodeToken) + "}", want: token},
		"token in a file":        {user: "{tokenFile: token, token: other}", want: token},
		"opaque token":           {user: "{token: t}"},
		"token without an end":   {user: "{token: " + tokenOf(`{"sub":"x","iat":1000}`) + "}"},
		"exec":                   {user: "{exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin}}"},
		"missing file":           {user: "{client-certificate: none.pem}", failure: "none.pem"},
		"missing file of tokens": {user: "{tokenFile: none, token: " + tokenOf(nodeToken) + "}", failure: "none"},
		"not PEM":                {user: "{client-certificate: empty.pem}", failure: "not in PEM form"},
		"no PEM inside":          {user: "{client-certificate: odd.pem}", failure: "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			f := files{t.TempDir()}
			f.write(t, "both.pem", append(append([]byte(nil), key...), cert...))
			f.write(t, "chain.pem", append(append([]byte(nil), cert...), ca.pem...))
			f.write(t, "empty.pem", nil)
			f.write(t, "odd.pem", []byte("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"))
			f.write(t, "token", []byte(tokenOf(nodeToken)+"\n"))
			credential := NewCredential(f.kubeconfig(t, "https://127.0.0.1:1", c.user))
			for range 3 { // read, read once more, remembered
				got, err := credential.Validity()
				if c.failure != "" {
					if err == nil || !strings.Contains(err.Error(), c.failure) {
						t.Fatal(err)
					}
				} else if err != nil || got != c.want {
					t.Fatalf("%v, %v, want %v", got, err, c.want)
				}
			}
		})
	}
}

// The kubelet rotates its certificate behind a symbolic link, and others their token in its file.
func TestValidityFollowsTheFiles(t *testing.T) {
	ca := newAuthority(t, "ca")
	f := files{t.TempDir()}
	short := time.Now().Add(time.Minute).UTC().Truncate(time.Second)
	f.node(t, ca, "system:node:node-a", "1")
	path := f.kubeconfig(t, "https://127.0.0.1:1", certificateUser)
	credential := NewCredential(path)
	for range 3 {
		if _, err := credential.Validity(); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := ca.issueUntil(t, "system:node:node-a", short)
	f.write(t, "2.pem", append(cert, key...))
	f.link(t, "2.pem")
	ends := func(want time.Time) {
		t.Helper()
		for range 3 {
			if got, err := credential.Validity(); err != nil || !got.Ends.Equal(want) {
				t.Fatalf("%v, %v, want %v", got, err, want)
			}
		}
	}
	ends(short)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := credential.Validity(); err == nil {
		t.Error("remembered what is gone")
	}

	other := files{t.TempDir()}
	other.write(t, "token", []byte(tokenOf(nodeToken)))
	credential.Use(other.kubeconfig(t, "https://127.0.0.1:1", "{tokenFile: token}"))
	ends(time.Unix(4000, 0))
	other.write(t, "token", []byte(tokenOf(strings.Replace(nodeToken, "4000", "50000", 1))))
	ends(time.Unix(50000, 0))
	credential.Use(other.kubeconfig(t, "https://127.0.0.1:1", "{token: t}"))
	ends(time.Time{})
}

func TestLate(t *testing.T) {
	const day = 24 * time.Hour
	begins := time.Unix(0, 0)
	for _, c := range []struct {
		life, left time.Duration
		want       bool
	}{
		{12 * time.Minute, time.Minute, false}, {12 * time.Minute, time.Minute - 1, true},
		{30 * day, 60*time.Hour + 1, false}, {30 * day, 59 * time.Hour, true},
		{365 * day, 31 * day, false}, {365 * day, 29 * day, true},
		{3650 * day, 31 * day, false}, {3650 * day, 29 * day, true},
		{day, 0, true}, {day, -day, true},
	} {
		v := Validity{BearerToken, begins, begins.Add(c.life)}
		if got := v.Late(v.Ends.Add(-c.left)); got != c.want {
			t.Errorf("%s of %s are left: late %v", c.left, c.life, got)
		}
	}
	if (Validity{}).Late(time.Now()) {
		t.Error("late without an end")
	}
}
