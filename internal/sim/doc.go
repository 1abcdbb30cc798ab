// Package sim runs the real cycle.Runner on the real lock.Lock, in virtual time,
// on a small cluster that exists only in memory and in which everything goes
// wrong that can: requests and answers are lost, watches are late, daemons are
// killed at each request, power is cut, Nodes are deleted, clocks lie, people
// cordon and admins release. Each law of the design is an invariant that is
// checked at each event against the truth of that cluster.
//
// A history follows from its seed alone. Chance is a hash of seed, actor,
// purpose and virtual time (chance.go), and no two actors ever act at the same
// instant, so that the order in which goroutines happen to run does not matter.
//
// world.go is the cluster, object.go the lock object, process.go a process of
// kured and its requests, machine.go and host.go the machine under it, laws.go
// the invariants, weather.go what happens to them, calm.go the end, in which
// all must come to rest. The tests are simulations over many seeds, stories as
// golden text, mutants that must be caught, and figures of scale.
package sim
