package logind

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/kured-host/kured/internal/testenv/fakelogin1"
)

const (
	soon = 150 * time.Millisecond // when the test is about nothing happening
	long = time.Minute            // when something has to happen first

	uncounted = -1 // reboots of a logind that does not wait for its caller
)

// class names the outcome of Reboot, and insists that it is only one.
func class(t *testing.T, err error) string {
	t.Helper()
	var no *RefusedError
	var classes []string
	if err == nil {
		classes = append(classes, "confirmed")
	}
	if errors.As(err, &no) {
		classes = append(classes, "refused")
	}
	if errors.Is(err, ErrUnconfirmed) {
		classes = append(classes, "unconfirmed")
	}
	if errors.Is(err, ErrUnknown) {
		classes = append(classes, "unknown")
	}
	if len(classes) != 1 {
		t.Errorf("error %v is of the classes %v, want exactly one", err, classes)
		return "other"
	}
	return classes[0]
}

func TestReboot(t *testing.T) {
	type fake = fakelogin1.Login1
	type answer = fakelogin1.Answer
	refusal := func(name, message string) func(*testing.T, *fake) {
		return func(_ *testing.T, f *fake) {
			f.AnswerReboot(answer{Do: fakelogin1.Refuse, Error: name, Message: message})
		}
	}
	answers := func(a answer) func(*testing.T, *fake) {
		return func(_ *testing.T, f *fake) { f.AnswerReboot(a) }
	}
	for _, test := range []struct {
		name    string
		setUp   func(*testing.T, *fake)
		within  time.Duration
		want    string
		text    string // in the error
		reboots int
	}{
		{name: "accepted", within: long, want: "confirmed", reboots: 1},
		{
			name: "accepted, held back by a delay inhibitor", within: long, want: "confirmed",
			setUp: func(_ *testing.T, f *fake) { f.Inhibit("kubelet", "shutdown", "delay", "graceful node shutdown") },
		},
		{
			name: "block inhibitor, systemd before 257", within: long, want: "confirmed", reboots: 1,
			setUp: func(_ *testing.T, f *fake) { f.Inhibit("apt", "shutdown", "block", "upgrading") },
		},
		{
			name: "block inhibitor, systemd 257", within: long, want: "refused", text: "systemd-inhibit --list",
			setUp: func(_ *testing.T, f *fake) {
				f.RefuseWhenBlocked(true)
				f.Inhibit("apt", "sleep:shutdown", "block", "upgrading")
			},
		},
		{
			name: "block inhibitor, systemd 258", within: long, want: "refused", text: "systemd-inhibit --list",
			setUp: refusal("org.freedesktop.login1.BlockedByInhibitorLock", "Operation denied due to active block inhibitor"),
		},
		{
			name: "access denied", within: long, want: "refused", text: "run kured as root",
			setUp: refusal("org.freedesktop.DBus.Error.AccessDenied", "Permission denied"),
		},
		{
			name: "what reboots is masked", within: long, want: "refused", text: "see systemctl status reboot.target",
			setUp: refusal("org.freedesktop.systemd1.UnitMasked", "Unit systemd-reboot.service is masked."),
		},
		{
			name: "logind is masked", within: long, want: "refused", text: "systemd-logind does not run",
			setUp: refusal("org.freedesktop.systemd1.UnitMasked", "Unit dbus-org.freedesktop.login1.service is masked."),
		},
		{
			name: "interactive authorization required", within: long, want: "refused", text: "polkit wants a person",
			setUp: refusal("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "Interactive authentication required."),
		},
		{
			name: "not supported", within: long, want: "refused", text: "cannot reboot through logind",
			setUp: refusal("org.freedesktop.DBus.Error.NotSupported", "no"),
		},
		{
			name: "an error that nobody has heard of", within: long, want: "refused", text: "(org.example.Strange)",
			setUp: refusal("org.example.Strange", "strange\x1b[2J"),
		},
		{
			name: "announced, taken back, error", within: long, want: "refused", text: "no such unit",
			setUp: answers(answer{Do: fakelogin1.FailLate, Error: "org.freedesktop.systemd1.NoSuchUnit", Message: "no such unit"}),
		},
		{
			name: "announced, taken back, error never arrives", within: soon, want: "unconfirmed",
			setUp: answers(answer{Do: fakelogin1.FailLate, Error: "org.example.X", Loss: fakelogin1.NeverAnswered}),
		},
		{
			name: "a reboot is under way already", within: long, want: "confirmed", reboots: 1,
			setUp: func(t *testing.T, f *fake) {
				if err := (Manager{Address: f.Address()}).Reboot(t.Context(), long); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "something else is under way, such as a suspend", within: soon, want: "unconfirmed",
			setUp: refusal("org.freedesktop.login1.OperationInProgress", "There's already a shutdown or sleep operation in progress"),
		},
		{
			name: "systemd is shutting down without logind", within: soon, want: "unknown", text: "shutting down already",
			setUp: refusal("org.freedesktop.systemd1.TransactionIsDestructive", "Transaction is destructive."),
		},
		{
			name: "accepted, and nothing follows", within: soon, want: "unconfirmed", text: "in vain",
			setUp: answers(answer{Do: fakelogin1.AcceptSilently}),
		},
		{
			name: "accepted, never answered", within: long, want: "confirmed", reboots: 1,
			setUp: answers(answer{Loss: fakelogin1.NeverAnswered}),
		},
		{
			name: "never answered, nothing follows", within: soon, want: "unconfirmed",
			setUp: answers(answer{Do: fakelogin1.AcceptSilently, Loss: fakelogin1.NeverAnswered}),
		},
		{
			name: "accepted, connection cut", within: long, want: "confirmed", reboots: 1,
			setUp: answers(answer{Loss: fakelogin1.ClientsCut}),
		},
		{
			name: "connection cut, nothing follows", within: soon, want: "unconfirmed",
			setUp: answers(answer{Do: fakelogin1.AcceptSilently, Loss: fakelogin1.ClientsCut}),
		},
		{
			name: "refused, but the connection is cut", within: soon, want: "unconfirmed",
			setUp: answers(answer{Do: fakelogin1.Refuse, Error: "org.example.X", Loss: fakelogin1.ClientsCut}),
		},
		{
			name: "logind vanishes without announcing", within: long, want: "unknown",
			setUp: answers(answer{Do: fakelogin1.AcceptSilently, Loss: fakelogin1.LoginGone}),
		},
		{
			name: "dbus-daemon killed in the call", within: long, want: "unknown",
			setUp: answers(answer{Do: fakelogin1.AcceptSilently, Loss: fakelogin1.BusGone}),
		},
		{
			name: "logind replaced in the call", within: long, want: "unknown",
			setUp: func(_ *testing.T, f *fake) {
				f.OnCall(func() {
					f.Bus().CutClients()
					f.Leave()
					_ = f.Arrive() // Fails when the test is over sooner.
				})
			},
			reboots: uncounted,
		},
		{
			name: "accepted, then logind leaves", within: long, want: "unknown", text: "logind left the bus",
			setUp: func(_ *testing.T, f *fake) {
				f.AnswerReboot(answer{Do: fakelogin1.AcceptSilently})
				f.OnCall(func() { time.AfterFunc(soon, f.Leave) })
			},
		},
		{
			name: "accepted, but the property is nonsense", within: soon, want: "unknown", text: "type string",
			setUp: func(_ *testing.T, f *fake) {
				f.AnswerReboot(answer{Do: fakelogin1.AcceptSilently})
				f.OnCall(func() { f.SetRawProperty("PreparingForShutdown", "true") })
			},
		},
		{
			name: "accepted, then logind hangs", within: soon, want: "unknown",
			setUp: func(_ *testing.T, f *fake) {
				f.AnswerReboot(answer{Do: fakelogin1.AcceptSilently})
				f.OnCall(func() { f.AnswerQueries(answer{Loss: fakelogin1.NeverAnswered}) })
			},
		},
		{
			name: "the connection breaks again and again", within: long, want: "unknown", text: "broke twice",
			setUp: func(_ *testing.T, f *fake) {
				f.AnswerReboot(answer{Do: fakelogin1.AcceptSilently, Loss: fakelogin1.ClientsCut})
				f.OnCall(func() { f.AnswerQueries(answer{Loss: fakelogin1.ClientsCut}) })
			},
		},
		{
			name: "no logind", within: long, want: "refused", text: "systemctl status systemd-logind.service",
			setUp: func(_ *testing.T, f *fake) { f.Leave() },
		},
		{
			name: "no bus", within: long, want: "refused", text: "systemctl status dbus.socket",
			setUp: func(_ *testing.T, f *fake) { f.Bus().Kill() },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := fakelogin1.Start(t)
			if test.setUp != nil {
				test.setUp(t, f)
			}
			ctx, cancel := context.WithTimeout(t.Context(), long/2)
			defer cancel()
			err := Manager{Address: f.Address()}.Reboot(ctx, test.within)
			if ctx.Err() != nil {
				t.Errorf("found out nothing before the context ended")
			}
			if got := class(t, err); got != test.want {
				t.Errorf("%s, want %s; error: %v", got, test.want, err)
			}
			if err != nil && (!strings.Contains(err.Error(), test.text) || strings.ContainsRune(err.Error(), '\x1b')) {
				t.Errorf("error %q, want one with %q", err, test.text)
			}
			if test.reboots != uncounted && f.Reboots() != test.reboots {
				t.Errorf("%d reboots, want %d", f.Reboots(), test.reboots)
			}
		})
	}
}

func TestReopenTellsLogindsApart(t *testing.T) {
	f := fakelogin1.Start(t)
	m := Manager{Address: f.Address()}
	before, err := m.open(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	same, err := m.reopen(t.Context(), before)
	if err != nil {
		t.Errorf("the same logind: %v", err)
	}
	same.reopened = false
	f.Leave()
	gone, err := m.reopen(t.Context(), same)
	if class(t, err) != "unknown" {
		t.Errorf("no logind: %v", err)
	}
	if err := f.Arrive(); err != nil {
		t.Fatal(err)
	}
	other, err := m.reopen(t.Context(), gone)
	if class(t, err) != "unknown" {
		t.Errorf("another logind: %v", err)
	}
	other.close()
}

// Both signals are there already when the loss of the reply shows.
func TestTakenBackAndReplyLost(t *testing.T) {
	prepare := func(active bool) *dbus.Signal {
		return &dbus.Signal{Sender: ":1.7", Path: objectPath, Name: prepareSignal, Body: []any{active}}
	}
	for _, test := range []struct {
		signals []*dbus.Signal
		want    string
	}{
		{[]*dbus.Signal{prepare(true)}, "confirmed"},
		{[]*dbus.Signal{prepare(true), prepare(false)}, "unconfirmed"},
	} {
		w := wait{session: &session{owner: ":1.7", signals: make(chan *dbus.Signal, 2)}}
		for _, signal := range test.signals {
			w.session.signals <- signal
		}
		next, err := w.replied(t.Context(), &dbus.Call{Err: dbus.Error{Name: nameNoReply}})
		if next != decided || class(t, err) != test.want {
			t.Errorf("%d signals: step %d, error %v; want %s", len(test.signals), next, err, test.want)
		}
	}
}

func TestRebootContext(t *testing.T) {
	f := fakelogin1.Start(t)
	m := Manager{Address: f.Address()}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err := m.Reboot(ended, long)
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) || f.Calls() != 0 {
		t.Errorf("ended before: %v after %d calls, want that nothing was sent", err, f.Calls())
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.OnCall(cancel)
	f.AnswerReboot(fakelogin1.Answer{Do: fakelogin1.AcceptSilently, Loss: fakelogin1.NeverAnswered})
	if err := m.Reboot(ctx, long); !errors.Is(err, context.Canceled) || class(t, err) != "unknown" {
		t.Errorf("ended after the call was sent: %v, want unknown", err)
	}
}

// Any user can send a signal of any name on the system bus.
func TestRebootIgnoresForgedSignal(t *testing.T) {
	f := fakelogin1.Start(t)
	forger, err := dbus.Connect(f.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer forger.Close()
	f.AnswerReboot(fakelogin1.Answer{Do: fakelogin1.AcceptSilently})
	f.OnCall(func() {
		if err := forger.Emit(objectPath, prepareSignal, true); err != nil {
			t.Error(err)
		}
		var names []string
		if err := forger.BusObject().Call("org.freedesktop.DBus.ListNames", 0).Store(&names); err != nil {
			t.Error(err)
		}
		for _, name := range names { // To each one in person: that passes by the match rules.
			signal := &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldInterface:   dbus.MakeVariant(manager),
				dbus.FieldMember:      dbus.MakeVariant("PrepareForShutdown"),
				dbus.FieldPath:        dbus.MakeVariant(objectPath),
				dbus.FieldDestination: dbus.MakeVariant(name),
				dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(true)),
			}, Body: []any{true}}
			forger.Send(signal, nil)
		}
	})
	err = Manager{Address: f.Address()}.Reboot(t.Context(), soon)
	if got := class(t, err); got != "unconfirmed" {
		t.Errorf("%s, want unconfirmed: the signal was not logind's", got)
	}
}

func TestAwaitCancelled(t *testing.T) {
	type fake = fakelogin1.Login1
	for _, test := range []struct {
		name  string
		after func(*testing.T, *fake, context.CancelFunc) // when AwaitCancelled listens
		want  error
	}{
		{"cancelled", func(_ *testing.T, f *fake, _ context.CancelFunc) { f.Cancel() }, nil},
		{"context ends", func(_ *testing.T, _ *fake, cancel context.CancelFunc) { cancel() }, context.Canceled},
		{"logind leaves", func(_ *testing.T, f *fake, _ context.CancelFunc) { f.Leave() }, ErrUnknown},
		{"connection cut", func(_ *testing.T, f *fake, _ context.CancelFunc) { f.Bus().CutClients() }, ErrUnknown},
		{"bus killed", func(_ *testing.T, f *fake, _ context.CancelFunc) { f.Bus().Kill() }, ErrUnknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := fakelogin1.Start(t)
			m := Manager{Address: f.Address()}
			if err := m.Reboot(t.Context(), long); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan error, 1)
			go func() { result <- m.AwaitCancelled(ctx) }()
			// It must not end of its own accord; and whether it listens yet makes no difference.
			select {
			case err := <-result:
				t.Fatalf("ended before anything happened: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
			test.after(t, f, cancel)
			if err := <-result; !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	t.Run("cancelled by shutdown -c", func(t *testing.T) {
		f := fakelogin1.Start(t)
		f.SetVersion("257.13")
		f.Inhibit("kubelet", "shutdown", "delay", "pods first")
		m := Manager{Address: f.Address()}
		if err := m.Reboot(t.Context(), long); err != nil {
			t.Fatal(err)
		}
		before := f.Asked("PreparingForShutdown")
		result := make(chan error, 1)
		go func() { result <- m.AwaitCancelled(t.Context()) }()
		until(t, "to look", func() bool { return f.Asked("PreparingForShutdown") >= before+2 }) // open looks once
		f.Unschedule()
		select {
		case err := <-result:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Error("nothing heard")
		}
	})
	t.Run("called again after logind came back", func(t *testing.T) {
		f := fakelogin1.Start(t)
		m := Manager{Address: f.Address()}
		f.Leave()
		if err := m.AwaitCancelled(t.Context()); class(t, err) != "unknown" {
			t.Errorf("without logind: %v", err)
		}
		if err := f.Arrive(); err != nil {
			t.Fatal(err)
		}
		if err := m.AwaitCancelled(t.Context()); err != nil {
			t.Errorf("with a new logind: %v", err)
		}
	})
	t.Run("cancelled before it listened", func(t *testing.T) {
		f := fakelogin1.Start(t)
		if err := (Manager{Address: f.Address()}).AwaitCancelled(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("no bus", func(t *testing.T) {
		f := fakelogin1.Start(t)
		f.Bus().Kill()
		if err := (Manager{Address: f.Address()}).AwaitCancelled(t.Context()); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
	})
}
