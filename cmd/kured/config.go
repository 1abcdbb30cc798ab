package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/alert"
	"github.com/kured-host/kured/internal/config"
	"github.com/kured-host/kured/internal/present"
)

// configPath is where the packages put the configuration.
const configPath = config.DefaultPath

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
	parent.AddCommand(newConfigCheck(), newConfigShow(), newConfigSchema())
	return parent
}

func newConfigCheck() *cobra.Command {
	return &cobra.Command{
		Use:               "check [FILE]",
		Short:             "Say what is wrong with a configuration file and its drop-ins, " + configPath + " by default",
		Args:              args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: files,
		RunE: func(cmd *cobra.Command, given []string) error {
			path, load := configPath, config.LoadOptional
			if len(given) == 1 {
				path, load = given[0], config.Load
			}
			cfg, err := load(path)
			if err != nil {
				return &exitError{exitConfig, err}
			}
			// What the parts of kured find is not of a line.
			_, err = (&house{env: os.Getenv}).program(cfg)
			if err = errors.Join(err, checkHTTPFiles(cfg)); err != nil {
				each := strings.ReplaceAll(err.Error(), "\n", "\n"+path+": ")
				return &exitError{exitConfig, fmt.Errorf("%s: %s", path, each)}
			}
			return listFiles(cmd.OutOrStdout(), path)
		},
	}
}

// checkHTTPFiles reads the files of HTTP options and what they name. The daemon
// does that at each look, because they may change.
func checkHTTPFiles(cfg config.Config) error {
	var errs []error
	check := func(table string, i int, path string) {
		if path == "" {
			return
		}
		if err := alert.CheckHTTPConfigFile(path); err != nil {
			errs = append(errs, fmt.Errorf("%s[%d].http_config_file: %w", table, i+1, err))
		}
	}
	for i, c := range cfg.Prometheus {
		check("prometheus", i, c.HTTPConfigFile)
	}
	for i, c := range cfg.Alertmanager {
		check("alertmanager", i, c.HTTPConfigFile)
	}
	return errors.Join(errs...)
}

// listFiles says which files were read and are good.
func listFiles(out io.Writer, path string) error {
	files, err := config.Files(path)
	if err != nil {
		return err
	}
	for _, name := range files {
		verdict := "ok"
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			verdict = "missing, and need not exist"
		}
		if _, err := fmt.Fprintf(out, "%s: %s\n", name, verdict); err != nil {
			return err
		}
	}
	return nil
}

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

// schema is written by `make docs` from the structs of internal/config.
//
//go:embed kured.schema.json
var schema string

func newConfigSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema (draft 2020-12) of the configuration, for editors",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write([]byte(schema))
			return err
		},
	}
}
