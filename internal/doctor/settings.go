package doctor

import (
	"strings"
	"unicode"
)

// iniSettings reads "key = value" in sections, as systemd, dnf and others have
// them, and shell assignments, which have no section. Keys are "section.key"
// or "key", in small letters; the last one counts.
func iniSettings(text string) map[string]string {
	found := map[string]string{}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "#"), strings.HasPrefix(line, ";"):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			section = strings.ToLower(strings.TrimSpace(line[1:len(line)-1])) + "."
		default:
			if key, value, ok := strings.Cut(line, "="); ok {
				found[section+strings.ToLower(strings.TrimSpace(key))] = strings.Trim(strings.TrimSpace(value), `"'`)
			}
		}
	}
	return found
}

// aptSettings reads the configuration of apt (apt.conf(5)): `A::B "value";` and
// `A { B "value"; };`, with comments. Keys are "a::b" in small letters; the
// last one counts. Items of lists, which have no name, are left out. Of text
// that is not in this form it takes what it can.
func aptSettings(text string, found map[string]string) {
	var scopes []string
	var name, value string
	var named, valued bool
	finish := func() {
		if named && valued {
			found[strings.ToLower(strings.Join(append(scopes[:len(scopes):len(scopes)], name), "::"))] = value
		}
		name, value, named, valued = "", "", false, false
	}
	for text != "" {
		word, kind, rest := aptToken(text)
		text = rest
		switch kind {
		case aptWord:
			if !named && !valued {
				name, named = word, true
			} else if named && !valued {
				value, valued = word, true
			}
		case aptQuoted:
			value, valued = word, true
		case '{':
			scopes = append(scopes, name)
			name, value, named, valued = "", "", false, false
		case '}':
			finish()
			if len(scopes) > 0 {
				scopes = scopes[:len(scopes)-1]
			}
		case ';':
			finish()
		}
	}
}

// Kinds of tokens beside the signs themselves.
const (
	aptNothing = 0
	aptWord    = 'w'
	aptQuoted  = '"'
)

// aptToken takes the first token off a text that is not empty.
func aptToken(text string) (word string, kind rune, rest string) {
	until := func(end string) string {
		if _, after, ok := strings.Cut(text, end); ok {
			return after
		}
		return ""
	}
	switch {
	case strings.HasPrefix(text, "//"), text[0] == '#':
		return "", aptNothing, until("\n")
	case strings.HasPrefix(text, "/*"):
		text = text[2:]
		return "", aptNothing, until("*/")
	case strings.ContainsRune("{};", rune(text[0])):
		return "", rune(text[0]), text[1:]
	case text[0] == '"':
		word, rest, _ = strings.Cut(text[1:], `"`)
		return word, aptQuoted, rest
	}
	end := strings.IndexFunc(text, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`{};"`, r) })
	switch end {
	case 0:
		return "", aptNothing, strings.TrimLeftFunc(text, unicode.IsSpace)
	case -1:
		end = len(text)
	}
	return text[:end], aptWord, text[end:]
}

// aptTrue is what apt takes for true (StringToBool of apt-pkg).
func aptTrue(value string) bool {
	switch strings.ToLower(value) {
	case "yes", "true", "with", "on", "enable":
		return true
	case "", "no", "false", "without", "off", "disable":
		return false
	}
	return strings.Trim(value, "0") != "" && strings.Trim(value, "0123456789") == ""
}
