package main

import (
	_ "embed"

	"github.com/spf13/cobra"
)

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
