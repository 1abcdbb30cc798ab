// Package konfig stands in for sigs.k8s.io/kustomize/api/konfig. Only the tests of
// k8s.io/cli-runtime/pkg/resource import it, which `go mod tidy` looks at.
package konfig

// DefaultKustomizationFileName is the name of the file in a directory that kustomize would read.
func DefaultKustomizationFileName() string { return "kustomization.yaml" }
