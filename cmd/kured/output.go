package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/present"
)

// outputFlag adds -o to a command. The first of the formats is the default.
func outputFlag(cmd *cobra.Command, into *present.Format, allowed ...present.Format) {
	*into = allowed[0]
	cmd.Flags().VarP(&outputValue{into, allowed}, "output", "o", "`format`: "+choice(allowed))
}

// outputValue is the value of the flag: only what is allowed.
type outputValue struct {
	into    *present.Format
	allowed []present.Format
}

func (v *outputValue) String() string { return string(*v.into) }

// Type implements pflag.Value. The help takes the name from the usage.
func (*outputValue) Type() string { return "string" }

func (v *outputValue) Set(text string) error {
	if !slices.Contains(v.allowed, present.Format(text)) {
		return fmt.Errorf("must be %s", choice(v.allowed))
	}
	*v.into = present.Format(text)
	return nil
}

// choice is "text, json or yaml".
func choice(formats []present.Format) string {
	var words []string
	for _, f := range formats {
		words = append(words, string(f))
	}
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
