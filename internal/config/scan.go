package config

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// Bounds of what is read. The memory of the TOML parser grows with the square
// of the nesting. A configuration has a few KB and two levels.
const (
	maxSize   = 64 << 10
	maxLine   = 4 << 10 // bounds dotted keys
	maxBraces = 100     // bounds nested inline tables
	maxKeys   = 2000    // bounds the search for their lines
)

// outline is what can be seen of a file without parsing it.
type outline struct {
	headers []int // offsets of lines that begin with "[[" outside of values
	problem *Problem
}

// survey reads data as far as needed to know what is text, what is a comment
// and what is neither (TOML 1.1, sections "String" and "Comment"). It stops at
// the first line with which data leaves the bounds. Of a file that is not TOML
// it may think anything: the parser says so afterwards.
func survey(data []byte) outline {
	var o outline
	var open string // the end of the text over several lines that we are in
	braces, brackets, number, offset := 0, 0, 0, 0
	for line := range bytes.Lines(data) {
		number++
		start, rest := offset, string(line)
		offset += len(line)
		if open == "" && brackets == 0 && strings.HasPrefix(strings.TrimLeft(rest, " \t"), "[[") {
			o.headers = append(o.headers, start)
		}
		comment := false
		for rest != "" && !comment {
			if open != "" {
				rest, open = skipText(rest, open)
				continue
			}
			switch rest[0] {
			case '#':
				comment = true
			case '"', '\'':
				quote := rest[:1]
				if triple := strings.Repeat(quote, 3); strings.HasPrefix(rest, triple) {
					quote = triple
				}
				// A text that has to end on its line and does not is the parser's to report.
				rest, open = skipText(rest[len(quote):], quote)
				if len(open) == 1 {
					open = ""
				}
				continue
			case '{':
				braces++
			case '[':
				brackets++
			case ']':
				brackets = max(0, brackets-1)
			}
			rest = rest[1:]
		}
		if len(line) > maxLine && !bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("#")) {
			o.problem = &Problem{Line: number, Message: fmt.Sprintf("line of more than %d bytes", maxLine)}
			return o
		}
		if braces > maxBraces {
			o.problem = &Problem{Line: number, Message: fmt.Sprintf("more than %d inline tables", maxBraces)}
			return o
		}
	}
	return o
}

// skipText is what follows the text that ends with end, and end itself if the
// text goes on behind s.
func skipText(s, end string) (rest, open string) {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && end[0] == '"':
			i++
		case strings.HasPrefix(s[i:], end):
			s = s[i+len(end):]
			// Up to two quotes may stand right in front of the three that end a text.
			for n := 0; n < 2 && len(end) == 3 && strings.HasPrefix(s, end[:1]); n++ {
				s = s[1:]
			}
			return s, ""
		}
	}
	return "", end
}

// elements are the offsets of the headers of each list of tables: [[name]].
func elements(data []byte, headers []int) map[string][]int {
	found := map[string][]int{}
	for _, offset := range headers {
		line, _, _ := bytes.Cut(data[offset:], []byte("\n"))
		meta, err := toml.Decode(string(line)+"\n", new(map[string]toml.Primitive))
		if keys := meta.Keys(); err == nil && len(keys) == 1 && len(keys[0]) == 1 {
			found[keys[0][0]] = append(found[keys[0][0]], offset)
		}
	}
	return found
}
