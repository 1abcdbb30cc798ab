package kube

import (
	"encoding/base64"
	"strings"
	"testing"
)

// tokenOf is a token with these claims. Nothing here looks at the signature.
func tokenOf(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

const nodeToken = `{"sub":"system:serviceaccount:kube-system:kured","iat":1000,"exp":4000,"kubernetes.io":{"node":{"name":"node-a","uid":"u"}}}`

func TestReadToken(t *testing.T) {
	for _, test := range []struct{ name, token, node, err string }{
		{"of a node", tokenOf(nodeToken), "node-a", ""},
		{"of no node", tokenOf(`{"sub":"x","iat":1,"exp":2}`), "", ""},
		{"of a pod on a node", tokenOf(`{"iat":1,"exp":2,"kubernetes.io":{"pod":{"name":"p"},"node":{"name":"node-a"}}}`), "", ""},
		{"without an end", tokenOf(`{"sub":"x","iat":1}`), "", "does not say how long"},
		{"without a beginning", tokenOf(`{"sub":"x","exp":1}`), "", "does not say how long"},
		{"that ends before it begins", tokenOf(`{"iat":5,"exp":2}`), "", "does not say how long"},
		{"with an end past all times", tokenOf(`{"iat":1,"exp":9223372036854775807}`), "", "does not say how long"},
		{"opaque", "secret", "", "not of the form"},
		{"with a body that is none", "a.%.c", "", "not of the form"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ReadToken(test.token)
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if got.Node != test.node {
				t.Errorf("node %q, want %q", got.Node, test.node)
			}
		})
	}
}

func FuzzReadToken(f *testing.F) {
	f.Add(tokenOf(nodeToken))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		got, err := ReadToken(token)
		if err != nil {
			if len(token) > 60 && strings.Contains(err.Error(), token) {
				t.Error("the error shows the token")
			}
			return
		}
		v := Validity{BearerToken, got.Begins, got.Ends}
		if !v.Ends.After(v.Begins) || v.Late(v.Begins) || !v.Late(v.Ends) {
			t.Errorf("from %s until %s: late at its beginning, or not at its end", v.Begins, v.Ends)
		}
	})
}
