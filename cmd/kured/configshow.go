package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/config"
)

func newConfigShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show [FILE]",
		Short: "Show the configuration in force, and where each value is from",
		Long: `Show the configuration in force, as TOML: that of the file, ` + configPath + `
by default, of its drop-ins and of the defaults. Behind each value is the file
and line where it is from. Addresses of notices are secrets and not shown.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			path := configPath
			if len(given) == 1 {
				path = given[0]
			}
			all, err := config.Settings(path, len(given) == 0)
			if err != nil {
				return &exitError{exitConfig, err}
			}
			return printSettings(cmd.OutOrStdout(), all)
		},
	}
}

// printSettings writes settings as TOML, with a comment behind each, or before
// it where the line is long.
func printSettings(out io.Writer, all []config.Setting) error {
	const column, most = 40, 100
	var b strings.Builder
	for i, s := range all {
		if s.Header != "" {
			if i > 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintln(&b, s.Header)
		}
		line := s.Key + " = " + s.Value
		if len(line) > most {
			fmt.Fprintf(&b, "# %s\n%s\n", s.From, line)
			continue
		}
		fmt.Fprintf(&b, "%-*s # %s\n", column, line, s.From)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
