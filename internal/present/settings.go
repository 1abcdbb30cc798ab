package present

import (
	"fmt"
	"io"
	"strings"

	"github.com/kured-host/kured/internal/config"
)

// Settings writes settings as TOML, with a comment behind each, or before
// it where the line is long.
func Settings(w io.Writer, all []config.Setting) error {
	const column, most = 40, 100
	var b strings.Builder
	for i, s := range all {
		if s.Header != "" {
			if i > 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintln(&b, s.Header)
		}
		line := s.Key + " = " + s.Value
		if len(line) > most {
			fmt.Fprintf(&b, "# %s\n%s\n", s.From, line)
			continue
		}
		fmt.Fprintf(&b, "%-*s # %s\n", column, line, s.From)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
