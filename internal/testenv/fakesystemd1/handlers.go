package fakesystemd1

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/godbus/dbus/v5"
)

func (s *Systemd) export() error {
	if err := s.conn.AddMatchSignal(dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged")); err != nil {
		return err
	}
	changes := make(chan *dbus.Signal, 128)
	s.conn.Signal(changes)
	go s.followClients(changes)
	if err := s.conn.ExportMethodTable(map[string]any{
		"StartUnit": s.methodStart,
		"StopUnit":  s.methodStop,
		"RefUnit":   s.methodRef,
	}, objectPath, managerName); err != nil {
		return err
	}
	return s.conn.ExportSubtreeMethodTable(map[string]any{"GetAll": s.methodGetAll}, unitsPath, propsName)
}

// followClients forgets the references of clients that leave the bus.
func (s *Systemd) followClients(changes <-chan *dbus.Signal) {
	for signal := range changes {
		if len(signal.Body) != 3 {
			continue
		}
		client, _ := signal.Body[0].(string)
		if owner, _ := signal.Body[2].(string); owner != "" {
			continue
		}
		s.set(func() {
			for _, u := range s.units {
				delete(u.refs, client)
				u.forget()
			}
		})
	}
}

// forget is systemd's garbage collection (CollectMode=inactive).
func (u *unit) forget() {
	if u.active == "inactive" && u.job == 0 && len(u.refs) == 0 {
		u.invocation, u.ending = nil, Ending{Result: "success"}
	}
}

func (s *Systemd) methodRef(sender dbus.Sender, name string) *dbus.Error {
	s.set(func() {
		s.references++
		s.unit(name).refs[string(sender)] = struct{}{}
	})
	return nil
}

func (s *Systemd) methodStart(name, _ string) (dbus.ObjectPath, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault := s.fault
	s.fault = None
	if fault == CutBefore {
		s.bus.CutClients()
		return "/", dbus.NewError("org.freedesktop.DBus.Error.NoReply", nil)
	}
	if s.refusal != "" {
		return "/", dbus.NewError(s.refusal, []any{"refused by the test"})
	}
	u := s.unit(name)
	s.begin(u)
	if fault == CutAfter {
		s.bus.CutClients()
	}
	return jobPath(u.job), nil
}

func (s *Systemd) methodStop(name, _ string) (dbus.ObjectPath, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stops++
	u := s.unit(name)
	s.serial++
	job := s.serial
	if u.cancel == nil {
		go s.removed(job, name, "done")
		return jobPath(job), nil
	}
	u.active, u.stopJob = "deactivating", job
	u.cancel()
	return jobPath(job), nil
}

func (s *Systemd) methodGetAll(m dbus.Message, _ string) (map[string]dbus.Variant, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	path, _ := m.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	u := s.units[string(path)]
	if u == nil {
		return nil, dbus.NewError("org.freedesktop.DBus.Error.UnknownObject", []any{"nobody referred to it"})
	}
	job := struct {
		ID   uint32
		Path dbus.ObjectPath
	}{u.job, "/"}
	if u.job == 0 && u.stopJob != 0 {
		job.ID = u.stopJob
	}
	id := u.invocation
	if id == nil {
		id = []byte{}
	}
	properties := map[string]any{
		"LoadState": "loaded", "ActiveState": u.active, "InvocationID": id, "Job": job,
		"Result": u.ending.Result, "ExecMainCode": u.ending.Code, "ExecMainStatus": u.ending.Status, "StatusText": u.ending.Text,
	}
	answer := map[string]dbus.Variant{}
	for name, value := range properties {
		answer[name] = dbus.MakeVariant(value)
	}
	return answer, nil
}

// begin starts the service, unless it is starting already. It needs s.mu held.
func (s *Systemd) begin(u *unit) {
	if u.job != 0 || s.closed {
		return
	}
	s.serial++
	s.starts++
	ctx, cancel := context.WithCancel(context.Background())
	u.job, u.cancel, u.active = s.serial, cancel, "activating"
	u.invocation = binary.BigEndian.AppendUint32(make([]byte, 12), s.serial)
	u.ending = Ending{Result: "success"}
	service := s.service
	s.services.Go(func() {
		defer cancel()
		ending := service(ctx, u.name)
		s.end(u, ending, ctx.Err() != nil)
	})
}

func (s *Systemd) end(u *unit, ending Ending, stopped bool) {
	s.mu.Lock()
	job, stopJob, result := u.job, u.stopJob, "done"
	u.job, u.stopJob, u.cancel, u.active, u.ending = 0, 0, nil, "inactive", ending
	switch {
	case ending.Result == "":
		u.ending.Result = "success"
	case ending.Result != "success":
		u.active, result = "failed", "failed"
	}
	if stopped {
		result = "canceled"
	}
	u.forget()
	s.mu.Unlock()
	s.removed(job, u.name, result)
	if stopJob != 0 {
		s.removed(stopJob, u.name, "done")
	}
}

func (s *Systemd) removed(job uint32, unit, result string) {
	s.mu.Lock()
	silent := s.silent
	s.mu.Unlock()
	if !silent {
		_ = s.conn.Emit(objectPath, managerName+".JobRemoved", job, jobPath(job), unit, result)
	}
}

func jobPath(job uint32) dbus.ObjectPath {
	return dbus.ObjectPath(fmt.Sprintf("%s/job/%d", objectPath, job))
}
