// Stands in for sigs.k8s.io/kustomize/kyaml, by a replace directive in kured's go.mod.
module sigs.k8s.io/kustomize/kyaml

go 1.26.0
