package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kured-host/kured/internal/status"
)

// row is one node as the table shows it.
type row struct {
	name, system string
	phase        string // kured's, or what the machine does when kured does not run: off, booting, …
	detail       string // what is in the way, or how far it is
	lock         string // holds, its place in the queue, or empty
	cordoned     bool
	pods         int
	boot         string // boot id, empty while there is none
	ready        bool   // as the API server knows it
}

// holds is what stands for the lock itself in row.lock.
const holds = "holds"

var header = []string{"NODE", "SYSTEM", "PHASE", "LOCK", "CORDONED", "PODS", "BOOT ID", "READY", ""}

func (r row) cells() []string {
	return []string{r.name, r.system, r.phase, or(r.lock, "-"), yesNo(r.cordoned), fmt.Sprint(r.pods), short(r.boot),
		yesNo(r.ready), r.detail}
}

// table lays the nodes out as lines of at most width characters.
func table(rows []row, width int, style style) []string {
	lines := [][]string{header}
	for _, r := range rows {
		lines = append(lines, r.cells())
	}
	text := columns(lines, width)
	text[0] = style.bold(text[0])
	for i, r := range rows {
		switch {
		case r.phase == "off" || r.phase == "booting" || r.phase == "shutting down" || !r.ready:
			text[i+1] = style.red(text[i+1])
		case r.cordoned || r.lock == holds:
			text[i+1] = style.yellow(text[i+1])
		}
	}
	return text
}

// columns aligns cells, and cuts lines that are longer than width, unless that is 0.
func columns(lines [][]string, width int) []string {
	var widths []int
	for _, cells := range lines {
		for i, cell := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text []string
	for _, cells := range lines {
		var line strings.Builder
		for i, cell := range cells {
			line.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		text = append(text, cut(strings.TrimRight(line.String(), " "), width))
	}
	return text
}

func cut(line string, width int) string {
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:max(width-1, 0)]) + "…"
}

// report tells what is new about all nodes. Who released the lock comes first: of what is seen at once, that
// was the first.
func report(old, now []row) []string {
	var released, others []string
	for i, r := range now {
		switch news := changes(old[i], r); {
		case news == "":
		case old[i].lock == holds && r.lock != holds:
			released = append(released, r.name+"  "+news)
		default:
			others = append(others, r.name+"  "+news)
		}
	}
	return append(released, others...)
}

// changes tells what is new about a node, in the order of the story.
func changes(old, now row) string {
	var news []string
	tell := func(changed bool, what string) {
		if changed {
			news = append(news, what)
		}
	}
	tell(old.lock != holds && now.lock == holds, "took the lock")
	tell(!old.cordoned && now.cordoned, "cordoned")
	tell(old.ready && !now.ready, "not Ready")
	tell(now.boot != "" && old.boot != now.boot, "new boot id "+short(now.boot))
	tell(!old.ready && now.ready, "Ready")
	tell(old.cordoned && !now.cordoned, "uncordoned")
	tell(old.lock == holds && now.lock != holds, "released the lock")
	// While a node waits, its detail tells mostly of the others.
	if old.phase != now.phase || old.detail != now.detail && (now.phase != string(status.Queued) || old.lock != now.lock) {
		phase := now.phase
		if now.detail != "" {
			phase += ": " + now.detail
		}
		at := 0
		if old.lock != holds && now.lock == holds {
			at = len(news) // what it does with its turn comes after taking it
		}
		news = slices.Insert(news, at, phase)
	}
	return strings.Join(news, ", ")
}

// seconds shows a time with a tenth of a second.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// millis shows a short time.
func millis(d time.Duration) string {
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// short is the beginning of a boot id, enough to tell two apart.
func short(boot string) string { return or(boot[:min(8, len(boot))], "-") }

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// style colours text, or does not.
type style bool

func (s style) bold(text string) string   { return s.sgr("1", text) }
func (s style) red(text string) string    { return s.sgr("31", text) }
func (s style) yellow(text string) string { return s.sgr("33", text) }
func (s style) green(text string) string  { return s.sgr("32", text) }
func (s style) dim(text string) string    { return s.sgr("2", text) }

func (s style) sgr(code, text string) string {
	if !s {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
