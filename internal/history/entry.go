package history

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// Fields are those of an entry that Read looks at, for journalctl's
// --output-fields. Beside them journalctl always gives the time and the boot.
func Fields() []string {
	return []string{
		"_MACHINE_ID", "MESSAGE", "MESSAGE_ID", "KURED_CYCLE", "KURED_NODE", "KURED_PHASE", "KURED_REASON",
		"KURED_PACKAGES", "KURED_WANTED_SINCE",
	}
}

// Bounds of what is kept of an entry, in characters.
const (
	maxID       = 64
	maxName     = 253 // of a Node
	maxText     = 300
	maxPackages = 50
)

// entry is a line of the journal, clean and bounded.
type entry struct {
	at       time.Time
	machine  string
	boot     string
	id       string // MESSAGE_ID
	cycle    string
	node     string
	phase    status.Phase // "" if there is none, or none that we know
	reason   status.Reason
	message  string
	packages []string
	wanted   time.Time
}

var errNoTime = errors.New("the entry has no time")

// parse reads an entry as journalctl -o json writes it
// (https://systemd.io/JOURNAL_EXPORT_FORMATS, "Journal JSON Format").
func parse(line []byte) (entry, error) {
	var raw struct {
		Realtime text `json:"__REALTIME_TIMESTAMP"`
		Boot     text `json:"_BOOT_ID"`
		Machine  text `json:"_MACHINE_ID"`
		Message  text `json:"MESSAGE"`
		ID       text `json:"MESSAGE_ID"`
		Cycle    text `json:"KURED_CYCLE"`
		Node     text `json:"KURED_NODE"`
		Phase    text `json:"KURED_PHASE"`
		Reason   text `json:"KURED_REASON"`
		Packages text `json:"KURED_PACKAGES"`
		Wanted   text `json:"KURED_WANTED_SINCE"`
	}
	if err := json.Unmarshal(line, &raw); err != nil {
		return entry{}, err
	}
	microseconds, err := strconv.ParseInt(string(raw.Realtime), 10, 64)
	if err != nil || microseconds <= 0 || microseconds > latest {
		return entry{}, errNoTime
	}
	e := entry{
		at:      time.UnixMicro(microseconds).UTC(),
		machine: raw.Machine.clean(maxID), boot: raw.Boot.clean(maxID), id: raw.ID.clean(maxID),
		cycle: raw.Cycle.clean(maxID), node: raw.Node.clean(maxName), message: raw.Message.clean(maxText),
		reason: status.Reason(raw.Reason.clean(maxID)),
	}
	if p := status.Phase(raw.Phase); p.Known() {
		e.phase = p
	}
	for _, name := range strings.SplitN(string(raw.Packages), ", ", maxPackages+1) {
		if name = status.Clean(name, maxText); name != "" && len(e.packages) < maxPackages {
			e.packages = append(e.packages, name)
		}
	}
	if t, err := time.Parse(time.RFC3339, string(raw.Wanted)); err == nil && t.Year() > 0 && t.Year() < 10000 {
		e.wanted = t.UTC()
	}
	return e, nil
}

// latest is the end of the year 9999 in microseconds, which is as far as RFC 3339 goes.
const latest = 253402300799_000000

// text is the value of a field: a string; null if journalctl leaves it out for
// its size; the numbers of its bytes if it has any that cannot be printed; or a
// list of these if the entry has the field several times, of which the first counts.
type text string

// UnmarshalJSON takes nothing for an error: a value of another kind is empty.
func (t *text) UnmarshalJSON(value []byte) error {
	one, ok := scalar(value)
	var several []json.RawMessage
	if !ok && json.Unmarshal(value, &several) == nil && len(several) > 0 {
		one, _ = scalar(several[0])
	}
	*t = text(one)
	return nil
}

// scalar reads a string, or the numbers of its bytes.
func scalar(value []byte) (s string, ok bool) {
	if json.Unmarshal(value, &s) == nil {
		return s, true // null as well
	}
	var numbers []uint16 // of []uint8 encoding/json expects something else
	if len(value) < 2 || value[1] == '"' || json.Unmarshal(value, &numbers) != nil {
		return "", false
	}
	bytes := make([]byte, len(numbers))
	for i, n := range numbers {
		bytes[i] = byte(n)
	}
	return string(bytes), true
}

// clean is the value as shown to people.
func (t text) clean(limit int) string { return status.Clean(string(t), limit) }
