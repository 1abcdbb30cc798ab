package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/explain"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/terminal"
)

// gatesTimeout bounds a question to all gates; the daemon itself gives up before.
const gatesTimeout = time.Minute

// answer is what kured why tells. Its JSON form only gains fields.
type answer struct {
	Node   string          `json:"node,omitempty"`
	Phase  status.Phase    `json:"phase"`
	Reason status.Reason   `json:"reason,omitempty"`
	Points []explain.Point `json:"points"`
	// GatesError is why the gates could not be asked now: Points has what the
	// daemon knows of them.
	GatesError string `json:"gates_error,omitempty"`
}

func newWhy() *cobra.Command {
	var output outputFormat
	var socket string
	cmd := &cobra.Command{
		Use:   "why",
		Short: "Tell in sentences what is in the way of the reboot, and what helps",
		Long: `Tell in sentences what is in the way of the reboot, and what helps: what kured
does and since when, what is in the way now, what would be in the way next, and
what happens by itself.

Every gate is asked anew, those behind a closed one too, so this can take some
seconds and makes requests to the API server. While no reboot is wanted it tells
which gates would be closed.

` + stateCodes,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, s, err := reasons(cmd.Context(), control.Client{Path: socket})
			if err != nil {
				return absent(cmd.Context(), err)
			}
			if output != outText {
				err = encode(cmd.OutOrStdout(), output, a)
			} else {
				err = printWhy(cmd.OutOrStdout(), a)
			}
			if err != nil {
				return asDaemonError(err)
			}
			return exitState(s)
		},
	}
	outputFlag(cmd, &output, outText, outJSON, outYAML)
	socketFlag(cmd, &socket)
	return cmd
}

// reasons asks the gates first: they can take a while, and the status is to be newer.
func reasons(ctx context.Context, daemon control.Client) (answer, status.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, gatesTimeout+5*time.Second)
	defer cancel()
	asking, stop := context.WithTimeout(ctx, gatesTimeout)
	defer stop()
	gates, gatesErr := daemon.Gates(asking)
	s, err := daemon.Status(ctx)
	if err != nil {
		return answer{}, status.Status{}, err
	}
	a := answer{Node: s.Node, Phase: s.Phase, Reason: s.Reason, Points: explain.Explain(s, gates, time.Now(), time.Local)}
	if gatesErr != nil {
		a.GatesError = status.Clean(gatesErr.Error(), 200)
	}
	return a, s, nil
}

// heading is that of a part of kured why.
func heading(k explain.Kind, phase status.Phase) string {
	switch {
	case k == explain.Blocks && phase == status.BackingOff:
		return "what was in the way:"
	case k == explain.Blocks:
		return "in the way now:"
	case k == explain.Also && phase == status.Idle:
		return "in the way if a reboot were wanted now:"
	case k == explain.Also:
		return "in the way after that:"
	case k == explain.Then:
		return "by itself:"
	}
	return ""
}

// printWhy writes the sentences for people. On a terminal they are folded to its width.
func printWhy(w io.Writer, a answer) error {
	t := terminal.Of(w)
	var b strings.Builder
	line := func(indent, text string, paint func(string) string) {
		width := 0
		if t.Live {
			width = t.Width()
		}
		for l := range strings.Lines(fold(text, width-len(indent))) {
			fmt.Fprintf(&b, "%s%s\n", indent, paint(strings.TrimSuffix(l, "\n")))
		}
	}
	as := func(text string) string { return text }
	strong := func(text string) string { return t.Paint(terminal.Bold, text) }
	last := explain.Now
	for _, p := range a.Points {
		if p.Kind != last {
			fmt.Fprintf(&b, "\n%s\n", strong(heading(p.Kind, a.Phase)))
			last = p.Kind
		}
		if p.Kind == explain.Now {
			line("", p.Text, as)
			continue
		}
		line("  ", p.Text, as)
		if p.Do != "" {
			line("    ", p.Do, func(text string) string { return t.Paint(terminal.Dim, text) })
		}
	}
	if a.GatesError != "" {
		fmt.Fprintln(&b)
		line("", "The gates could not be asked now: "+a.GatesError, as)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fold breaks a text into lines of at most width characters; less than 20: it
// does not. A command, which stands in double quotes, stays in one piece, so that
// it can be copied.
func fold(text string, width int) string {
	if width < 20 {
		return text
	}
	var b strings.Builder
	n := 0
	for _, word := range pieces(text, width) {
		length := len([]rune(word))
		switch {
		case n == 0:
		case n+1+length > width:
			b.WriteByte('\n')
			n = 0
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += length
	}
	return b.String()
}

// pieces are the words of a text, what is quoted as one if it fits into a line.
func pieces(text string, width int) []string {
	var out []string
	for words := strings.Fields(text); len(words) > 0; {
		n := 1
		for end := 1; end <= len(words); end++ {
			whole := strings.Join(words[:end], " ")
			if len([]rune(whole)) > width {
				break
			}
			if strings.Count(whole, `"`)%2 == 0 {
				n = end
				break
			}
		}
		out, words = append(out, strings.Join(words[:n], " ")), words[n:]
	}
	return out
}

// absent is the error of a daemon that does not answer: what systemd says of
// it, and where else to look.
func absent(ctx context.Context, err error) error {
	coded := asDaemonError(err)
	if !errors.Is(err, control.ErrNotRunning) {
		return coded
	}
	if unit := unitState(ctx); unit != "" {
		coded = fmt.Errorf("%w\nsystemd says: kured.service is %s", coded, unit)
	}
	return fmt.Errorf("%w\nwhat the cluster knows of this node: kured status --all", coded)
}

// unitState is what systemd says of the daemon's unit: "inactive (dead)",
// "failed (exit-code)"; empty if it cannot be asked (systemctl(1), show).
func unitState(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=LoadState,ActiveState,SubState,Result", "kured.service").Output()
	if err != nil {
		return ""
	}
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			said[key] = status.Clean(value, 40)
		}
	}
	switch {
	case said["LoadState"] != "" && said["LoadState"] != "loaded":
		return said["LoadState"]
	case said["ActiveState"] == "":
		return ""
	case said["ActiveState"] == "failed":
		return "failed (" + said["Result"] + ")"
	}
	return said["ActiveState"] + " (" + said["SubState"] + ")"
}
