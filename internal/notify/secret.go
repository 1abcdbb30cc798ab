package notify

import (
	"encoding/base64"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/kured-host/kured/internal/notify/message"
	"github.com/kured-host/kured/internal/status"
)

const (
	ellipsis  = message.Ellipsis
	maxError  = 500 // runes of an error of shoutrrr, which can quote a server's whole answer
	minSecret = 3   // bytes: what is shorter is no secret, and hiding it would garble every text
	minWord   = 6   // bytes of a part of a secret that is hidden alone: services put the parts together anew
)

// secrets are what no text may show of a URL.
type secrets []string

// fillers are words that stand in addresses as they are: slack://hook:…@webhook,
// telegram://…@telegram, join://…@join, pushover://shoutrrr:…. In an error
// they are of use.
var fillers = []string{"hook", "webhook", "telegram", "join", "shoutrrr"}

// secretsOf lists all parts of an address but its scheme, in the forms in
// which they may turn up. The host stays visible where it is the name of a
// server; with many services it is a part of the secret.
func secretsOf(address string) secrets {
	var parts []string
	visible := "" // the host
	scheme, rest, _ := strings.Cut(address, ":")
	parts = append(parts, strings.TrimLeft(rest, "/"))
	if _, custom, _ := strings.Cut(scheme, "+"); custom != "http" && custom != "https" {
		parts = append(parts, custom)
	}
	if u, err := url.Parse(address); err == nil {
		parts = append(parts, u.Opaque, u.Path, u.EscapedPath(), u.RawQuery, u.Fragment, u.User.String(), u.User.Username())
		if password, ok := u.User.Password(); ok {
			whole := u.User.Username() + ":" + password
			parts = append(parts, password, whole,
				base64.StdEncoding.EncodeToString([]byte(password)),
				base64.StdEncoding.EncodeToString([]byte(whole)),
				base64.StdEncoding.EncodeToString([]byte("\x00"+u.User.Username()+"\x00"+password)))
		}
		if serverName(service(address), u.Hostname()) {
			visible = lower(u.Hostname())
		} else {
			parts = append(parts, u.Host, u.Hostname())
		}
		parts = append(parts, strings.Split(u.Path, "/")...)
		parts = append(parts, strings.Split(u.EscapedPath(), "/")...)
		for key, values := range u.Query() {
			parts = append(parts, values...)
			if len(key) >= minWord {
				parts = append(parts, key) // perhaps the rest of a value with an & in it
			}
		}
	} else {
		parts = append(parts, strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune("/:@?&=#", r) })...)
	}
	var s secrets
	add := func(text string, atLeast int) {
		if text = lower(text); len(text) >= atLeast && !slices.Contains(s, text) && !slices.Contains(fillers, text) {
			s = append(s, text)
		}
	}
	for i, part := range parts {
		for _, form := range []string{part, url.QueryEscape(part), url.PathEscape(part), strings.Trim(strconv.Quote(part), `"`)} {
			add(form, minSecret)
		}
		if i == 0 {
			continue // its words are those of the others, and the host's
		}
		for _, word := range strings.FieldsFunc(part, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			if !strings.Contains(visible, lower(word)) {
				add(word, minWord)
			}
		}
	}
	slices.SortFunc(s, func(a, b string) int { return len(b) - len(a) }) // a part must not hide that the whole is there
	return s
}

// serverName reports whether host is the plain name of a server to talk to.
func serverName(service, host string) bool {
	switch service {
	case "bark", "generic", "gotify", "lark", "matrix", "mattermost", "ntfy", "opsgenie", "rocketchat", "signal", "smtp", "zulip":
		return strings.Contains(host, ".") || host == "localhost" || net.ParseIP(host) != nil
	}
	return false
}

// hide returns text for people: one bounded, printable line without the
// secrets and without whatever follows the scheme of any URL.
func (s secrets) hide(text string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "://")
		b.WriteString(before)
		if !found {
			break
		}
		b.WriteString("://" + ellipsis)
		end := strings.IndexFunc(after, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("\"'`<>", r) })
		if end < 0 {
			break
		}
		text = after[end:]
	}
	text = b.String()
	for _, secret := range s {
		for from := 0; ; {
			i := strings.Index(lower(text[from:]), secret)
			if i < 0 {
				break
			}
			text = text[:from+i] + ellipsis + text[from+i+len(secret):]
			from += i + len(ellipsis)
		}
	}
	return status.Clean(text, maxError)
}

// lower is strings.ToLower of ASCII alone, which keeps every byte's place.
func lower(text string) string {
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
