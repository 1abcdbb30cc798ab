// Stands in for sigs.k8s.io/kustomize/api, by a replace directive in kured's go.mod.
module sigs.k8s.io/kustomize/api

go 1.26.0
