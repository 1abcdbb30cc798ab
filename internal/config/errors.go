package config

import (
	"fmt"
	"strings"
)

// maxProblems bounds a report: a file that is not a configuration at all would
// otherwise give one line for each of its lines.
const maxProblems = 50

// Problem is one thing that is wrong with the configuration.
type Problem struct {
	File    string // as given to Load; empty when the value did not come from a file
	Line    int    // 1-based; 0 when the problem has no line (the file cannot be read)
	Key     string // such as "lock.max_concurrent"; empty when it is not about a key
	Message string // what is wrong and what is expected
}

// Error is "file:line: key: message", without the parts that are unknown.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	for _, part := range []string{p.Key, p.Message} {
		if part == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(part)
	}
	return b.String()
}

// Error is every problem of one configuration, in the order of the file.
type Error struct {
	Problems []Problem
}

// Error gives one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for i, p := range e.Problems {
		if i == maxProblems {
			lines = append(lines, fmt.Sprintf("%s: and %d more problems", p.File, len(e.Problems)-i))
			break
		}
		lines = append(lines, p.Error())
	}
	return strings.Join(lines, "\n")
}
