package kube

import (
	"path/filepath"
	"testing"
)

func TestConnectPerson(t *testing.T) {
	api := newFakeAPI(t)
	admin, given := kubelet(t, api, "alice")
	_, environment := kubelet(t, api, "bob")
	node, of := kubelet(t, api, "system:node:node-a")
	missing := filepath.Join(t.TempDir(), "missing")
	admin.write(t, "broken", []byte("{"))
	node.write(t, "empty", []byte("apiVersion: v1\nkind: Config\n"))
	for name, c := range map[string]struct {
		given, environment string
		prepare            func(*fakeAPI)
		user, node         string
		kind               Kind
		message            string
	}{
		"given":                       {given: given, environment: environment, user: "alice"},
		"environment":                 {environment: environment, user: "bob"},
		"the first of several counts": {environment: missing + ":" + environment + ":" + given, user: "bob"},
		"a node's":                    {given: of, user: "system:node:node-a", node: "node-a"},
		"a token bound to a node":     {given: given, user: "alice", node: "node-b", prepare: func(f *fakeAPI) { f.extra = map[string][]string{nodeNameExtra: {"node-b"}} }},
		"old server":                  {given: given, user: "alice", prepare: func(f *fakeAPI) { f.reviews = 404 }},
		"old server, a node's":        {given: of, user: "system:node:node-a", node: "node-a", prepare: func(f *fakeAPI) { f.reviews = 404 }},
		"missing":                     {given: missing, environment: environment, kind: NotFound, message: "kubeconfig " + missing + " not found: no such file or directory (give another one with --kubeconfig)"},
		"none of the environment":     {environment: missing, kind: NotFound, message: "kubeconfig " + missing + " not found: $KUBECONFIG names no file that exists (give another one with --kubeconfig)"},
		"broken":                      {given: admin.path("broken"), kind: Malformed, message: "kubeconfig " + admin.path("broken") + " cannot be used: "},
		"broken in the environment":   {environment: admin.path("broken") + ":" + environment, kind: Malformed, message: "kubeconfig "},
		"empty":                       {given: node.path("empty"), kind: Malformed, message: "kubeconfig " + node.path("empty") + " cannot be used: it has no context (give another one with --kubeconfig)"},
		"server in trouble":           {given: given, kind: Unreachable, message: "the API server ", prepare: func(f *fakeAPI) { f.reviews = 500 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", c.environment)
			api.mu.Lock()
			api.reviews, api.extra = 0, nil
			if c.prepare != nil {
				c.prepare(api)
			}
			api.mu.Unlock()
			p, err := ConnectPerson(t.Context(), PersonOptions{Kubeconfig: c.given, Version: "1"})
			if c.kind != "" {
				wantError(t, err, c.kind, c.message)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.User != c.user || p.Node != c.node || p.Server != api.URL || p.Client == nil {
				t.Errorf("got %+v", p)
			}
		})
	}
}
