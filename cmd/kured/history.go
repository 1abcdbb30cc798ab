package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/history"
	"github.com/kured-host/kured/internal/present"
	"github.com/kured-host/kured/internal/status"
)

func newHistory() *cobra.Command {
	var output present.Format
	var since, from string
	var last int
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show past cycles of this node: when, why, how long, with what result",
		Long: `Show past cycles of this node: when, why, how long, with what result.

It reads what kured wrote into the journal, which has to outlive a reboot for
that (Storage=persistent in journald.conf(5)), and log.format has to be that of
the journal. Times are in UTC. The last cycle is the last line.

  WAIT    something said: not now, or the last try was rolled back
  QUEUE   the node waited for its turn
  DRAIN   from the lock to the reboot
  REBOOT  from asking logind until kured ran again
  RETURN  until the node had proved that it is well

A result is "verified" (rebooted, and well), "gave-up" (rebooted, and not well in
time), "abandoned" (not wanted any more), "running", or "unfinished" (the machine
went down without kured). Below a cycle stands why tries were rolled back.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			begin, err := history.ParseSince(since, time.Now())
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("--since %w", err)}
			}
			if last < 1 || last > history.MaxCycles {
				return &exitError{exitUsage, fmt.Errorf("--number %d: must be 1 to %d", last, history.MaxCycles)}
			}
			log, err := readHistory(cmd, from, begin, last)
			if err != nil {
				return err
			}
			if output.ForPeople() && log.Unread > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "kured: lines of the journal that could not be read: %d\n", log.Unread)
			}
			if output.ForPeople() && len(log.Cycles) == 0 && from == "" && os.Geteuid() != 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "kured: only root and the groups systemd-journal and adm see the whole journal")
			}
			return present.History(cmd.OutOrStdout(), output, log)
		},
	}
	outputFlag(cmd, &output, present.Text, present.JSON, present.YAML)
	cmd.Flags().StringVar(&since, "since", "", "only cycles that went on at or after this `time`: 2026-11-20, \"2026-11-20 15:04\", RFC 3339, or so long ago: 36h, 7d")
	cmd.Flags().IntVarP(&last, "number", "n", 20, "the last `N` cycles")
	cmd.Flags().StringVar(&from, "from", "", "read a `file` that journalctl -o json wrote, - for standard input, not the journal")
	return cmd
}

// readHistory finds the cycles in the journal, or in a file.
func readHistory(cmd *cobra.Command, from string, since time.Time, last int) (history.Log, error) {
	switch from {
	case "":
		return readJournal(cmd.Context(), since, last)
	case "-":
		return history.Read(cmd.InOrStdin(), since, last)
	}
	f, err := os.Open(from)
	if err != nil {
		return history.Log{}, err
	}
	defer f.Close()
	return history.Read(f, since, last)
}

// readJournal lets journalctl read the journal: its files are no interface. Only
// what root wrote counts, because everybody may write there under any name.
func readJournal(ctx context.Context, since time.Time, last int) (history.Log, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	journalctl := exec.CommandContext(ctx, "journalctl", "--output=json", "--no-pager", "--quiet",
		"--output-fields="+strings.Join(history.Fields(), ","), "SYSLOG_IDENTIFIER=kured", "_UID=0")
	var complaint bytes.Buffer
	journalctl.Stderr = &complaint
	lines, err := journalctl.StdoutPipe()
	if err == nil {
		err = journalctl.Start()
	}
	if err != nil {
		return history.Log{}, fmt.Errorf("run journalctl: %w", err)
	}
	log, err := history.Read(lines, since, last)
	if err != nil {
		cancel()
	}
	if err := errors.Join(err, journalctl.Wait()); err != nil {
		if said := status.Clean(complaint.String(), 300); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return history.Log{}, fmt.Errorf("journalctl: %w", err)
	}
	return log, nil
}
