package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	journald "github.com/coreos/go-systemd/v22/journal"

	"github.com/kured-host/kured/internal/cycle"
	"github.com/kured-host/kured/internal/history"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/telemetry"
)

// From what the real Runner tells through the real handler of the journal,
// history finds the cycles as they were.
func TestHistoryOfAStory(t *testing.T) {
	for _, c := range []struct {
		name, story string
		want        []string
	}{
		{"good", `
			nodes 1
			at 1m want a
			until 1h`,
			[]string{"at 1m0s verified, tries 1: drained after 1m0s"}},
		{"rolled back once", `
			nodes 1
			at 1m want a
			at 90s close a
			at 20m open a
			until 2h`,
			[]string{"at 1m0s verified, tries 2: drained after 1m30s; logind-unavailable: the maintenance window is closed"}},
		{"not wanted any more, and wanted again", `
			nodes 1
			at 1m want a
			at 90s unwant a
			at 20m want a
			until 2h`,
			[]string{
				"at 1m0s abandoned, tries 1: drained after 30s; sentinel-gone: the reboot is not required any more",
				"at 20m0s verified, tries 1: drained after 1m0s",
			}},
		{"the power is cut in the drain", `
			nodes 1
			at 1m want a
			at 90s power-cut a 2m
			until 2h`,
			[]string{"at 1m0s verified, tries 1: drained after 3m0s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			setup, err := readStory(strings.TrimSpace(c.story))
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var entries bytes.Buffer
			var began time.Time
			setup.Mutate.Runner = func(p *process, r *cycle.Runner) {
				boot := p.boot
				if began.IsZero() {
					began = p.w.start
				}
				log, err := telemetry.NewLogger(telemetry.LogOptions{Level: "info", Format: "journal", Writer: &entries, Journal: telemetry.Journal{
					Enabled: func() bool { return true },
					Send: func(message string, _ journald.Priority, fields map[string]string) error {
						mu.Lock()
						defer mu.Unlock()
						fields["MESSAGE"], fields["_BOOT_ID"], fields["_MACHINE_ID"] = message, boot, p.m.name
						fields["__REALTIME_TIMESTAMP"] = strconv.FormatInt(time.Now().UnixMicro(), 10)
						return json.NewEncoder(&entries).Encode(fields)
					},
				}})
				if err != nil {
					t.Error(err)
					log = slog.New(slog.DiscardHandler)
				}
				r.Log = log
			}
			tell(t, setup)
			log, err := history.Read(bytes.NewReader(entries.Bytes()), time.Time{}, 10)
			if err != nil || log.Unread > 0 {
				t.Errorf("%d lines unread, error %v", log.Unread, err)
			}
			var got []string
			for _, cycle := range log.Cycles {
				text := fmt.Sprintf("at %s %s, tries %d: drained after %s", cycle.Began.Sub(began).Round(10*time.Second), cycle.Result, cycle.Tries, cycle.In(status.Locked, status.Draining).Round(30*time.Second))
				for _, s := range cycle.Setbacks {
					text += fmt.Sprintf("; %s: %s", s.Reason, s.Detail)
				}
				got = append(got, text)
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got:\n%s\nwant:\n%s\nof:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"), entries.String())
			}
		})
	}
}
