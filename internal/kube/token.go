package kube

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// Token is what a ServiceAccount's token says of itself. Nobody has checked that
// it is true: the API server does that.
type Token struct {
	Subject string // its user name
	Node    string // the Node that it is bound to; empty: none, or it is bound to a pod there
	Begins  time.Time
	Ends    time.Time
}

// ReadToken reads the claims of a token (RFC 7519; those of ServiceAccounts by
// KEP-1205 and KEP-4193). One that is not of that form, or does not say how long
// it is good, is an error, which does not show it.
func ReadToken(token string) (Token, error) {
	const most = 16 << 10
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > most {
		return Token{}, errors.New("the token is not of the form that ServiceAccounts have")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return Token{}, errors.New("the token is not of the form that ServiceAccounts have")
	}
	var said struct {
		Subject string `json:"sub"`
		Issued  int64  `json:"iat"`
		Expires int64  `json:"exp"`
		Kube    struct {
			Node struct {
				Name string `json:"name"`
			} `json:"node"`
			Pod struct {
				Name string `json:"name"`
			} `json:"pod"`
		} `json:"kubernetes.io"`
	}
	if json.Unmarshal(text, &said) != nil || said.Expires <= said.Issued || said.Issued <= 0 || said.Expires > maxSeconds {
		return Token{}, errors.New("the token does not say how long it is good")
	}
	t := Token{Subject: said.Subject, Begins: time.Unix(said.Issued, 0), Ends: time.Unix(said.Expires, 0)}
	if said.Kube.Pod.Name == "" { // a pod's token names its node, too, and ends with the pod
		t.Node = said.Kube.Node.Name
	}
	return t, nil
}

const maxSeconds = 1 << 33 // in the year 2242: differences stay within time.Duration
