// Package control is the daemon's unix socket, /run/kured/kured.sock: HTTP/1.1
// and JSON. The CLI is a thin client of it, and so may be any program:
//
//	curl --unix-socket /run/kured/kured.sock http://kured/v1/status
//
// Whoever may open the socket may ask: root, and the group kured. Only root (uid
// 0, by SO_PEERCRED of unix(7)) may tell the daemon to do something.
//
//	GET  /v1/status             the status (package status) as it is
//	GET  /v1/status?watch=true  the same, and again after each change: a stream of
//	                            JSON texts, each on a line of its own. A reader who
//	                            is slow misses what is outdated, never the newest.
//	GET  /v1/gates              {"gates":[…]}: every gate is asked now, also those
//	                            behind a closed one. This may make requests to
//	                            others and takes up to a minute.
//	POST /v1/request            a reboot is wanted from now on: makes the sentinel
//	                            /run/kured-sentinel/request
//	POST /v1/cancel             withdraws that, and nothing that others want
//	POST /v1/pause              this node does not reboot until /v1/resume, or until
//	                            the time that is given: writes /var/lib/kured/pause
//	POST /v1/resume             ends that
//
// The body of a POST is an [Order] in JSON, of at most 4 KiB: {"reason":"…"} for
// request and pause, {"until":"2026-12-01T08:00:00Z"} too for pause, and {} or
// nothing for the others. The answer is an [Outcome].
//
// An answer that is not 200 is {"error":"…"}: 400 for what cannot be understood,
// 403 for who may not, 404 and 405 for what does not exist, 409 for what the
// configuration makes impossible, 413 for too much, 500 for what failed, 501 for
// what this daemon cannot do, and 503 while too many others ask. Fields and paths are added to
// version 1, never renamed or removed. Each request has a connection of its own.
package control

import (
	"context"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// DefaultPath is the socket of the daemon on this machine.
const DefaultPath = "/run/kured/kured.sock"

// The paths of version 1.
const (
	statusPath = "/v1/status"
	gatesPath  = "/v1/gates"
	verbPath   = "/v1/" // and a Verb
)

// Daemon is what the socket shows and does.
type Daemon struct {
	Status Source
	// Gates asks every gate; nil: this cannot be asked. One call is made at a time.
	Gates func(ctx context.Context) ([]status.GateState, error)
	// Verbs does what it is told, one order at a time; nil: nothing.
	Verbs Doer
}

// Source is the status and its changes; see Feed.
type Source interface {
	Now() status.Status
	// Watch signals after a change; several may come as one. stop ends it. A change
	// without a signal is seen within two seconds.
	Watch() (changed <-chan struct{}, stop func())
}

// Doer does what a person wants; see Verbs.
type Doer interface {
	// Do carries an order out. An error of the type Refusal has changed nothing.
	Do(ctx context.Context, verb Verb, o Order) (Outcome, error)
}

// Verb is one thing that the daemon can be told to do. The set is closed.
type Verb string

// The verbs.
const (
	Request Verb = "request" // a reboot is wanted
	Cancel  Verb = "cancel"  // what Request did
	Pause   Verb = "pause"   // no reboot of this node
	Resume  Verb = "resume"  // what Pause did
)

func verbs() []Verb { return []Verb{Request, Cancel, Pause, Resume} }

// Order is what is said with a Verb.
type Order struct {
	// Reason is for those who ask later: a line of printable text of at most
	// MaxReason bytes. Request need not have one, Pause has to, the others have none.
	Reason string `json:"reason,omitempty"`
	// Until ends a pause by itself; nil: nothing does.
	Until *time.Time `json:"until,omitempty"`
	// By is who says it, beside the uid: a name, which nobody checks.
	By string `json:"by,omitempty"`

	uid uint32 // of the process that says it; the socket's word
}

// Outcome is what was done.
type Outcome struct {
	Changed bool     `json:"changed"` // false: it was so before
	Text    []string `json:"text"`    // the same for people, in lines of printable text
}

// Refusal is why an order is not carried out.
type Refusal struct {
	Conflict bool // the state or the configuration forbids it; else the order is wrong
	What     string
}

func (r *Refusal) Error() string { return r.What }
