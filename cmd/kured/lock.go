package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/present"
)

// lockTimeout bounds the commands below as a whole.
const lockTimeout = 2 * time.Minute

func newLock() *cobra.Command {
	var output present.Format
	cmd := &cobra.Command{
		Use:   "lock",
		Short: "Show which nodes hold the lock and which wait for it",
		Long: `Show which nodes hold the lock and which wait for it.

It runs on any machine with a kubeconfig: that of --kubeconfig, else those of
$KUBECONFIG or ~/.kube/config, else on a node the kubelet's. The lock's name is
that of the configuration, if there is one.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), lockTimeout)
			defer cancel()
			o, err := openLock(ctx, cmd)
			if err != nil {
				return err
			}
			l, err := o.viewer.List(ctx)
			if err != nil {
				return err
			}
			return present.Lock(cmd.OutOrStdout(), output, o.store.Namespace, o.store.Name, l, time.Now())
		},
	}
	outputFlag(cmd, &output, present.Text, present.JSON, present.YAML)
	lockFlags(cmd.PersistentFlags())
	cmd.AddCommand(newLockRelease())
	return cmd
}

// lockFlags adds what openLock looks at.
func lockFlags(flags interface {
	String(name, value, usage string) *string
}) {
	flags.String("config", configPath, "configuration `file`")
	flags.String("kubeconfig", "", "kubeconfig `file` to use")
	flags.String("namespace", "", "`namespace` of the lock (default: as configured, kube-system)")
	flags.String("name", "", "`name` of the lock (default: as configured, kured-lock)")
}

func newLockRelease() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "release NODE --reason WHY",
		Short: "Take a node that does not come back out of the lock",
		Long: `Take a node that does not come back out of the lock.

kured never does this by itself, however long a node holds: one node down is
better than two. Look first whether the node is alive; while it drains or
reboots, a release lets one node more go down than is allowed.

By default a node that is not Ready, or is cordoned, counts as down also after
that. To go on without it, "kubectl delete node NODE": that releases it, too.

The reason and your name are written on the Node, where its kured finds and
logs them, and in an Event that "kubectl describe node NODE" shows.`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: completeNodes,
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := lock.CheckWhy(why); err != nil {
				return &exitError{exitUsage, fmt.Errorf("--reason %w", err)}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), lockTimeout)
			defer cancel()
			o, err := openLock(ctx, cmd)
			if err != nil {
				return err
			}
			if o.person.Node != "" {
				// Where the API server guards the lock it would refuse; elsewhere nobody would.
				return fmt.Errorf("%s is the credential of the node %s: a release is a person's decision, give a person's with --kubeconfig", o.person.Kubeconfig, o.person.Node)
			}
			tell := func(line string) { fmt.Fprintln(cmd.OutOrStdout(), present.Line(line)) }
			r := o.releaser()
			found, err := r.Find(ctx, given[0])
			if err != nil {
				return o.explain(err)
			}
			tell(found.String())
			tell(found.Meaning())
			err = r.Release(ctx, found, why, tell)
			if errors.Is(err, lock.ErrChanged) {
				return &exitError{exitTempFail, err}
			}
			return o.explain(err)
		},
	}
	cmd.Flags().StringVar(&why, "reason", "", "`why`, for the node's journal and for those who ask later (required)")
	return cmd
}

// opened is the lock of a command that a person runs.
type opened struct {
	cfg    config.Config
	person *kube.Person
	store  lock.ConfigMap
	viewer lock.Viewer
}

func openLock(ctx context.Context, cmd *cobra.Command) (*opened, error) {
	cfg, err := loadConfig(cmd)
	if err != nil {
		return nil, err
	}
	value := func(flag, configured string) string {
		if f := cmd.Flags().Lookup(flag); f.Changed {
			return f.Value.String()
		}
		return configured
	}
	person, err := kube.ConnectPerson(ctx, kube.PersonOptions{
		Kubeconfig: value("kubeconfig", ""), Kubelet: cfg.Kubernetes.Kubeconfig, Version: version,
	})
	if err != nil {
		return nil, err
	}
	o := &opened{cfg: cfg, person: person, store: lock.ConfigMap{
		Client:     person.Client,
		Namespace:  value("namespace", cfg.Lock.Namespace),
		Name:       value("name", cfg.Lock.Name),
		PolicyName: cfg.Lock.Policy,
	}}
	o.viewer = lock.Viewer{
		Store: o.store, Rules: o.store, Policy: cfg.Lock.Policy, Pace: lock.DefaultPace(),
		Fleet: lock.Nodes{Client: person.Client, Selector: cfg.Lock.NodeSelector},
	}
	if configured(cmd) && o.store.Namespace == cfg.Lock.Namespace && o.store.Name == cfg.Lock.Name {
		o.viewer.Max = &o.cfg.Lock.MaxConcurrent // of this pool
	}
	return o, nil
}

// configured reports whether there is a configuration, so that this is a node of the pool.
func configured(cmd *cobra.Command) bool {
	_, err := os.Stat(cmd.Flags().Lookup("config").Value.String())
	return err == nil
}

func (o *opened) name() string { return o.store.Namespace + "/" + o.store.Name }

func (o *opened) releaser() lock.Releaser {
	by := o.person.User
	if by == "" {
		by = "somebody whom the API server does not name"
	}
	return lock.Releaser{
		Store: o.store, Notices: node.Notes{Client: o.person.Client}, Pace: lock.DefaultPace(),
		Lock: o.name(), By: by,
	}
}

// explain adds to a refusal of a release what to do about it.
func (o *opened) explain(err error) error {
	if !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) {
		return err
	}
	return fmt.Errorf("%w\na release needs the rights to patch nodes and the ConfigMap %s, to create events in the namespace default and, where the API server guards the lock, the verb break-glass on locks.kured.dev %s in the namespace %s; the ClusterRole kured-lock-admin in wall.yaml has them", err, o.name(), o.store.Name, o.store.Namespace)
}
