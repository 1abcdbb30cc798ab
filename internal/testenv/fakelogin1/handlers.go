package fakelogin1

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Names of D-Bus errors that the fake gives of its own accord.
const (
	errorInvalidArgs         = "org.freedesktop.DBus.Error.InvalidArgs"
	errorAccessDenied        = "org.freedesktop.DBus.Error.AccessDenied"
	errorUnknownProperty     = "org.freedesktop.DBus.Error.UnknownProperty"
	errorOperationInProgress = "org.freedesktop.login1.OperationInProgress"
)

func (l *Login1) export(conn *dbus.Conn) error {
	if err := conn.ExportMethodTable(map[string]any{
		"CanReboot":      l.methodCanReboot,
		"ListInhibitors": l.methodListInhibitors,
		"Reboot":         l.methodReboot,

		"RebootWithFlags":         l.methodRebootWithFlags,
		"ScheduleShutdown":        l.methodScheduleShutdown,
		"CancelScheduledShutdown": l.methodCancelScheduledShutdown,
		"SetWallMessage":          l.methodSetWallMessage,
	}, objectPath, managerName); err != nil {
		return err
	}
	return conn.ExportMethodTable(map[string]any{"Get": l.methodGet}, objectPath, propsName)
}

// AnswerRaw makes the methods of the manager answer with these values, whatever their types, until logind arrives
// anew. No other method is there then.
func (l *Login1) AnswerRaw(method string, values ...any) error {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	// A function with just these results, as godbus derives the signature of the reply from the function's type.
	var in, out []reflect.Type
	var results []reflect.Value
	if method == "Reboot" {
		in = append(in, reflect.TypeFor[bool]())
	}
	for _, value := range values {
		out = append(out, reflect.TypeOf(value))
		results = append(results, reflect.ValueOf(value))
	}
	out = append(out, reflect.TypeFor[*dbus.Error]())
	results = append(results, reflect.Zero(reflect.TypeFor[*dbus.Error]()))
	f := reflect.MakeFunc(reflect.FuncOf(in, out, false), func([]reflect.Value) []reflect.Value { return results })
	return conn.ExportMethodTable(map[string]any{method: f.Interface()}, objectPath, managerName)
}

func (l *Login1) methodCanReboot() (string, *dbus.Error) {
	err := l.query()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.canReboot, err
}

func (l *Login1) methodListInhibitors() ([]inhibitor, *dbus.Error) {
	err := l.query()
	l.mu.Lock()
	defer l.mu.Unlock()
	list := []inhibitor{}
	for _, id := range slices.Sorted(maps.Keys(l.inhibitors)) {
		list = append(list, l.inhibitors[id])
	}
	return list, err
}

func (l *Login1) methodGet(iface, name string) (dbus.Variant, *dbus.Error) {
	if err := l.query(); err != nil {
		return dbus.MakeVariant(""), err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[name]++
	if value, there := l.raw[name]; there {
		return dbus.MakeVariant(value), nil
	}
	switch {
	case iface != managerName:
	case name == "PreparingForShutdown":
		return dbus.MakeVariant(l.preparing), nil
	case name == "BlockInhibited" || name == "DelayInhibited":
		return dbus.MakeVariant(l.inhibited(name)), nil
	case name == "ScheduledShutdown":
		return dbus.MakeVariant(l.plan.schedule), nil
	case name == "WallMessage":
		return dbus.MakeVariant(l.wallMessage), nil
	case name == "EnableWallMessages":
		return dbus.MakeVariant(l.wallEnabled), nil
	}
	return dbus.MakeVariant(""), dbus.NewError(errorUnknownProperty, []any{"unknown property " + iface + "." + name})
}

// query applies what AnswerQueries was told.
func (l *Login1) query() *dbus.Error {
	l.mu.Lock()
	answer := l.queries
	l.mu.Unlock()
	var err *dbus.Error
	if answer.Do == Refuse {
		err = dbus.NewError(answer.Error, []any{answer.Message})
	}
	if answer.Loss == ClientsCut {
		l.bus.CutClients()
	}
	l.lose(answer.Loss)
	return err
}

func (l *Login1) methodReboot(bool) *dbus.Error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.callbacks.Add(1)
	defer l.callbacks.Done()
	l.calls++
	answer, onCall := l.answer, l.onCall
	l.mu.Unlock()
	if onCall != nil {
		onCall()
	}
	if answer.Loss == ClientsCut {
		l.bus.CutClients()
	}
	err := l.act(answer)
	l.lose(answer.Loss)
	return err
}

func (l *Login1) act(answer Answer) *dbus.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if answer.Do == Refuse {
		return dbus.NewError(answer.Error, []any{answer.Message})
	}
	if l.blocked() {
		return dbus.NewError(errorAccessDenied, []any{"Access denied due to active block inhibitor"})
	}
	if l.preparing {
		return dbus.NewError(errorOperationInProgress, []any{"There's already a shutdown or sleep operation in progress"})
	}
	if l.version >= toldSince && (answer.Do == Accept || answer.Do == FailLate) {
		l.resetSchedule()
		l.plan.schedule = schedule{Type: "reboot"}
		l.wall(l.wallMessage + "\nThe system will reboot now!")
	}
	switch answer.Do {
	case FailLate:
		l.announce(true)
		l.announce(false)
		return dbus.NewError(answer.Error, []any{answer.Message})
	case Accept:
		l.begin()
	}
	return nil
}

func (l *Login1) lose(loss Loss) {
	switch loss {
	case NeverAnswered:
		l.mu.Lock()
		gone := l.gone
		l.mu.Unlock()
		<-gone
	case LoginGone:
		l.Leave()
	case BusGone:
		l.bus.Kill()
	}
}

// The functions below need l.mu held.

// begin goes down, as far as delay inhibitors let it.
func (l *Login1) begin() {
	l.preparing = true
	l.announce(true)
	if !l.delayed() {
		l.execute()
	} else if l.delayMax > 0 {
		l.expireLater()
	}
}

// blocked tells whether an inhibitor keeps root from shutting down or scheduling that.
func (l *Login1) blocked() bool {
	return l.refuseBlocked && slices.ContainsFunc(slices.Collect(maps.Values(l.inhibitors)), inhibitor.blocks)
}

func (l *Login1) delayed() bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(l.inhibitors)), inhibitor.delays)
}

// expireLater reboots in spite of delay inhibitors when their time is over.
func (l *Login1) expireLater() {
	if l.closed {
		return
	}
	gone, limit := l.gone, l.delayMax
	l.callbacks.Go(func() {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		select {
		case <-gone:
		case <-timer.C:
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.preparing {
				l.execute()
			}
		}
	})
}

func (l *Login1) execute() {
	if l.executed {
		return
	}
	l.executed = true
	l.reboots++
	if f := l.onReboot; f != nil && !l.closed {
		l.callbacks.Go(f)
	}
}

// announce sends PrepareForShutdown. Its error means that nobody is there to hear it.
func (l *Login1) announce(active bool) {
	if l.conn != nil {
		_ = l.conn.Emit(objectPath, managerName+".PrepareForShutdown", active)
	}
}

func (l *Login1) tellInhibited(mode string) {
	name := "DelayInhibited"
	if strings.HasPrefix(mode, "block") {
		name = "BlockInhibited"
	}
	if l.conn != nil {
		_ = l.conn.Emit(objectPath, propsName+".PropertiesChanged", managerName,
			map[string]dbus.Variant{name: dbus.MakeVariant(l.inhibited(name))}, []string{})
	}
}

// inhibited is the value of the property: all that is inhibited in this way, separated by colons.
func (l *Login1) inhibited(property string) string {
	what := map[string]struct{}{}
	for _, held := range l.inhibitors {
		if (property == "DelayInhibited") == (held.Mode == "delay") {
			for part := range strings.SplitSeq(held.What, ":") {
				what[part] = struct{}{}
			}
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(what)), ":")
}
