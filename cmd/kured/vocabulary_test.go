package main

import (
	"strings"
	"testing"

	"github.com/kured-host/kured/internal/status"
)

// What people are told to type exists, with its flags.
func TestCommandsInHelpExist(t *testing.T) {
	var texts []string
	add := func(h status.Help) { texts = append(texts, h.Means, h.Do) }
	for _, p := range status.Phases() {
		add(p.Help())
	}
	for _, r := range status.Reasons() {
		add(r.Help())
	}
	for _, m := range status.Messages() {
		add(m.Help())
	}
	seen := map[string]bool{}
	for _, text := range texts {
		for i, command := range strings.Split(text, `"`) {
			words := strings.Fields(command)
			if i%2 == 0 || words[0] != "kured" || seen[command] {
				continue
			}
			seen[command] = true
			cmd, rest, err := newRoot().Find(words[1:])
			if err == nil && !cmd.HasParent() {
				t.Errorf("%q: no such command", command)
				continue
			}
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if err == nil {
				err = cmd.ValidateArgs(cmd.Flags().Args())
			}
			if err != nil {
				t.Errorf("%q: %v", command, err)
			}
		}
	}
	for _, want := range []string{"kured why", "kured lock release HOLDER --reason WHY", "kured resume --all", "kured history"} {
		if !seen[want] {
			t.Errorf("nobody is told of %q any more", want)
		}
	}
}
