package ctl

import (
	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/devcluster"
)

func (a *app) devCommand() *cobra.Command {
	return devcluster.Command(devcluster.Surroundings{
		Stdout: a.sys.Stdout, Stderr: a.sys.Stderr, Environ: a.sys.Environ, LookupEnv: a.sys.LookupEnv,
		JSON: a.json, Style: a.style,
		Do: func(act devcluster.Action) func(*cobra.Command, []string) error { return a.do(act) },
	})
}
