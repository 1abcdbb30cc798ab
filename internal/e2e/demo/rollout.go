package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
)

// envBy says who rolls kured out: nothing or "apt", or "ansible".
const envBy = "DEMO_BY"

func byAnsible() (bool, error) {
	switch by := os.Getenv(envBy); by {
	case "", "apt":
		return false, nil
	case "ansible":
		return true, nil
	default:
		return false, fmt.Errorf("%s=%q: want apt or ansible", envBy, by)
	}
}

// images are the systems that the demonstration needs.
func images() ([]nodes.Image, error) {
	list := []nodes.Image{nodes.Debian11, nodes.Debian12, nodes.Debian13}
	ansible, err := byAnsible()
	if ansible {
		list = append(list, nodes.Debian13Ansible)
	}
	return list, err
}

// start returns a cluster on which kured runs, as its package configures it.
func start(ctx context.Context, s *screen) (*cluster.Cluster, error) {
	ansible, err := byAnsible()
	if err != nil {
		return nil, err
	}
	if !ansible {
		s.step("Starting a control plane and three machines, installing kured's package with apt")
		return cluster.Start(ctx, cluster.Options{Out: s})
	}
	s.step("Starting a control plane and three machines, on which nothing of kured is")
	c, err := cluster.Start(ctx, cluster.Options{WithoutKured: true, WithoutManifests: true, Out: s})
	if err != nil {
		return nil, err
	}
	if err := rollOut(ctx, c, s); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

const inventory = `all:
  children:
    kured:
      hosts:
        node-a:
        node-b:
        node-c:
  vars:
    ansible_user: root
    kured_package: "%s"
    kured_cluster: true
    kured_doctor: fail
`

// rollOut lets Ansible install and configure kured on all nodes, and apply what the cluster needs.
func rollOut(ctx context.Context, c *cluster.Cluster, s *screen) (err error) {
	s.step("Rolling kured out by Ansible, over ssh from a fourth machine: ansible-playbook kured_host.kured.site")
	control, err := c.StartControl(ctx)
	if err != nil {
		return err
	}
	// It is none of the cluster's machines, and nothing of it is needed from then on.
	defer func() { err = errors.Join(err, control.Leave()) }()
	err = control.Inventory(map[string]string{
		"hosts.yml": fmt.Sprintf(inventory, fmt.Sprintf(cluster.PackagePattern, cluster.Release)),
	})
	if err != nil {
		return err
	}
	for _, run := range []string{"first", "second"} {
		began := time.Now()
		play, err := control.Play(ctx, "-e", "kured_serial=100%", "kured_host.kured.site")
		if err != nil {
			return err
		}
		if play.Failed {
			return fmt.Errorf("the %s run of Ansible failed:\n%s", run, play.Output)
		}
		s.say(fmt.Sprintf("%s run, %s: %d hosts, %d tasks done, %d of them changed something", run,
			seconds(time.Since(began)), len(play.Hosts), play.Sum("ok"), play.Sum("changed")))
		if run == "second" && play.Sum("changed") > 0 {
			return fmt.Errorf("the second run changed something:\n%s", play.Output)
		}
	}
	s.say("The fourth machine is switched off.")
	return nil
}
