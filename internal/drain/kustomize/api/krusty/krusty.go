// Package krusty stands in for sigs.k8s.io/kustomize/api/krusty, with which
// k8s.io/cli-runtime/pkg/resource renders kustomizations for kubectl. Nothing is
// rendered here: kubectl's drain needs that package for other things. The real
// one fills tables when the program starts, among them the schema of the whole
// Kubernetes API, which the linker therefore keeps: without this package kured
// is 1 MB larger.
//
// It has what that package calls and nothing else, so that an update which
// calls more is noticed by the compiler.
package krusty

import "errors"

// Options are the options of MakeKustomizer.
type Options struct {
	Reorder ReorderOption
}

// ReorderOption says how the rendered objects are ordered.
type ReorderOption string

// ReorderOptionLegacy is the order that kubectl asks for.
const ReorderOptionLegacy ReorderOption = "legacy"

// Kustomizer renders nothing.
type Kustomizer struct{}

// Rendered is what a Kustomizer never returns.
type Rendered struct{}

var errNotHere = errors.New("kustomizations are not rendered here")

// MakeDefaultOptions returns options.
func MakeDefaultOptions() *Options { return &Options{} }

// MakeKustomizer returns a Kustomizer.
func MakeKustomizer(*Options) *Kustomizer { return &Kustomizer{} }

// Run fails: it would render the kustomization in the directory of the file system.
func (*Kustomizer) Run(fileSystem any, directory string) (*Rendered, error) {
	return nil, errNotHere
}

// AsYaml fails: it would return the rendered objects.
func (*Rendered) AsYaml() ([]byte, error) { return nil, errNotHere }
