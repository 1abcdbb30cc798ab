package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kured-host/kured/internal/statefile"
	"github.com/kured-host/kured/internal/status"
)

// untilWord begins the first word of a pause that ends by itself.
const untilWord = "until="

// Note is what a person who pauses a node says.
type Note struct {
	Until  time.Time // when the pause ends by itself; zero: never
	Reason string    // one printable line of at most 200 characters; may be empty
}

// ParseNote reads the text of a pause: an optional first word until=TIME, with
// a time as in RFC 3339, and then the reason. An empty text is a pause, too. With
// an error, which quotes the time, the text is a pause of which nobody knows the end.
func ParseNote(text string) (Note, error) {
	// Nobody sees what is around the text, such as a byte order mark.
	text = strings.TrimFunc(text, func(r rune) bool { return r == utf8.RuneError || r == ' ' || !unicode.IsPrint(r) })
	rest, ok := strings.CutPrefix(text, untilWord)
	if !ok {
		return Note{Reason: status.Clean(text, longest)}, nil
	}
	word, reason := rest, ""
	if i := strings.IndexAny(rest, " \t\r\n"); i >= 0 {
		word, reason = rest[:i], rest[i:]
	}
	until, err := time.Parse(time.RFC3339, word)
	if err != nil {
		return Note{Reason: status.Clean(reason, longest)}, fmt.Errorf("%q does not give a time such as %s2026-12-20T22:00:00Z", untilWord+status.Clean(word, longest), untilWord)
	}
	return Note{Until: until, Reason: status.Clean(reason, longest)}, nil
}

// String is the text that ParseNote reads.
func (n Note) String() string {
	if n.Until.IsZero() {
		return n.Reason
	}
	return strings.TrimSpace(untilWord + n.Until.Format(time.RFC3339Nano) + " " + n.Reason)
}

// paused is the verdict on the text of a pause; where says whose it is.
func paused(text, where string, now time.Time) Verdict {
	note, err := ParseNote(text)
	switch {
	case err != nil:
		return Verdict{Reason: status.PauseUnreadable, Detail: fmt.Sprintf("%s: paused, but nobody knows until when: %v", where, err)}
	case note.Until.IsZero():
		return Verdict{Reason: status.Paused, Detail: where + ": paused" + because(note.Reason)}
	case now.Before(note.Until):
		return Verdict{
			Reason: status.Paused,
			Detail: fmt.Sprintf("%s: paused until %s%s", where, note.Until.UTC().Format(time.RFC3339), because(note.Reason)),
			Next:   note.Until,
		}
	}
	return Verdict{Open: true}
}

// Pause is open while no file pauses this node. The text of the file is that
// of ParseNote.
type Pause struct {
	Path string // absolute; neither it nor its directory has to exist
	Now  func() time.Time
}

// Name implements Gate.
func (Pause) Name() status.Gate { return status.GatePause }

// Check reads the file.
func (g Pause) Check(context.Context, Moment) Verdict {
	text, err := statefile.Read(g.Path, 8*longest)
	if errors.Is(err, fs.ErrNotExist) {
		if link, unseen := os.Lstat(g.Path); unseen == nil && link.Mode()&fs.ModeSymlink != 0 {
			err = fmt.Errorf("%s: dangling symbolic link", g.Path) // to what is perhaps not mounted
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Verdict{Open: true}
	case err != nil:
		return Verdict{Reason: status.PauseUnreadable, Detail: "whether this node is paused cannot be read: " + err.Error(), Unsure: true}
	}
	return paused(string(text), g.Path, g.Now())
}

// Watch signals when the file changes, comes or goes, and when its pause ends.
func (g Pause) Watch(ctx context.Context) (<-chan struct{}, error) {
	changes, err := watchFile(ctx, g.Path)
	if err != nil {
		return nil, err
	}
	events := make(chan struct{}, 1)
	go func() {
		defer close(events)
		for {
			// Anew after each change: the file may name another time.
			waiting, cancel := context.WithCancel(ctx)
			over := alarm(waiting, g.Now, func(time.Time) time.Time { return g.Check(ctx, Before).Next })
			var ok bool
			select {
			case _, ok = <-changes:
			case _, ok = <-over:
			}
			cancel()
			if !ok {
				return
			}
			select {
			case events <- struct{}{}:
			default:
			}
		}
	}()
	return events, nil
}
