package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/node"
)

// planTimeout bounds the whole dry run.
const planTimeout = 2 * time.Minute

// exitHeldUp is the exit code of a plan that would not go through.
const exitHeldUp = 3

func newPlanDrain() *cobra.Command {
	var output outputFormat
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what a drain of this node would do now: who leaves, who stays, what is held",
		Long: `Show what a drain of this node would do now: which pods leave, in their order
and with the time that they get to stop; which stay and why; which are held, by
a PodDisruptionBudget or otherwise; which the configuration does not let go.

Nothing is changed: each eviction is a dry run. It is asked with the node's own
credential, and so runs on the node, as root. The API server looks at each pod
alone: a budget that lets one pod go lets each of several go in a dry run.

The exit code is 0 if the drain would go through, and 3 if something would hold
it up or the API server does not say. Where there is no answer: 64 wrong command
line, 78 wrong configuration, 70 any other error.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := openHouse(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), planTimeout)
			defer cancel()
			return p.tellPlan(ctx, cmd.OutOrStdout(), output)
		},
	}
	configFlag(cmd)
	outputFlag(cmd, &output, outText, outJSON, outYAML)
	return cmd
}

// tellPlan rehearses the drain and writes what it would do.
func (p *plan) tellPlan(ctx context.Context, w io.Writer, output outputFormat) error {
	d, report, err := p.planDrain(ctx)
	if err != nil {
		return &exitError{exitSoftware, err}
	}
	if output != outText {
		err = encode(w, output, d)
	} else {
		err = printPlan(w, d, report)
	}
	if err != nil {
		return &exitError{exitSoftware, err}
	}
	if !d.Through {
		return &exitError{exitHeldUp, errors.New("")} // an answer, and nothing to say about it
	}
	return nil
}

// drainPlan is what kured plan tells. Its JSON form only gains fields.
type drainPlan struct {
	Node    string      `json:"node"`
	Through bool        `json:"through"` // the drain would go through
	Tiers   []planTier  `json:"tiers"`   // in the order in which they leave
	Staying []planStays `json:"staying"`
	Held    []planHeld  `json:"held"`    // would be held up now
	Refused []planHeld  `json:"refused"` // may not be evicted by the configuration: while there is one, nothing would be
	Unknown []planHeld  `json:"unknown"` // of which a dry run tells nothing
	// Together names the groups of which a budget may let fewer go at a time than one by one.
	Together []string `json:"together,omitempty"`

	Timeout   string `json:"timeout"`    // drain.timeout
	OnTimeout string `json:"on_timeout"` // drain.on_timeout
}

type planTier struct {
	Name string      `json:"name,omitempty"` // absent: there is but one
	Pods []planLeave `json:"pods"`
}

type planLeave struct {
	Namespace    string  `json:"namespace"`
	Name         string  `json:"name"`
	Owner        string  `json:"owner,omitempty"` // absent: nobody makes it anew
	GraceSeconds float64 `json:"grace_seconds"`
	Terminating  bool    `json:"terminating,omitempty"` // it is being deleted already
}

type planStays struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Why       string `json:"why"`
}

type planHeld struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Why       node.Why `json:"why"`
	Budget    string   `json:"budget,omitempty"`
	Detail    string   `json:"detail,omitempty"`
	Text      string   `json:"text"` // all of it as a sentence
}

// planDrain rehearses the drain with the node's own credential.
func (p *plan) planDrain(ctx context.Context) (drainPlan, node.Report, error) {
	c, err := kube.Connect(ctx, p.identity())
	if err != nil {
		return drainPlan{}, node.Report{}, err
	}
	defer c.CloseIdle()
	options := p.settings().Drain
	report, err := node.New(c.Client, c.NodeName, p.boot).Preflight(ctx, options)
	if err != nil {
		return drainPlan{}, node.Report{}, err
	}
	return planOf(c.NodeName, options, report), report, nil
}

// planOf puts a report into the form of the output.
func planOf(name string, options node.DrainOptions, r node.Report) drainPlan {
	d := drainPlan{
		Node: name, Through: r.Err() == nil, Together: r.Together,
		Tiers: []planTier{}, Staying: []planStays{}, Held: planHolds(r.Held), Refused: planHolds(r.Refused), Unknown: planHolds(r.Unknown),
		Timeout: options.Timeout.String(), OnTimeout: string(options.OnTimeout),
	}
	for _, tier := range r.Tiers {
		t := planTier{Name: tier.Name}
		for _, pod := range tier.Leaving {
			t.Pods = append(t.Pods, planLeave{pod.Namespace, pod.Name, pod.Owner, pod.Grace.Seconds(), pod.Terminating})
		}
		d.Tiers = append(d.Tiers, t)
	}
	for _, pod := range r.Staying {
		d.Staying = append(d.Staying, planStays{pod.Namespace, pod.Name, pod.Why})
	}
	return d
}

func planHolds(pods []node.HeldPod) []planHeld {
	all := []planHeld{}
	for _, h := range pods {
		all = append(all, planHeld{h.Namespace, h.Name, h.Why, h.Budget, h.Detail, h.String()})
	}
	return all
}

// printPlan writes a plan for people.
func printPlan(w io.Writer, d drainPlan, r node.Report) error {
	var b strings.Builder
	switch err := r.Err(); {
	case err == nil:
		fmt.Fprintf(&b, "node %s: a drain would go through now\n", d.Node)
	case errors.Is(err, node.ErrRefused):
		fmt.Fprintf(&b, "node %s: a drain would not begin: there are pods that may not be evicted\n", d.Node)
	case len(d.Held) > 0:
		fmt.Fprintf(&b, "node %s: a drain would be held up now\n", d.Node)
	default:
		fmt.Fprintf(&b, "node %s: a dry run does not tell whether a drain would go through\n", d.Node)
	}
	if len(d.Tiers) == 0 && len(d.Refused) == 0 {
		fmt.Fprintln(&b, "no pod has to leave")
	}
	var failed error
	table := func(head string, rows [][]string) {
		if len(rows) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%s:\n", head)
		columns := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, row := range rows {
			fmt.Fprintln(columns, "  "+strings.Join(row, "\t"))
		}
		if err := columns.Flush(); err != nil {
			failed = err
		}
	}
	for i, tier := range d.Tiers {
		head := pods(len(tier.Pods), "leaves", "leave")
		if i > 0 {
			head = "then " + head
		}
		if tier.Name != "" {
			head += ", " + tier.Name
		}
		var rows [][]string
		for _, pod := range tier.Pods {
			owner := pod.Owner
			if owner == "" {
				owner = "nobody makes it anew"
			}
			grace := "stops within " + (time.Duration(pod.GraceSeconds) * time.Second).String()
			if pod.Terminating {
				grace = "is stopping already"
			}
			rows = append(rows, []string{pod.Namespace + "/" + pod.Name, grace, owner})
		}
		table(head, rows)
	}
	var staying [][]string
	for _, pod := range d.Staying {
		staying = append(staying, []string{pod.Namespace + "/" + pod.Name, pod.Why})
	}
	table(pods(len(d.Staying), "stays", "stay"), staying)
	sentences := func(held []planHeld) (rows [][]string) {
		for _, h := range held {
			rows = append(rows, []string{h.Text})
		}
		return rows
	}
	table(pods(len(d.Refused), "may not be evicted, so nothing would be", "may not be evicted, so nothing would be"), sentences(d.Refused))
	table(pods(len(d.Held), "would be held now", "would be held now"), sentences(d.Held))
	table(pods(len(d.Unknown), "cannot be told by a dry run", "cannot be told by a dry run"), sentences(d.Unknown))
	if len(d.Together) > 0 {
		var rows [][]string
		for _, group := range d.Together {
			rows = append(rows, []string{group})
		}
		table("asked about one by one; a budget may let fewer go at a time", rows)
	}
	if len(d.Held)+len(d.Unknown) > 0 && len(d.Refused) == 0 {
		fmt.Fprintf(&b, "\nA drain asks again until drain.timeout, %s, is over; then: %s (drain.on_timeout).\n", d.Timeout, d.OnTimeout)
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(printable(line), " ")); err != nil {
			return err
		}
	}
	return failed
}

// pods says how many pods do something.
func pods(n int, one, many string) string {
	if n == 1 {
		return "1 pod " + one
	}
	return fmt.Sprintf("%d pods %s", n, many)
}
