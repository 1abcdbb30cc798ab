package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kured-host/kured/internal/reference"
)

// commands are all commands that do something, by what is typed.
func commands(root *cobra.Command) map[string]*cobra.Command {
	all := map[string]*cobra.Command{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if sub.Hidden || sub.Name() == "help" {
				continue
			}
			all[sub.CommandPath()] = sub
			walk(sub)
		}
	}
	walk(root)
	return all
}

// tree is the command tree as users find it, with cobra's own commands.
func tree(t *testing.T) *cobra.Command {
	t.Helper()
	root := newRoot()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range append([]*cobra.Command{root}, values(commands(root))...) {
		cmd.InitDefaultHelpFlag()
	}
	return root
}

func values(all map[string]*cobra.Command) []*cobra.Command {
	var list []*cobra.Command
	for _, cmd := range all {
		list = append(list, cmd)
	}
	return list
}

func page(t *testing.T, path string) string {
	t.Helper()
	pages, err := reference.Pages("../..")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(pages, func(p reference.Page) bool { return p.Path == path })
	if i < 0 {
		t.Fatalf("%s is missing", path)
	}
	return pages[i].Text
}

var longFlag = regexp.MustCompile(`\*\*--([a-z][a-z-]*)`)

// kured(8) has a section for each command, which names each of its flags and
// none that it has not.
func TestManualHasCommands(t *testing.T) {
	text := page(t, "docs/man/kured.8.md")
	_, text, found := strings.Cut(text, "\n# COMMANDS\n")
	text, _, closed := strings.Cut(text, "\n# ")
	if !found || !closed {
		t.Fatal("there is no section COMMANDS")
	}
	sections := map[string]string{}
	for _, section := range strings.Split(text, "\n## ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		sections[title] = body
	}
	all := commands(tree(t))
	for path, cmd := range all {
		if strings.HasPrefix(path, "kured completion ") || path == "kured config" || path == "kured source" {
			continue // the shells are named in one section; the other two only hold commands
		}
		body, ok := sections[path]
		if !ok {
			t.Errorf("kured(8) has no section %q", path)
			continue
		}
		has := map[string]bool{}
		for _, m := range longFlag.FindAllStringSubmatch(body, -1) {
			has[m[1]] = true
			if cmd.Flag(m[1]) == nil {
				t.Errorf("kured(8), %s: there is no --%s", path, m[1])
			}
		}
		cmd.LocalNonPersistentFlags().VisitAll(func(flag *pflag.Flag) { named(t, path, body, flag, has) })
		cmd.PersistentFlags().VisitAll(func(flag *pflag.Flag) { named(t, path, body, flag, has) })
	}
	for path := range sections {
		if all[path] == nil {
			t.Errorf("kured(8) has the section %q, but there is no such command", path)
		}
	}
}

func named(t *testing.T, path, body string, flag *pflag.Flag, has map[string]bool) {
	t.Helper()
	if flag.Hidden || flag.Name == "help" {
		return
	}
	if !has[flag.Name] {
		t.Errorf("kured(8), %s does not name --%s", path, flag.Name)
	}
	if flag.Shorthand != "" && !strings.Contains(body, "**-"+flag.Shorthand+"**") {
		t.Errorf("kured(8), %s does not name -%s", path, flag.Shorthand)
	}
}

// Every kured command in the documentation is one that the program understands:
// in blocks of the language console, and in code within the text.
func TestCommandsInPages(t *testing.T) {
	pages, err := reference.Pages("../..")
	if err != nil {
		t.Fatal(err)
	}
	inline := regexp.MustCompile("(?s)`(kured [^`]*)`")
	count := 0
	for _, page := range pages {
		var lines []string
		for _, block := range page.Blocks {
			if block.Language != "console" && block.Language != "" {
				continue
			}
			for line := range strings.Lines(block.Text) {
				line = strings.TrimSpace(line)
				if rest, ok := strings.CutPrefix(line, "$ "); ok {
					line = rest
				} else if rest, ok := strings.CutPrefix(line, "# "); ok {
					line = rest
				}
				if strings.HasPrefix(line, "kured ") {
					lines = append(lines, line)
				}
			}
		}
		for _, m := range inline.FindAllStringSubmatch(page.Text, -1) {
			lines = append(lines, strings.Join(strings.Fields(m[1]), " "))
		}
		for _, line := range lines {
			count++
			if problem := understood(tree(t), line); problem != "" {
				t.Errorf("%s: %s: %s", page.Path, line, problem)
			}
		}
	}
	if count < 50 {
		t.Errorf("only %d commands in the pages", count)
	}
}

// What "kured config check" says of every example of the configuration: nothing.
func TestConfigurationsInPages(t *testing.T) {
	pages, err := reference.Pages("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		for _, block := range page.Blocks {
			if block.Language != "toml" {
				continue
			}
			// The files that an example names are the reader's.
			text := regexp.MustCompile(`"/etc/kured/[a-z-]+-url"`).ReplaceAllString(block.Text, strconv.Quote(file(t, "generic+https://example.com/hook\n")))
			text = regexp.MustCompile(`(web_config_file = )"[^"]+"`).ReplaceAllString(text, "${1}"+strconv.Quote(file(t, "{}\n")))
			cfg, err := read(t, text)
			if err == nil {
				_, err = (&house{env: os.Getenv}).program(cfg)
			}
			if err != nil {
				t.Errorf("%s:%d: %v", page.Path, block.Line, err)
			}
		}
	}
}

// file is a file that only root reads, as those with secrets are.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// understood says what is wrong with a command line, up to a pipe.
func understood(root *cobra.Command, line string) string {
	words := split(line)[1:]
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err.Error()
	}
	if cmd == root && len(words) > 0 {
		return "no such command"
	}
	if len(rest) == 0 {
		return "" // its name alone, or the command as it is
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err.Error()
	}
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return "no such command"
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err.Error()
	}
	return ""
}

// split is a line of a shell in words, up to a pipe, a redirection or a comment. Quotes
// may stand within a word; nothing else of a shell is in the pages.
func split(line string) []string {
	var words []string
	var word strings.Builder
	quote, open := rune(0), false
	flush := func() {
		if open {
			words = append(words, word.String())
		}
		word.Reset()
		open = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '#' && !open: // a comment
			return words
		case r == '\'' || r == '"':
			quote, open = r, true
		case r == '|' || r == '>' || r == ';' || r == '<':
			flush()
			return words
		case r == ' ':
			flush()
		default:
			word.WriteRune(r)
			open = true
		}
	}
	flush()
	return words
}
