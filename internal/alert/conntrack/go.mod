// Stands in for github.com/mwitkow/go-conntrack, by a replace directive in kured's go.mod.
module github.com/mwitkow/go-conntrack

go 1.26.0
