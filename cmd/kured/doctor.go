package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/alert"
	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/doctor"
	"github.com/kured-host/kured/internal/enroll"
	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/notify"
	"github.com/kured-host/kured/internal/present"
	"github.com/kured-host/kured/internal/status"
)

// Exit codes of the doctor beside 0.
const (
	exitWarnings = 1
	exitFails    = 2
)

// doctorLimit bounds each check, and the connection to the API server, unless
// the command line says otherwise. A server that a gate asks has 10 s by default.
const doctorLimit = 20 * time.Second

func newDoctor() *cobra.Command {
	var output present.Format
	var root string
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check all that kured needs on this node and in the cluster",
		Long: `Check all that kured needs on this node and in the cluster, and say what to do
about what is wrong. It changes nothing; run it as root on the node, for it
looks with the daemon's own credential.

Exit codes: 0 all is well, 1 there are warnings, 2 something fails, 64 wrong
command line.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit <= 0 {
				return &exitError{exitUsage, fmt.Errorf("--timeout %s: must be longer than 0", limit)}
			}
			machine := doctor.Machine{Root: root}
			if root != "/" {
				machine.Owner = uint32(max(0, os.Geteuid()))
			}
			found := examine(cmd, machine, limit)
			if err := present.Findings(cmd.OutOrStdout(), output, found); err != nil {
				return err
			}
			switch doctor.Worst(found) {
			case doctor.Fail:
				return &exitError{exitFails, errors.New("")}
			case doctor.Warning:
				return &exitError{exitWarnings, errors.New("")}
			}
			return nil
		},
	}
	configFlag(cmd)
	outputFlag(cmd, &output, present.Text, present.JSON, present.YAML)
	cmd.Flags().DurationVar(&limit, "timeout", doctorLimit, "`duration` of each check; all are made at the same time")
	cmd.Flags().StringVar(&root, "root", "/", "of the files of the machine that are looked at")
	if err := cmd.Flags().MarkHidden("root"); err != nil { // for tests
		panic(err)
	}
	return cmd
}

// examine makes all checks.
func examine(cmd *cobra.Command, machine doctor.Machine, limit time.Duration) []doctor.Finding {
	cfg, wrong := configuration(cmd)
	h := &house{env: os.Getenv}
	boot, bootErr := bootID(h.env)
	h.boot = boot
	p, err := h.program(cfg)
	if err != nil { // what only the rooms themselves find; the rest goes by the defaults
		wrong = errors.Join(wrong, err)
		if p, err = h.program(config.Default()); err != nil {
			return []doctor.Finding{{Check: "configuration", Level: doctor.Fail, Text: err.Error()}}
		}
	}
	patient, cancel := context.WithTimeout(cmd.Context(), limit)
	defer cancel()
	c, err := kube.Connect(patient, p.identity())
	if err == nil {
		defer c.CloseIdle()
	}
	a := ask{p, machine, bootErr, wrong, cmd}
	checks := []doctor.Check{a.configured(), check("kubeconfig", func(context.Context) []doctor.Finding { return doctor.Kubeconfig(c, err) })}
	if err == nil {
		checks = append(checks, a.cluster(c)...)
	}
	return doctor.Run(cmd.Context(), limit, append(checks, a.machine(c)...))
}

// configuration is the configuration in force, and what is wrong with the one
// that there is: then it is the default.
func configuration(cmd *cobra.Command) (config.Config, error) {
	cfg, err := loadConfig(cmd)
	if err != nil {
		return config.Default(), err
	}
	return cfg, checkHTTPFiles(cfg)
}

// ask makes the checks of a program.
type ask struct {
	*program
	files   doctor.Machine
	bootErr error
	wrong   error
	cmd     *cobra.Command
}

func check(name string, judge func(context.Context) []doctor.Finding) doctor.Check {
	return doctor.Check{Name: name, Ask: judge}
}

func (a ask) configured() doctor.Check {
	return check("configuration", func(context.Context) []doctor.Finding {
		path := a.cmd.Flags().Lookup("config").Value.String()
		var found []doctor.Finding
		if a.wrong != nil {
			for line := range strings.Lines(a.wrong.Error()) {
				found = append(found, doctor.Finding{Level: doctor.Fail, Text: line, Remedy: "correct it, then kured config check " + path})
			}
			return found
		}
		files, err := config.Files(path)
		if err != nil {
			return []doctor.Finding{{Level: doctor.Fail, Text: err.Error()}}
		}
		text := path + " is good"
		if _, err := os.Stat(path); err != nil {
			text = path + " is not there, and need not be"
		}
		if n := len(files) - 1; n > 0 {
			text += ", with " + status.Count(n, "drop-in")
		}
		return []doctor.Finding{{Level: doctor.OK, Text: text}}
	})
}

// cluster are the checks that ask the API server.
func (a ask) cluster(c *kube.Cluster) []doctor.Check {
	cfg := a.cfg
	d := &doctor.Cluster{
		Client: c.Client, Node: c.NodeName, Source: c.NodeNameSource, User: c.User, Boot: a.boot, Now: time.Now,
		Lock:      lock.ConfigMap{Client: c.Client, Namespace: cfg.Lock.Namespace, Name: cfg.Lock.Name, PolicyName: cfg.Lock.Policy},
		DaemonSet: cfg.Compat.DaemonSet,
		Needs: doctor.Needs{
			CountNodes: cfg.Lock.MinReady.String() != "0" || strings.HasSuffix(cfg.Lock.MaxConcurrent.String(), "%"),
			Force:      cfg.Drain.OnTimeout == "force", Volumes: cfg.Drain.WaitForVolumes > 0,
			Conditions: cfg.Node.Conditions, Events: cfg.Node.Events,
		},
	}
	return []doctor.Check{
		check("identity", d.Identity),
		check("credential", func(context.Context) []doctor.Finding {
			if own, err := enroll.Read(c.Kubeconfig); err == nil {
				now, remedy := time.Now(), "as an administrator: "+own.Anew()
				if own.Method == enroll.Token && own.Ends.After(now) {
					remedy = "systemctl enable --now kured-renew.timer; journalctl -u kured-renew says why it fails"
				}
				return doctor.Identity(own.String(), own.Ends, own.Due(now), remedy, now)
			}
			valid, err := kube.NewCredential(cfg.Kubernetes.Kubeconfig).Validity()
			return doctor.Validity(valid, err, time.Now())
		}),
		check("right", d.Rights),
		check("node", func(ctx context.Context) []doctor.Finding {
			found := d.Self(ctx)
			if err := a.fits(c.IsKubelet()); err != nil {
				found = append(found, doctor.Finding{Level: doctor.Fail, Text: err.Error(), Remedy: "correct [node] in /etc/kured/kured.toml"})
			}
			return found
		}),
		check("wall", d.Wall), check("lock", d.Object),
		check("pool", func(context.Context) []doctor.Finding {
			return doctor.Pool(c.Labels, cfg.Lock.NodeSelector, cfg.Lock.TopologyKey)
		}),
		check("policy", d.Policy), check("clock", d.Clock), check("DaemonSet", d.Rival),
	}
}

// machine are the checks that need no API server. c is nil without one.
func (a ask) machine(c *kube.Cluster) []doctor.Check {
	checks := []doctor.Check{
		check("daemon", func(ctx context.Context) []doctor.Finding {
			s, err := control.Client{Path: a.socket()}.Status(ctx)
			return doctor.Daemon(s, err, time.Now())
		}),
		check("logind", func(ctx context.Context) []doctor.Finding {
			return doctor.Logind(ctx, a.login, logind.Method(a.cfg.Reboot.Method))
		}),
		check("delay", func(ctx context.Context) []doctor.Finding { return a.files.Delay(ctx, a.login) }),
	}
	checks = append(checks, a.servers()...)
	checks = append(checks, check("hooks", func(context.Context) []doctor.Finding { return a.files.Hooks(a.hooksDir()) }))
	checks = append(checks, a.notices()...)
	return append(checks,
		check("rivals", func(context.Context) []doctor.Finding { return a.files.Rivals() }),
		check("sentinel", func(context.Context) []doctor.Finding { return a.files.Sources(a.cfg.Sentinel.Paths) }),
		check("units", func(context.Context) []doctor.Finding { return a.files.Units() }),
		check("boot id", func(context.Context) []doctor.Finding {
			if a.bootErr != nil {
				return []doctor.Finding{{Level: doctor.Fail, Text: a.bootErr.Error(), Remedy: "see whether /proc is mounted"}}
			}
			return []doctor.Finding{{Level: doctor.OK, Text: a.boot}}
		}),
		check("state", func(ctx context.Context) []doctor.Finding { return doctor.State(ctx, a.stateDir(), a.budget()) }),
		check("metrics", a.metrics),
		check("versions", func(ctx context.Context) []doctor.Finding {
			systemd, _ := a.login.SystemdVersion(ctx) // without an answer it is left out
			server, minor := "", 0
			if c != nil {
				server, minor = (&doctor.Cluster{Client: c.Client}).Version(ctx)
			}
			return doctor.Versions(version, systemd, server, minor)
		}))
}

// notices checks the form of addresses that are in files of their own, which
// the program does not read. Nothing is sent.
func (a ask) notices() []doctor.Check {
	var checks []doctor.Check
	for i, target := range a.cfg.Notify {
		checks = append(checks, check(fmt.Sprintf("notify[%d]", i+1), func(context.Context) []doctor.Finding {
			if target.URLFile == "" {
				return []doctor.Finding{{Level: doctor.OK, Text: "the address is in the right form"}}
			}
			return []doctor.Finding{doctor.Secret(target.URLFile, func(content string) error {
				_, err := notify.New([]notify.Target{{URL: content}}, nil)
				return err
			})}
		}))
	}
	return checks
}

// metrics looks at each address of the metrics.
func (a ask) metrics(ctx context.Context) []doctor.Finding {
	var found []doctor.Finding
	for _, address := range a.cfg.Metrics.Listen {
		if address != "systemd" { // which has its sockets from systemd
			found = append(found, doctor.Listen(ctx, address, a.cfg.Metrics.WebConfigFile != ""))
		}
	}
	if len(found) == 0 {
		return []doctor.Finding{{Level: doctor.OK, Text: "no address to listen on is configured"}}
	}
	return found
}

// servers are those of alerts, queries and silences.
func (a ask) servers() []doctor.Check {
	var checks []doctor.Check
	add := func(name string, level doctor.Level, follows string, look func(context.Context) (string, error)) {
		checks = append(checks, check(name, func(ctx context.Context) []doctor.Finding {
			return doctor.Server(ctx, level, follows, look)
		}))
	}
	const closed = "nothing reboots"
	for i, c := range a.cfg.Prometheus {
		server, filter, err := alertSource(c.URLs, c.HTTPConfigFile, c.Timeout, c.Filter)
		follows := closed
		if c.Alerts == string(alert.None) && len(c.Queries) == 0 {
			follows = "a node that has rebooted stays cordoned and keeps the lock"
		}
		add(fmt.Sprintf("prometheus[%d]", i+1), doctor.Fail, follows, func(ctx context.Context) (string, error) {
			if err != nil {
				return "", err
			}
			look := server.Prometheus()
			states := alert.States(c.Alerts)
			if states == alert.None {
				states = alert.Firing // which at least shows that it answers
			}
			alerts, err := look.Alerts(ctx, states, filter)
			if err != nil {
				return "", err
			}
			for _, query := range append(c.Queries[:len(c.Queries):len(c.Queries)], c.ReturnQueries...) {
				if _, err := look.Query(ctx, query); err != nil {
					return "", fmt.Errorf("the query %s: %w", alert.QueryText(query), err)
				}
			}
			return fmt.Sprintf("%s; queries: %d", status.Count(len(alerts), "alert"), len(c.Queries)+len(c.ReturnQueries)), nil
		})
	}
	for i, c := range a.cfg.Alertmanager {
		server, filter, err := alertSource(c.URLs, c.HTTPConfigFile, c.Timeout, c.Filter)
		level, follows := doctor.Fail, closed
		if !c.Alerts {
			level, follows = doctor.Warning, "alerts are not silenced"
		}
		add(fmt.Sprintf("alertmanager[%d]", i+1), level, follows, func(ctx context.Context) (string, error) {
			if err != nil {
				return "", err
			}
			alerts, err := server.Alertmanager().Alerts(ctx, filter, 0)
			return status.Count(len(alerts), "alert"), err
		})
	}
	return checks
}
