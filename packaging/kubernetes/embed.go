// Package kubernetes is the manifests beside it: what a cluster has to allow,
// for `kured manifests` to print.
package kubernetes

import _ "embed"

//go:embed kured.yaml
var base []byte

//go:embed wall.yaml
var wall []byte

//go:embed identity.yaml
var identity []byte

// Base is kured.yaml: the lock, the policy and the rights of kubelets.
func Base() []byte { return append([]byte(nil), base...) }

// Wall is wall.yaml: the API server keeps the rules of the lock.
func Wall() []byte { return append([]byte(nil), wall...) }

// Identity is identity.yaml: kured's own identity for each node.
func Identity() []byte { return append([]byte(nil), identity...) }
