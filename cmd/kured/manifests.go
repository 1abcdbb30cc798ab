package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/manifests"
)

func newManifests() *cobra.Command {
	var identity string
	var pools []string
	o := manifests.Options{}
	cmd := &cobra.Command{
		Use:   "manifests",
		Short: "Print what the cluster has to allow, to be applied with kubectl",
		Long: `Print what the cluster has to allow, to be applied with kubectl:

    kured manifests | kubectl apply --server-side -f -

Without options it is what is shipped, byte for byte. The comments in it say
what each right is for.

With pools each has a lock of its own, NAME-POOL, and the first lines of the
output say what the kured.toml of its nodes needs. All locks of a cluster have
to be named in one call, and share one policy.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Identity = manifests.Identity(identity)
			for _, text := range pools {
				p, err := manifests.ParsePool(text)
				if err != nil {
					return &exitError{exitUsage, fmt.Errorf("--pool %w", err)}
				}
				o.Pools = append(o.Pools, p)
			}
			text, err := manifests.Render(o)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&identity, "identity", string(manifests.Kubelet), "`credential` of kured on the nodes: kubelet, or dedicated for one of its own")
	flags.StringVar(&o.Namespace, "namespace", manifests.DefaultNamespace, "`namespace` of the lock and the policy")
	flags.StringVar(&o.Name, "name", manifests.DefaultName, "`name` of the lock, or what the names of the pools' locks begin with")
	flags.StringVar(&o.Policy, "policy", manifests.DefaultPolicy, "`name` of the policy")
	flags.StringArrayVar(&pools, "pool", nil, "`NAME=SELECTOR` of nodes that take turns among themselves, such as web=pool=web (may be given several times)")
	flags.BoolVar(&o.Wall, "wall", true, "with the admission policies by which the API server keeps the rules (Kubernetes 1.30 and later)")
	return cmd
}
