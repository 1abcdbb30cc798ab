package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// outputFormat is how a command writes its answer.
type outputFormat string

// The formats.
const (
	outText outputFormat = "text"
	outWide outputFormat = "wide" // text with more in it
	outJSON outputFormat = "json"
	outYAML outputFormat = "yaml"
)

// outputFlag adds -o to a command. The first of the formats is the default.
func outputFlag(cmd *cobra.Command, into *outputFormat, allowed ...outputFormat) {
	*into = allowed[0]
	cmd.Flags().VarP(&outputValue{into, allowed}, "output", "o", "`format`: "+choice(allowed))
}

// outputValue is the value of the flag: only what is allowed.
type outputValue struct {
	into    *outputFormat
	allowed []outputFormat
}

func (v *outputValue) String() string { return string(*v.into) }

// Type implements pflag.Value. The help takes the name from the usage.
func (*outputValue) Type() string { return "string" }

func (v *outputValue) Set(text string) error {
	if !slices.Contains(v.allowed, outputFormat(text)) {
		return fmt.Errorf("must be %s", choice(v.allowed))
	}
	*v.into = outputFormat(text)
	return nil
}

// choice is "text, json or yaml".
func choice(formats []outputFormat) string {
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

// encode writes a value as JSON with indentation, or as YAML with the same names.
func encode(w io.Writer, o outputFormat, value any) error {
	switch o {
	case outJSON:
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(value)
	case outYAML:
		text, err := yaml.Marshal(value)
		if err != nil {
			return fmt.Errorf("write as YAML: %w", err)
		}
		_, err = w.Write(text)
		return err
	}
	return fmt.Errorf("%q is no form for a program", o)
}
