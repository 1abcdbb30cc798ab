package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/sentinel"
	"github.com/kured-host/kured/internal/sentinel/source"
	"github.com/kured-host/kured/internal/statefile"
	"github.com/kured-host/kured/internal/status"
)

// Bounds on what a person says, so that with who and when it fits into what is
// kept of a line.
const (
	MaxReason = 120 // bytes
	MaxBy     = 32  // characters
)

// Verbs carries orders out. All that they change are files of this machine,
// which the daemon notices by itself as it does when a person writes them.
type Verbs struct {
	Sentinel string          // path of the file that Request makes
	Watched  func() []string // the sentinels that the daemon follows
	Pause    string          // path of the file that pauses this node; see gate.Pause
	Now      func() time.Time
	Log      *slog.Logger
}

// Do implements Doer.
func (v Verbs) Do(_ context.Context, verb Verb, o Order) (Outcome, error) {
	if err := o.Check(verb, v.Now()); err != nil {
		return Outcome{}, err
	}
	do, known := map[Verb]func(Order) (Outcome, error){
		Request: v.request, Cancel: v.cancel, Pause: v.pause, Resume: v.resume,
	}[verb]
	if !known {
		return Outcome{}, &Refusal{What: fmt.Sprintf("%.20q is no verb", verb)}
	}
	done, err := do(o)
	var refused *Refusal
	switch {
	case errors.As(err, &refused):
		return Outcome{}, err
	case err != nil:
		return Outcome{}, fmt.Errorf("%s: %w", verb, err)
	}
	if done.Changed {
		v.Log.Info(done.Text[0], "verb", verb, "why", o.Reason, "by", o.who())
	}
	return done, nil
}

// request makes the sentinel. One that is there keeps its time, and gets the new reason.
func (v Verbs) request(o Order) (Outcome, error) {
	if !slices.Contains(v.Watched(), v.Sentinel) {
		return Outcome{}, &Refusal{Conflict: true, What: fmt.Sprintf("%s is not among the paths of the key sentinel.paths in kured.toml: add it", v.Sentinel)}
	}
	_, err := os.Lstat(v.Sentinel)
	again := err == nil
	why := "requested by " + o.signature(v.Now())
	if o.Reason != "" {
		why = fmt.Sprintf("%s (%s)", o.Reason, why)
	}
	if err := v.sentinel().Report(source.Finding{Wanted: true, Reasons: []string{why}}, nil); err != nil {
		return Outcome{}, err
	}
	text := "a reboot of this node is requested"
	if again {
		text = "a reboot of this node was requested already; the reason is the new one"
	}
	return Outcome{Changed: true, Text: []string{text}}, nil
}

// cancel removes the sentinel that request made, and says what else asks.
func (v Verbs) cancel(Order) (Outcome, error) {
	_, err := os.Lstat(v.Sentinel)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Outcome{}, err
	}
	out := Outcome{Changed: err == nil, Text: []string{"the request is withdrawn"}}
	if !out.Changed {
		out.Text[0] = "no reboot of this node was requested here"
	}
	if err := v.sentinel().Report(source.Finding{}, nil); err != nil {
		return Outcome{}, err
	}
	for _, path := range v.Watched() {
		if path == v.Sentinel {
			continue
		}
		switch s := sentinel.Read([]string{path}); {
		case s.Wanted && len(s.Reasons) > 0:
			out.Text = append(out.Text, fmt.Sprintf("a reboot is still wanted by %s: %s", path, status.Few(s.Reasons, 5)))
		case s.Wanted:
			out.Text = append(out.Text, "a reboot is still wanted by "+path)
		case s.Err != nil:
			out.Text = append(out.Text, fmt.Sprintf("whether %s wants a reboot is not known", path))
		}
	}
	return out, nil
}

func (v Verbs) sentinel() source.Sentinel {
	return source.Sentinel{Directory: filepath.Dir(v.Sentinel), Name: filepath.Base(v.Sentinel)}
}

// pause writes the file, also where there is one.
func (v Verbs) pause(o Order) (Outcome, error) {
	note := gate.Note{Reason: fmt.Sprintf("%s; by %s", o.Reason, o.signature(v.Now()))}
	text := "this node is paused, until somebody resumes it"
	if o.Until != nil {
		note.Until = o.Until.UTC().Truncate(time.Second)
		text = "this node is paused until " + note.Until.Format(time.RFC3339)
	}
	if err := statefile.Replace(v.Pause, []byte(note.String()+"\n"), 0o644); err != nil {
		return Outcome{}, err
	}
	return Outcome{Changed: true, Text: []string{text}}, nil
}

// resume removes the file.
func (v Verbs) resume(Order) (Outcome, error) {
	err := os.Remove(v.Pause)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Outcome{Text: []string{"this node was not paused here"}}, nil
	case err != nil:
		return Outcome{}, err
	}
	return Outcome{Changed: true, Text: []string{"this node is not paused any more"}}, nil
}

// Check says what is wrong with an order, as a *Refusal.
func (o Order) Check(verb Verb, now time.Time) error {
	refuse := func(format string, args ...any) error { return &Refusal{What: fmt.Sprintf(format, args...)} }
	switch {
	case len(o.Reason) > MaxReason:
		return refuse("the reason has %d bytes, at most %d are kept", len(o.Reason), MaxReason)
	case !oneLine(o.Reason):
		return refuse("the reason is not one line of printable text")
	case utf8.RuneCountInString(o.By) > MaxBy || !oneLine(o.By):
		return refuse("who says it is not one line of at most %d characters of printable text", MaxBy)
	case o.Reason != "" && strings.TrimSpace(o.Reason) != o.Reason:
		return refuse("the reason has space around it")
	case verb == Pause && o.Reason == "":
		return refuse("the reason is empty: say why, for those who ask later")
	case verb == Pause && strings.HasPrefix(o.Reason, "until="):
		return refuse("the reason begins with until=, which is how the end of a pause is written down")
	case (verb == Cancel || verb == Resume) && o.Reason != "":
		return refuse("%s takes no reason", verb)
	case verb != Pause && o.Until != nil:
		return refuse("%s takes no time", verb)
	case o.Until != nil && !o.Until.Truncate(time.Second).After(now):
		return refuse("a pause until %s is over already", o.Until.UTC().Format(time.RFC3339))
	case o.Until != nil && o.Until.UTC().Year() > 9999:
		return refuse("a pause does not end after the year 9999")
	}
	return nil
}

func oneLine(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// who says it: "alice, uid 0".
func (o Order) who() string {
	if o.By == "" {
		return fmt.Sprintf("uid %d", o.uid)
	}
	return fmt.Sprintf("%s, uid %d", o.By, o.uid)
}

// signature is who says it, and when.
func (o Order) signature(now time.Time) string {
	return o.who() + ", " + now.UTC().Format(time.RFC3339)
}
