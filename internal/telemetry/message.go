package telemetry

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/kured-host/kured/internal/status"
)

// MessageID is the id in the journal of what a word of the vocabulary says, 32
// hex digits: a phase, a reason or a message of package status. It is derived
// from the word alone, as a UUID of version 8 (RFC 9562), and never changes.
// See MESSAGE_ID in systemd.journal-fields(7).
func MessageID(word string) string {
	sum := sha256.Sum256([]byte("kured.dev/message/" + word))
	id := sum[:16]
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return hex.EncodeToString(id)
}

// identify gives an entry the id of its reason or else of its phase, unless it
// has one.
func identify(fields map[string]string) {
	if fields["MESSAGE_ID"] != "" {
		return
	}
	if word := fields["KURED_REASON"]; status.Reason(word).Help() != (status.Help{}) {
		fields["MESSAGE_ID"] = MessageID(word)
	} else if word := fields["KURED_PHASE"]; status.Phase(word).Known() {
		fields["MESSAGE_ID"] = MessageID(word)
	}
}
