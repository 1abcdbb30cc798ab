package lock

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/status"
)

// Viewer reads the lock for people, with whatever rights they have.
type Viewer struct {
	Store  Store
	Rules  Rules               // nil: no policy
	Fleet  Fleet               // asked only where a limit is a percent; nil: not at all
	Max    *intstr.IntOrString // of the configuration here; nil: there is none
	Now    func() time.Time    // the wall clock; nil: time.Now
	Pace   Pace
	Policy string // the policy's name, for people; "": none
}

// Listing is the lock for people. Its JSON form is that of kured lock -o json:
// fields are added, never renamed.
type Listing struct {
	Limit      int          `json:"limit"`                // of holders: the tightest that is known here; 0: none is
	LimitNote  string       `json:"limit_note,omitempty"` // what the limit leaves out, and why
	Holders    []HolderItem `json:"holders"`              // by name
	Waiters    []WaiterItem `json:"waiters"`              // as they are served
	Unreadable []Unreadable `json:"unreadable,omitempty"` // keys that this kured does not understand
	Policy     *Ruling      `json:"policy,omitempty"`     // absent: none is configured
}

// HolderItem is a holder in a Listing.
type HolderItem struct {
	Node string `json:"node"`
	Holder
}

// WaiterItem is a waiter in a Listing.
type WaiterItem struct {
	Node  string `json:"node"`
	Place int    `json:"place"` // from 1
	Waiter
}

// Unreadable is a key in a Listing that cannot be read.
type Unreadable struct {
	Key   string `json:"key"`
	What  string `json:"what"`           // what is wrong with it
	Holds bool   `json:"holds"`          // it counts as a holder
	Node  string `json:"node,omitempty"` // whose it is, if it is one node's
}

// Ruling is the policy in a Listing.
type Ruling struct {
	Name   string        `json:"name"`
	Max    string        `json:"max,omitempty"`
	Room   int           `json:"waiting_room,omitempty"`
	Closed status.Reason `json:"closed,omitempty"` // why nobody may go now
	Detail string        `json:"detail,omitempty"` // the same for people
	Error  string        `json:"error,omitempty"`  // why it could not be read
}

// List reads the lock and what limits it. Only a lock that cannot be read is
// an error; what else is not known is said in the Listing.
func (v Viewer) List(ctx context.Context) (Listing, error) {
	ctx, cancel := context.WithTimeout(ctx, v.Pace.Call)
	defer cancel()
	snap, err := v.Store.Read(ctx)
	if err != nil {
		return Listing{}, err
	}
	s := snap.State
	l := Listing{Holders: []HolderItem{}, Waiters: []WaiterItem{}}
	for _, name := range slices.Sorted(maps.Keys(s.Holders)) {
		l.Holders = append(l.Holders, HolderItem{name, s.Holders[name]})
	}
	for i, name := range s.Order() {
		l.Waiters = append(l.Waiters, WaiterItem{name, i + 1, s.Waiters[name]})
	}
	for _, d := range s.Damaged {
		node, holder := strings.CutPrefix(d.Key, holderPrefix)
		waits := false
		if !holder {
			if node, waits = strings.CutPrefix(d.Key, waiterPrefix); !waits {
				node = ""
			}
		}
		l.Unreadable = append(l.Unreadable, Unreadable{d.Key, d.What, !waits, node})
	}
	l.Limit, l.LimitNote = v.limit(ctx, s, v.rules(ctx, &l))
	return l, nil
}

// rules reads the policy into the listing, and returns it.
func (v Viewer) rules(ctx context.Context, l *Listing) Policy {
	if v.Rules == nil || v.Policy == "" {
		return Policy{}
	}
	l.Policy = &Ruling{Name: v.Policy}
	p, err := v.Rules.Policy(ctx)
	if err != nil {
		l.Policy.Error = err.Error()
		return Policy{}
	}
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	l.Policy.Room = p.Room
	l.Policy.Closed, l.Policy.Detail, _ = p.Closed(now())
	if p.Max != nil {
		l.Policy.Max = p.Max.String()
	}
	return p
}

// limit is the limit in force, as an asker would find it; where a percent is
// of nodes that are not known, the note says so.
func (v Viewer) limit(ctx context.Context, s State, p Policy) (limit int, note string) {
	a, own := Asker{Policy: p}, math.MaxInt
	for _, given := range []*intstr.IntOrString{p.Max, v.Max} {
		if given == nil || given.Type != intstr.String || a.Pool.Known || note != "" {
			continue
		}
		if peers, err := v.peers(ctx); err != nil {
			note = fmt.Sprintf("%s is not counted: %v", given.StrVal, err)
		} else {
			a.Pool = Pool{Known: true, Peers: peers}
		}
	}
	if v.Max != nil {
		own = a.Pool.amount(*v.Max)
	}
	return shown(s.limit(a, own)), note
}

func (v Viewer) peers(ctx context.Context) ([]Peer, error) {
	if v.Fleet == nil {
		return nil, fmt.Errorf("the nodes of the pool are not known")
	}
	return v.Fleet.Nodes(ctx)
}
