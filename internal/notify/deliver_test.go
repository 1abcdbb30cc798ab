package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/kured-host/kured/internal/status"
)

// fakes are the services of a test, by host.
type fakes map[string]func(message string) error

type fake func(message string) error

func (f fake) Send(message string, _ *types.Params) error { return f(message) }

// with makes a Notifier whose targets are the given functions.
func with(t *testing.T, services fakes, log *slog.Logger) *Notifier {
	t.Helper()
	var targets []Target
	for name := range services {
		targets = append(targets, Target{URL: "gotify://" + name + ".example.com/Aaa5ecret9.cccc"})
	}
	n, err := New(targets, log)
	if err != nil {
		t.Fatal(err)
	}
	n.open = func(address string) (sender, error) {
		name, _, _ := strings.Cut(strings.TrimPrefix(address, "gotify://"), ".")
		return fake(services[name]), nil
	}
	return n
}

// inbox takes messages.
type inbox struct {
	mu  sync.Mutex
	all []string
}

func (i *inbox) take(message string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.all = append(i.all, message)
	return nil
}

func (i *inbox) messages() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.all)
}

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (l *lines) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func held(node string) status.Occurrence {
	return status.Occurrence{Event: status.EventHeld, Node: node}
}

var errDown = errors.New("service is down: https://down.example.com/Aaa5ecret9.cccc")

func TestOneDeadTargetDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var good inbox
		var log lines
		hang := make(chan struct{})
		n := with(t, fakes{
			"good": good.take,
			"down": func(string) error { return errDown },
			"hung": func(string) error { <-hang; return errDown },
			"mad":  func(string) error { panic("Aaa5ecret9.cccc") },
		}, log.log())
		begin := time.Now()
		for _, node := range []string{"a", "b", "c"} {
			n.Tell(held(node))
		}
		if time.Since(begin) != 0 {
			t.Error("Tell takes time")
		}
		synctest.Wait()
		if got, want := fmt.Sprint(good.messages()), "[a: stopped, a person is needed b: stopped, a person is needed c: stopped, a person is needed]"; got != want || time.Since(begin) != 0 {
			t.Errorf("after %s: got  %s\nwant %s", time.Since(begin), got, want)
		}
		if err := n.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		// Everything was given up in bounded time, and nothing runs any more but the sends that hang.
		if took := time.Since(begin); took > 45*time.Minute {
			t.Errorf("given up after %s", took)
		}
		synctest.Wait()
		n.mu.Lock()
		for _, target := range n.targets {
			if target.busy || target.underWay > defaultPace.hanging || len(target.queue) > 0 {
				t.Errorf("%s: busy %v, %d under way, %d queued", target.name, target.busy, target.underWay, len(target.queue))
			}
		}
		n.mu.Unlock()
		close(hang)
		n.Stop()
		text := log.String()
		for _, want := range []string{"given up", "no answer in time (30s)", "too many earlier sends have no answer yet (3)", "panic in shoutrrr: …", "service is down: https://…", "target=\"1 (gotify)\""} {
			if !strings.Contains(text, want) {
				t.Errorf("the log has no %q", want)
			}
		}
		if strings.Contains(text, "5ecret") {
			t.Errorf("a secret in the log:\n%s", text)
		}
	})
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Time
		n := with(t, fakes{"down": func(string) error { tries = append(tries, time.Now()); return errDown }}, nil)
		n.Tell(held("a"))
		if err := n.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if len(tries) < 8 || len(tries) > defaultPace.tries {
			t.Errorf("%d tries", len(tries))
		}
		want := defaultPace.first
		for i := 1; i < len(tries); i++ {
			// Flush hurries the first one, and the last one ends with the patience.
			if pause := tries[i].Sub(tries[i-1]); i > 1 && i < len(tries)-1 && (pause < want*3/4 || pause > want*5/4) {
				t.Errorf("pause %d is %s, want about %s", i, pause, want)
			}
			want = min(2*want, defaultPace.longest)
		}
		if took := tries[len(tries)-1].Sub(tries[0]); took > defaultPace.patience {
			t.Errorf("tried for %s", took)
		}
		// The next message starts anew, and says what came before.
		var box inbox
		n.open = func(string) (sender, error) { return fake(box.take), nil }
		n.Tell(held("b"))
		n.Tell(held("c"))
		if err := n.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if got, want := fmt.Sprint(box.messages()), "[b: stopped, a person is needed (an earlier message did not arrive) c: stopped, a person is needed]"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestMessageThatIsRefusedForEverGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var box inbox
		begin := time.Now()
		n := with(t, fakes{"picky": func(message string) error {
			if strings.HasPrefix(message, "bad") {
				return errDown
			}
			return box.take(message)
		}}, nil)
		n.Tell(held("bad"))
		time.Sleep(defaultPace.patience / 2) // it is in a long pause now
		begin = begin.Add(defaultPace.patience / 2)
		n.Tell(held("good"))
		n.Tell(held("better"))
		if err := n.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if got, want := fmt.Sprint(box.messages()), "[good: stopped, a person is needed (an earlier message did not arrive) better: stopped, a person is needed]"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if took := time.Since(begin); took > defaultPace.crowded {
			t.Errorf("it waited for %s", took)
		}
	})
}

// A send that took too long, and then succeeds, is not done twice.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var box inbox
		var log lines
		n := with(t, fakes{"slow": func(message string) error {
			time.Sleep(defaultPace.limit + time.Second)
			return box.take(message)
		}}, log.log())
		n.Tell(held("a"))
		synctest.Wait()
		time.Sleep(defaultPace.limit + 2*time.Second)
		if err := n.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if got := box.messages(); len(got) != 1 {
			t.Errorf("got %q", got)
		}
		if !strings.Contains(log.String(), "the answer came late") {
			t.Errorf("the log:\n%s", log.String())
		}
	})
}

func TestFloodDropsTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var box inbox
		var log lines
		gate := make(chan struct{})
		n := with(t, fakes{"slow": func(message string) error { <-gate; return box.take(message) }}, log.log())
		const flood = 5 * queueLength
		for i := range flood {
			n.Tell(held(fmt.Sprint(i)))
			if i == 0 {
				synctest.Wait() // the first is under way
			}
		}
		if n.pending != queueLength+1 {
			t.Errorf("%d are pending", n.pending)
		}
		close(gate)
		if err := n.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		got := box.messages()
		if len(got) != queueLength+1 {
			t.Fatalf("%d arrived", len(got))
		}
		for i, want := range map[int]string{
			0:           "0: stopped, a person is needed",
			1:           fmt.Sprintf("%d: stopped, a person is needed (%d earlier messages did not arrive)", flood-queueLength, flood-queueLength-1),
			2:           fmt.Sprintf("%d: stopped, a person is needed", flood-queueLength+1),
			queueLength: fmt.Sprintf("%d: stopped, a person is needed", flood-1),
		} {
			if got[i] != want {
				t.Errorf("message %d:\ngot  %s\nwant %s", i, got[i], want)
			}
		}
		if want := fmt.Sprintf("the oldest were dropped\" target=\"1 (gotify)\" count=%d", flood-queueLength-1); !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %s:\n%s", want, log.String())
		}
	})
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var box inbox
		hang := make(chan struct{})
		var up atomic.Bool
		n := with(t, fakes{
			"good": box.take,
			"hung": func(string) error { <-hang; return nil },
			"down": func(message string) error {
				if !up.Load() {
					return errDown
				}
				return box.take(message)
			},
		}, nil)
		if err := n.Flush(t.Context()); err != nil {
			t.Errorf("with nothing queued: %v", err)
		}
		begin := time.Now()
		n.Tell(held("a"))
		time.Sleep(1900 * time.Millisecond) // the second try may come from 1.5 s on, the third not before 4.5 s
		synctest.Wait()
		time.Sleep(time.Second)
		up.Store(true)
		flushed := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := n.Flush(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || err.Error() != "send notifications: 1 not sent yet: context deadline exceeded" || time.Since(flushed) != 5*time.Second {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		if got := len(box.messages()); got != 2 {
			t.Errorf("%d messages arrived: a target that was pausing is not tried at once", got)
		}
		close(hang)
		if err := n.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		n := with(t, fakes{
			"hung": func(string) error { <-hang; return nil },
			"down": func(string) error { return errDown },
		}, nil)
		n.Tell(held("a"))
		n.Tell(held("b"))
		synctest.Wait()
		flushed := make(chan error, 1)
		go func() { flushed <- n.Flush(t.Context()) }()
		synctest.Wait()
		begin := time.Now()
		n.Stop()
		n.Stop()
		if time.Since(begin) != 0 {
			t.Error("Stop waits for an answer")
		}
		if err := <-flushed; !errors.Is(err, errStopped) {
			t.Errorf("flush: %v", err)
		}
		n.Tell(held("c"))
		synctest.Wait()
		for _, target := range n.targets {
			if target.busy {
				t.Errorf("%s is busy", target.name)
			}
		}
		close(hang)
	})
}

func TestEventsAreChosen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var box inbox
		n, err := New([]Target{
			{URL: "logger://", Events: []status.Event{status.EventBack}},
			{URL: "logger://", Templates: map[status.Event]string{status.EventBack: "", status.EventHeld: "help {{.Node}}"}},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		n.open = func(string) (sender, error) { return fake(box.take), nil }
		for _, event := range []status.Event{status.EventDrain, status.EventBack, status.EventHeld} {
			n.Tell(status.Occurrence{Event: event, Node: "a"})
		}
		if err := n.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		got := box.messages()
		slices.Sort(got)
		if want := []string{"a: cordoned, its pods are being moved, then it reboots", "a: rebooted, and well again", "help a"}; !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}
