package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/config"
)

// configPath is where the packages put the configuration.
const configPath = "/etc/kured/kured.toml"

// configFlag adds --config to a command.
func configFlag(cmd *cobra.Command) {
	cmd.Flags().String("config", configPath, "configuration `file`")
}

// loadConfig reads the configuration that the command was told to. The one at
// the usual place may be missing: every key has a default.
func loadConfig(cmd *cobra.Command) (config.Config, error) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return config.Config{}, err
	}
	load := config.Load
	if !cmd.Flags().Changed("config") {
		load = config.LoadOptional
	}
	cfg, err := load(path)
	if err != nil {
		return cfg, &exitError{exitConfig, err}
	}
	return cfg, nil
}

func newConfig() *cobra.Command {
	parent := &cobra.Command{
		Use:   "config",
		Short: "Work with the configuration",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	parent.AddCommand(&cobra.Command{
		Use:   "check [FILE]",
		Short: "Say what is wrong with a configuration file, " + configPath + " by default",
		Args:  args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			path := configPath
			if len(given) == 1 {
				path = given[0]
			}
			if _, err := config.Load(path); err != nil {
				return &exitError{exitConfig, err}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", path)
			return err
		},
	})
	return parent
}
