// Command bench measures what docs/benchmarks.md tells, and with -write writes
// the table there anew.
//
// The parts are real: the kured binary as it is packaged, a Kubernetes control
// plane on loopback, a D-Bus daemon. What stands in are the kubelets, because
// there are no containers, and logind, because the machine has to stay up.
//
// A figure over its budget is said loudly and is no failure: how fast a machine
// is depends on what else it does. Only a figure that could not be measured
// makes the exit code 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/klog/v2"
)

// options are the command line.
type options struct {
	kured  string        // path of the binary that is measured
	idle   time.Duration // how long a daemon is watched that has nothing to do
	rounds int           // measurements of which a median or a percentile is taken
	pods   int           // that a drain evicts
	write  string        // file with the table, empty: only print
	note   string        // about the circumstances of this run
	given  []string      // the options that were given and change what is measured
}

func main() {
	var o options
	flag.StringVar(&o.kured, "kured", "", "the kured `binary`, built as for the packages")
	flag.DurationVar(&o.idle, "idle", 10*time.Minute, "how long to watch a daemon that has nothing to do")
	flag.IntVar(&o.rounds, "rounds", 200, "measurements for each percentile")
	flag.IntVar(&o.pods, "pods", 110, "pods of a drain")
	flag.StringVar(&o.write, "write", "", "the document whose table to write anew")
	flag.StringVar(&o.note, "note", "", "a remark to put above the table")
	flag.Parse()
	flag.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "idle", "rounds", "pods":
			o.given = append(o.given, fmt.Sprintf("-%s %s", f.Name, f.Value))
		}
	})
	if o.kured == "" || flag.NArg() > 0 || o.rounds < 1 || o.pods < 1 {
		flag.Usage()
		os.Exit(64)
	}
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // client-go's remarks about its own throttling
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures everything, prints the table, and writes it if that is wanted
// and nothing failed.
func run(ctx context.Context, o options, out, progress io.Writer) error {
	report := report{circumstances: circumstancesNow(ctx, o)}
	failed := measure(ctx, o, &report, progress)
	report.circumstances.end()
	if _, err := io.WriteString(out, report.markdown()); err != nil {
		return err
	}
	for _, f := range report.figures {
		if f.verdict == over {
			fmt.Fprintf(progress, "OVER BUDGET: %s: %s, budget %s\n", f.name, f.measured, f.budget)
		}
	}
	for _, s := range report.sections {
		for _, what := range s.over {
			fmt.Fprintf(progress, "OVER BUDGET: %s\n", what)
		}
	}
	if failed != nil || o.write == "" {
		return failed
	}
	return replaceSection(o.write, report.markdown())
}

// measure takes all figures. One that fails does not keep the others from being taken.
func measure(ctx context.Context, o options, r *report, progress io.Writer) error {
	began := time.Now()
	say := func(what string) {
		fmt.Fprintf(progress, "%5.0fs  %s\n", time.Since(began).Seconds(), what)
	}
	say("starting the control plane")
	s, err := newStage(ctx, o.kured)
	if err != nil {
		return err
	}
	defer s.close()

	var errs []error
	step := func(what string, do func(context.Context) ([]figure, error)) {
		if ctx.Err() != nil {
			return
		}
		say(what)
		figures, err := do(ctx)
		r.figures = append(r.figures, figures...)
		if err != nil {
			// What it left in the lock shall not be in the way of the next.
			errs = append(errs, fmt.Errorf("%s: %w", what, errors.Join(err, s.clearLock())))
		}
	}
	step(fmt.Sprintf("nothing to do, for %s", o.idle), func(ctx context.Context) ([]figure, error) { return s.idle(ctx, o.idle) })
	step("from the sentinel to the lock", func(ctx context.Context) ([]figure, error) { return s.takeLock(ctx, o.rounds) })
	step("from one holder to the next", func(ctx context.Context) ([]figure, error) { return s.handOver(ctx, o.rounds) })
	step("a whole cycle", func(ctx context.Context) ([]figure, error) {
		figures, requests, err := s.wholeCycle(ctx)
		r.requests = requests
		return figures, err
	})
	step("drain", func(ctx context.Context) ([]figure, error) { return s.drains(ctx, o.pods) })
	sections := func(what string, do func(context.Context) ([]section, error)) {
		step(what, func(ctx context.Context) ([]figure, error) {
			sections, err := do(ctx)
			r.sections = append(r.sections, sections...)
			return nil, err
		})
	}
	sections("many nodes, simulated", func(ctx context.Context) ([]section, error) {
		s, err := simulate(ctx)
		return []section{s}, err
	})
	sections("a thousand nodes", func(ctx context.Context) ([]section, error) { return scale(ctx, o.rounds, say) })
	sections("a look at five thousand nodes", func(ctx context.Context) ([]section, error) {
		s, err := fleet(ctx, 5000)
		return []section{s}, err
	})
	step("the binary", func(context.Context) ([]figure, error) { return binarySize(o.kured) })
	return errors.Join(append(errs, ctx.Err())...)
}

func binarySize(path string) ([]figure, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return []figure{atMost("binary, stripped", 36, float64(info.Size())/1e6, "%.1f MB")}, nil
}
