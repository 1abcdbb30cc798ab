package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// verdict compares a figure with its budget.
type verdict string

const (
	noBudget verdict = "–"
	within   verdict = "ok"
	over     verdict = "**OVER**"
)

// figure is a line of the table.
type figure struct {
	name     string
	budget   string
	measured string
	peer     string // the same of kubectl, in the same run
	ratio    string // measured / peer
	verdict  verdict
}

// atMost is a figure with an upper limit. The format, which begins with its
// verb, is for the value.
func atMost(name string, limit, value float64, format string) figure {
	_, unit, _ := strings.Cut(format, "f")
	budget := fmt.Sprintf("≤ %g%s", limit, unit)
	if limit == 0 {
		budget = "0"
	}
	return judged(name, budget, fmt.Sprintf(format, value), value <= limit)
}

func judged(name, budget, measured string, ok bool) figure {
	f := figure{name: name, budget: budget, measured: measured, verdict: over}
	if ok {
		f.verdict = within
	}
	return f
}

// against adds what the peer needed.
func (f figure) against(value, peer float64, format string) figure {
	f.peer, f.ratio = fmt.Sprintf(format, peer), fmt.Sprintf("%.2f", value/peer)
	return f
}

// delays is a figure of many delays whose 99th percentile has a limit.
func delays(name string, limit time.Duration, all []time.Duration) figure {
	p50, p99 := percentile(all, 50), percentile(all, 99)
	return judged(name, "p99 ≤ "+millis(limit),
		fmt.Sprintf("p50 %s, p99 %s (of %d)", millis(p50), millis(p99), len(all)), p99 <= limit)
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
}

// percentile is the smallest of the values that is not less than p percent of
// them (nearest rank); 0 of none.
func percentile(all []time.Duration, p float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// report is one run.
type report struct {
	circumstances
	figures  []figure
	requests string // of one cycle, by kind, in Markdown
	sections []section
}

// section is a table of its own, below the first.
type section struct {
	title  string
	header []string
	rows   [][]string
	over   []string // what is over its budget, for people
}

// markdown is the section of the document that is written anew.
func (r *report) markdown() string {
	var b strings.Builder
	b.WriteString(r.circumstances.markdown())
	rows := [][]string{{"figure", "budget", "measured", "kubectl in the same run", "ratio", "within?"}}
	for _, f := range r.figures {
		row := []string{f.name, f.budget, f.measured, f.peer, f.ratio, string(f.verdict)}
		for i, cell := range row {
			if cell == "" {
				row[i] = "–"
			}
		}
		rows = append(rows, row)
	}
	writeTable(&b, rows)
	if r.requests != "" {
		b.WriteString("\n" + r.requests)
	}
	for _, section := range r.sections {
		fmt.Fprintf(&b, "\n### %s\n\n", section.title)
		writeTable(&b, append([][]string{section.header}, section.rows...))
	}
	return b.String()
}

// writeTable writes a table in Markdown; the first row is its header.
func writeTable(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(b, "| %s%s ", cell, strings.Repeat(" ", widths[i]-len([]rune(cell))))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				b.WriteString("|" + strings.Repeat("-", width+2))
			}
			b.WriteString("|\n")
		}
	}
}

// circumstances say where and when the figures were taken.
type circumstances struct {
	date                   time.Time
	commit, command, note  string
	loadBefore, loadAfter  string
	memory, kernel, goVers string
	cores                  int
}

func circumstancesNow(ctx context.Context, o options) circumstances {
	c := circumstances{
		date: time.Now().UTC(), note: o.note, commit: "unknown", cores: runtime.NumCPU(), goVers: runtime.Version(),
		command: "make bench",
	}
	if len(o.given) > 0 {
		c.command += " BENCH='" + strings.Join(o.given, " ") + "'"
	}
	if head, err := exec.CommandContext(ctx, "git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty").Output(); err == nil {
		c.commit = strings.TrimSpace(string(head))
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		c.kernel = unix.ByteSliceToString(name.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		c.memory = fmt.Sprintf("%.1f GiB", float64(info.Totalram)*float64(info.Unit)/(1<<30))
	}
	c.loadBefore = load()
	return c
}

func (c *circumstances) end() { c.loadAfter = load() }

// load is the load average of the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

func (c *circumstances) markdown() string {
	s := fmt.Sprintf("Last run: %s, commit %s, `%s`.\nMachine: %d cores, %s of memory, Linux %s, %s; load average %s at the begin, %s at the end.\n",
		c.date.Format("2006-01-02 15:04 UTC"), c.commit, c.command, c.cores, c.memory, c.kernel, c.goVers, c.loadBefore, c.loadAfter)
	if c.note != "" {
		s += "**" + c.note + "**\n"
	}
	return s + "\n"
}

// The lines between which the document is written anew.
const (
	sectionBegin = "<!-- begin of the last run, written by make bench -->\n"
	sectionEnd   = "<!-- end of the last run -->\n"
)

// replaceSection puts text between the two lines of the document.
func replaceSection(path, text string) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(document), sectionBegin)
	_, after, ends := strings.Cut(rest, sectionEnd)
	if !begins || !ends {
		return fmt.Errorf("%s has no lines %q and %q in this order", path, sectionBegin, sectionEnd)
	}
	return os.WriteFile(path, []byte(before+sectionBegin+text+sectionEnd+after), 0o644)
}
