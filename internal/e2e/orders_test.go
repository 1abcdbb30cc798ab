//go:build e2e

package e2e

import (
	"encoding/json"
	"strings"

	"github.com/kured-host/kured/internal/status"
)

// ordered checks that root tells the daemon what to do, through the sandbox of
// its unit, that members of the group kured only ask, and that others do neither.
func (p *packaged) ordered() {
	p.Helper()
	if out := p.sh("stat -c '%U %G %a' /run/kured /run/kured/kured.sock"); out != "root root 711\nroot kured 660\n" {
		p.Errorf("the socket's directory and the socket: %q", out)
	}
	as := func(groups, line string) string {
		return p.sh("setpriv --reuid=65534 --regid=65534 " + groups + " kured " + line + " 2>&1; echo code $?")
	}
	const member = `--groups="$(getent group kured | cut -d: -f3)"`
	for _, c := range []struct{ groups, line, want string }{
		{member, "status", "phase:    idle"},
		{member, "status", "code 0\n"},
		{member, "pause --reason x", "kured: only root may pause, and you are uid 65534 (try sudo)\ncode 70\n"},
		{"--clear-groups", "status", "kured: no permission to ask kured (root and the group kured have it; try sudo)\ncode 70\n"},
		{"--clear-groups", "request", "no permission"},
	} {
		if out := as(c.groups, c.line); !strings.Contains(out, c.want) {
			p.Errorf("kured %s with %s: %s", c.line, c.groups, out)
		}
	}
	says := func(what string, ok func(status.Status) bool) {
		p.Helper()
		p.poll(what, func() (bool, error) {
			out, err := answer(p.ctx, p.n, "kured", "status", "-o", "json")
			if err != nil {
				return false, err
			}
			var now status.Status
			err = json.Unmarshal([]byte(out), &now)
			return ok(now), err
		})
	}
	p.sh("kured pause --reason 'e2e looks at it'")
	p.sh("kured request --reason 'e2e wants it'")
	says("a request that a pause holds up", func(s status.Status) bool {
		return s.Phase == status.Blocked && s.Reason == status.Paused && strings.Contains(s.Detail, "e2e looks at it; by uid 0, 20") &&
			s.Demand != nil && len(s.Demand.Reasons) == 1 && strings.HasPrefix(s.Demand.Reasons[0], "e2e wants it (requested by uid 0, 20")
	})
	p.sh("kured cancel")
	says("that the request is withdrawn", func(s status.Status) bool { return s.Phase == status.Idle })
	if out := p.sh("kured resume"); out != "this node is not paused any more\n" {
		p.Errorf("resume: %s", out)
	}
}
