package main

import (
	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/present"
)

func newConfigShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show [FILE]",
		Short: "Show the configuration in force, and where each value is from",
		Long: `Show the configuration in force, as TOML: that of the file, ` + configPath + `
by default, of its drop-ins and of the defaults. Behind each value is the file
and line where it is from. Addresses of notices are secrets and not shown.`,
		Args:              args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: files,
		RunE: func(cmd *cobra.Command, given []string) error {
			path := configPath
			if len(given) == 1 {
				path = given[0]
			}
			all, err := config.Settings(path, len(given) == 0)
			if err != nil {
				return &exitError{exitConfig, err}
			}
			return present.Settings(cmd.OutOrStdout(), all)
		},
	}
}
