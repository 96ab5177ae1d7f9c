package ctl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// notBuiltCommands are verbs that the operator contract names and whose
// behaviour this version does not have. They take any arguments, so that
// scripts written for a later version get a clear answer.
func (a *app) notBuiltCommands() []*cobra.Command {
	verbs := []struct{ name, does string }{
		{"backup", "Take and restore backups"},
	}
	var commands []*cobra.Command
	for _, verb := range verbs {
		commands = append(commands, &cobra.Command{
			Use:                verb.name,
			Short:              verb.does + " (not built yet)",
			Long:               verb.does + ". This is not built yet in this version of ram.",
			DisableFlagParsing: true,
			RunE:               a.notBuilt(verb.name),
		})
	}
	return commands
}

func (a *app) notBuilt(name string) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		for _, arg := range args {
			if arg == "-h" || arg == "--help" {
				return cmd.Help()
			}
		}
		a.output = outputText
		return a.do(func(context.Context, *cobra.Command, []string) error {
			return fmt.Errorf("%s is not built yet in this version of ram: see ramctrl --help for what is", name)
		})(cmd, args)
	}
}
