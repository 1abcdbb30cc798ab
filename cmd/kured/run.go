package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/logind"
	"github.com/kured-host/kured/internal/metrics"
	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/telemetry"
)

func newRun() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Watch the sentinel and reboot in turn (the daemon, started by systemd)",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := openHouse(cmd)
			if err != nil {
				return err
			}
			hangups := make(chan os.Signal, 1)
			signal.Notify(hangups, syscall.SIGHUP)
			defer signal.Stop(hangups)
			return p.run(cmd.Context(), reloading{hangups, func() (config.Config, error) { return loadConfig(cmd) }})
		},
	}
	configFlag(cmd)
	return cmd
}

// reloading is when and how the configuration is read again.
type reloading struct {
	asked <-chan os.Signal
	load  func() (config.Config, error)
}

// daemonProcess is a running kured run.
type daemonProcess struct {
	*house
	notifier telemetry.Notifier
	next     chan cycle.Parts                          // for the cycle, after a reload
	part     func(string, func(context.Context) error) // starts a part of the process, whose error ends it
	current  atomic.Pointer[program]
	answered answered

	metrics    *metrics.Metrics
	credential *kube.Credential
	log        *slog.Logger
}

// run is the daemon, until ctx ends or something fails that only a restart can mend.
func (p *program) run(ctx context.Context, again reloading) error {
	if err := p.supported(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	d := p.process()
	d.part = func(name string, do func(context.Context) error) {
		all.Go(func() {
			if err := do(ctx); err != nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	if err := d.start(ctx, p, again); err != nil {
		return err
	}
	p.log.Info("kured started", "version", version, "boot", p.boot, "message_id", status.MessageStarted)
	if err := d.notifier.Ready(); err != nil {
		p.log.Warn("systemd was not told that the service is ready: " + err.Error())
	}
	<-ctx.Done()
	if err := d.notifier.Stopping(); err != nil {
		p.log.Warn("systemd was not told that the service stops: " + err.Error())
	}
	all.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		var permanent interface{ Permanent() bool }
		if errors.As(cause, &permanent) && permanent.Permanent() {
			return &exitError{exitConfig, cause}
		}
		return cause
	}
	p.log.Info("kured stopped")
	return nil
}

// process is a daemon of which nothing runs yet.
func (p *program) process() *daemonProcess {
	d := &daemonProcess{
		house: p.house, notifier: telemetry.Notifier(daemon.SdNotify), log: p.log,
		next: make(chan cycle.Parts, 1), credential: kube.NewCredential(p.cfg.Kubernetes.Kubeconfig),
	}
	d.answered.complete = p.returning().complete
	d.metrics = metrics.New(metrics.Options{
		Ledger: p.ledger, Requests: p.requests.Each, Credential: d.credential.Validity, Version: version, Log: p.log,
	})
	return d
}

// start starts all parts of the process.
func (d *daemonProcess) start(ctx context.Context, p *program, again reloading) error {
	server, err := control.New(ctx, p.socket(), d.answers())
	if err != nil {
		return err // perhaps another kured runs: nothing of it is touched yet
	}
	if p.cfg.Reboot.Delay > 0 {
		// What a daemon announced that was killed then; if it still holds, it is announced anew.
		if err := p.login.Withdraw(ctx); err != nil {
			p.log.Warn("an earlier announcement may stay: " + err.Error())
		}
	}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	board := newBoard(d.notifier, d.answered.Publish, d.metrics.Publish, p.follow)
	board.publish(status.Status{Boot: p.boot, Phase: status.Starting, Since: time.Now()})
	parts, err := d.begin(ctx, p)
	if err != nil {
		return err
	}
	runner := &cycle.Runner{Mode: cycle.Run, Boot: p.boot, Parts: parts, Reload: d.next, Publish: board.publish, Rest: func() {
		if err := rest(); err != nil {
			p.log.Debug(err.Error())
		}
	}}
	d.part("control socket", server.Serve)
	d.part("metrics", func(ctx context.Context) error {
		d.metrics.Run(ctx, p.metrics())
		return nil
	})
	d.part("watchdog", func(ctx context.Context) error {
		return d.notifier.Watchdog(ctx, interval, telemetry.KernelTicks, runner.Alive)
	})
	d.part("reload", func(ctx context.Context) error {
		d.reloads(ctx, again)
		return nil
	})
	d.part("cycle", func(ctx context.Context) error {
		err := runner.Do(ctx)
		if err == nil && ctx.Err() == nil {
			err = errors.New("ended without being told to")
		}
		d.flush(runner.Flush)
		return err
	})
	return nil
}

// answers is what the control socket shows and does.
func (d *daemonProcess) answers() control.Daemon {
	return control.Daemon{
		Status: &d.answered,
		Gates: func(ctx context.Context) ([]status.GateState, error) {
			return d.current.Load().inquire(ctx, d.answered.Now().Phase), nil
		},
		Verbs: control.Verbs{
			Sentinel: d.requestFile(),
			Watched:  func() []string { paths, _ := d.current.Load().watched(); return paths },
			Pause:    d.pauseFile(),
			Now:      time.Now,
			Log:      d.log,
		},
	}
}

// answered is the newest status for those who ask.
type answered struct {
	control.Feed
	complete func(status.Status) status.Status // adds what another process knows
}

// Now implements control.Source.
func (a *answered) Now() status.Status { return a.complete(a.Feed.Now()) }

// supported refuses what this machine cannot do, however often it is asked.
func (p *program) supported(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var never *logind.UnsupportedError
	if err := p.login.Supports(ctx, logind.Method(p.cfg.Reboot.Method)); errors.As(err, &never) {
		return &exitError{exitConfig, fmt.Errorf("reboot.method: %w", err)}
	} else if err != nil {
		p.log.Warn("whether the reboot method can be used is not known yet: " + err.Error())
	}
	if p.cfg.Reboot.Delay > 0 {
		if err := p.login.CanAnnounce(); err != nil {
			return &exitError{exitConfig, fmt.Errorf("reboot.delay: %w", err)}
		}
	}
	return nil
}

// begin starts what a program needs beside the cycle, until the next one is
// adopted.
func (d *daemonProcess) begin(ctx context.Context, p *program) (cycle.Parts, error) {
	watcher, err := sentinel.New(p.watched())
	if err != nil {
		return cycle.Parts{}, err
	}
	watching, stop := context.WithCancel(ctx)
	d.part("sentinel", func(context.Context) error { return watcher.Run(watching) })
	parts := p.parts(watcher)
	d.current.Store(p)
	parts.Dismissed = func() {
		stop()
		go d.flush(p.notifier.Flush)
	}
	return parts, nil
}

// flush gives notifications the time to arrive.
func (d *daemonProcess) flush(flush func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := flush(ctx); err != nil {
		d.log.Warn(err.Error())
	}
}

// reloads reads the configuration again each time it is asked to. One that
// cannot be used changes nothing.
func (d *daemonProcess) reloads(ctx context.Context, again reloading) {
	for {
		select {
		case <-again.asked:
		case <-ctx.Done():
			return
		}
		if err := d.notifier.Reloading(); err != nil {
			d.log.Warn(err.Error())
		}
		err := d.reload(ctx, again.load)
		d.metrics.Reloaded(time.Now(), err == nil)
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				d.log.Error("the configuration stays as it was: "+strings.TrimSpace(line), "message_id", status.MessageReloadFailed)
			}
		}
		if err := d.notifier.Ready(); err != nil {
			d.log.Warn(err.Error())
		}
	}
}

func (d *daemonProcess) reload(ctx context.Context, load func() (config.Config, error)) error {
	cfg, err := load()
	if err != nil {
		return err
	}
	p, err := d.program(cfg)
	if err != nil {
		return err
	}
	if err := p.supported(ctx); err != nil {
		return err
	}
	if o := d.owner.Load(); o != nil {
		if err := p.fits(o.kubelet); err != nil {
			return err
		}
	}
	parts, err := d.begin(ctx, p)
	if err != nil {
		return err
	}
	select { // one that nobody has taken yet is void
	case old := <-d.next:
		old.Dismissed()
	default:
	}
	d.next <- parts
	d.metrics.Configure(p.metrics())
	d.credential.Use(cfg.Kubernetes.Kubeconfig)
	p.log.Info("configuration read again", "message_id", status.MessageReloaded)
	return nil
}
