package node

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// NormalizeBootID brings a boot id into the one form in which kured compares them: 32 lower-case hex
// digits (systemd's %b, sd_id128). The kernel (/proc/sys/kernel/random/boot_id) and the kubelet
// (status.nodeInfo.bootID) write the same id as a UUID with dashes. White space around it is ignored.
func NormalizeBootID(s string) (string, error) {
	id := strings.ToLower(strings.TrimSpace(s))
	if len(id) == 36 && id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-' {
		id = id[:8] + id[9:13] + id[14:18] + id[19:23] + id[24:]
	}
	if b, err := hex.DecodeString(id); err != nil || len(b) != 16 {
		return "", fmt.Errorf("boot id %q: want 32 hex digits, or a UUID", s)
	}
	if strings.Trim(id, "0") == "" {
		return "", fmt.Errorf("boot id %q: all zero", s)
	}
	return id, nil
}

// comparableBootID normalizes where it can and keeps what it cannot read, so that a damaged id
// differs from every good one and can still be shown.
func comparableBootID(s string) string {
	if id, err := NormalizeBootID(s); err == nil {
		return id
	}
	return strings.TrimSpace(s)
}
