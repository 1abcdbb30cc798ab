package present

import (
	"fmt"
	"io"
	"strings"

	"github.com/kured-host/kured/internal/doctor"
	"github.com/kured-host/kured/internal/status"
	"github.com/kured-host/kured/internal/terminal"
)

// Findings writes what the doctor has found: for people a line for each and one
// for its remedy, whole, however wide the terminal is: it is the end of a line
// that matters.
func Findings(w io.Writer, f Format, found []doctor.Finding) error {
	if !f.ForPeople() {
		return Encode(w, f, struct {
			Worst    doctor.Level     `json:"worst"`
			Findings []doctor.Finding `json:"findings"`
		}{doctor.Worst(found), found})
	}
	width := 0
	count := map[doctor.Level]int{}
	for _, f := range found {
		width = max(width, len(f.Check))
		count[f.Level]++
	}
	t := terminal.Of(w)
	colours := map[doctor.Level]terminal.Colour{doctor.OK: terminal.Green, doctor.Warning: terminal.Yellow, doctor.Fail: terminal.Red}
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%s  %-*s  %s\n", t.Paint(colours[f.Level], fmt.Sprintf("%-7s", f.Level)), width, f.Check, f.Text)
		if f.Remedy != "" {
			fmt.Fprintf(&b, "%-7s  %-*s  -> %s\n", "", width, "", f.Remedy)
		}
	}
	fmt.Fprintf(&b, "\n%d ok, %s, %d failed\n", count[doctor.OK], status.Count(count[doctor.Warning], "warning"), count[doctor.Fail])
	_, err := io.WriteString(w, b.String())
	return err
}
