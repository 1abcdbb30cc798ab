// Package typed reads what a page of the documentation tells its reader to type, so that a test can do just that.
//
// The lines of a page's console blocks are commands by their prompt, as in a session: "# " is root on a node, "$ " an
// administrator of the cluster. Lines without a prompt are what the commands answer.
package typed

import (
	"fmt"
	"strings"
)

// Place is where a command is to be typed. The set is closed.
type Place string

// The places.
const (
	Node  Place = "node"  // as root, on each node that is meant
	Admin Place = "admin" // once, in a checkout, with a kubeconfig
)

// Command is one command of a page.
type Command struct {
	Line  int // of the page, from 1
	Place Place
	Text  string // for a shell, without prompt and without comment
	Says  string // the comment; empty: there is none
}

// Commands returns the commands of a section of a page in Markdown, in their order. The section begins behind the heading of
// that title and ends with the next one of the same or a higher level. That there is no such section, that it has no command,
// that a command is empty, or that a block does not end, is an error.
func Commands(page, title string) ([]Command, error) {
	var all []Command
	number, level, opened := 0, 0, 0 // opened: the line where a block began
	console := false
	for line := range strings.Lines(page) {
		number++
		line = strings.TrimRight(line, " \t\r\n")
		if language, ok := strings.CutPrefix(line, "```"); ok {
			if opened > 0 {
				opened = 0
			} else {
				opened, console = number, language == "console"
			}
			continue
		}
		if opened == 0 {
			if depth, text := heading(line); depth > 0 {
				switch {
				case level == 0 && text == title:
					level = depth
				case level > 0 && depth <= level:
					return finish(all, title)
				}
			}
			continue
		}
		if level == 0 || !console {
			continue
		}
		place, text, ok := prompt(line)
		if !ok {
			continue
		}
		command := Command{Line: number, Place: place}
		if command.Text, command.Says = comment(text); command.Text == "" {
			return nil, fmt.Errorf("line %d: there is no command behind the prompt", number)
		}
		all = append(all, command)
	}
	switch {
	case opened > 0:
		return nil, fmt.Errorf("line %d: the block does not end", opened)
	case level == 0:
		return nil, fmt.Errorf("there is no section %q", title)
	}
	return finish(all, title)
}

func finish(all []Command, title string) ([]Command, error) {
	if len(all) == 0 {
		return nil, fmt.Errorf("section %q has no command", title)
	}
	return all, nil
}

// heading is the level of a heading (0: it is none) and its title.
func heading(line string) (level int, title string) {
	text := strings.TrimLeft(line, "#")
	level = len(line) - len(text)
	title, ok := strings.CutPrefix(text, " ")
	if !ok {
		return 0, ""
	}
	return level, strings.TrimSpace(title)
}

func prompt(line string) (place Place, text string, ok bool) {
	for sign, place := range map[string]Place{"#": Node, "$": Admin} {
		if text, found := strings.CutPrefix(line, sign); found && (text == "" || text[0] == ' ') {
			return place, strings.TrimSpace(text), true
		}
	}
	return "", "", false
}

// comment parts a command from the comment behind it: as for a shell, from a "#" on that begins a word and is not quoted.
func comment(line string) (text, says string) {
	quote := byte(0)
	for i := range len(line) {
		switch c := line[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '#' && (i == 0 || line[i-1] == ' '):
			return strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+1:])
		}
	}
	return line, ""
}
