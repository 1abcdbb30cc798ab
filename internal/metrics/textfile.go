package metrics

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kured-host/kured/internal/status"
)

// textfileEvery is how often the file is written at most.
const textfileEvery = 5 * time.Second

// keepTextfile writes the file when something changed, and a second time after
// the pause: what another process adds to the ledger at the end of a cycle comes
// then. While nothing changes it does nothing. At the end of ctx the file stays,
// with what was true last: on the way down node_exporter shows "rebooting".
func (m *Metrics) keepTextfile(ctx context.Context, path string) {
	told, metrics := "", m.registry(true)
	write := func() {
		text := ""
		if err := prometheus.WriteToTextfile(path, metrics); err != nil {
			var file *fs.PathError
			var link *os.LinkError
			switch { // without the name of the temporary file, which is another one each time
			case errors.As(err, &file):
				err = file.Err
			case errors.As(err, &link):
				err = link.Err
			}
			text = plain(err).Error()
		}
		if text != told && text != "" {
			m.options.Log.Warn("the metrics are not written to " + status.Clean(path, maxText) + ": " + text)
		}
		told = text
	}
	for again := true; ; {
		m.unchanged() // before it is read
		write()
		select {
		case <-time.After(textfileEvery):
		case <-ctx.Done():
			if !m.unchanged() {
				write()
			}
			return
		}
		if again && m.unchanged() {
			again = false
			continue
		}
		if !again {
			select {
			case <-m.changed:
			case <-ctx.Done():
				return
			}
		}
		again = true
	}
}

// unchanged reports whether nothing has changed since it was called last.
func (m *Metrics) unchanged() bool {
	select {
	case <-m.changed:
		return false
	default:
		return true
	}
}

// removeTextfile takes away the file when the configuration does not name it any
// more: node_exporter would show for ever what was true then.
func (m *Metrics) removeTextfile(path string) {
	if path == "" {
		return
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.options.Log.Warn("the metrics stay in " + status.Clean(path, maxText) + ": " + plain(err).Error())
	}
}
