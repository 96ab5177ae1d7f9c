package ctl

import (
	"github.com/spf13/cobra"
)

const (
	groupSpec    = "spec"
	groupCluster = "cluster"
	groupActions = "actions"
	groupOther   = "other"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ramctrl",
		Short: "Plan, apply and look after a PostgreSQL cluster that ramd runs",
		Long: `ramctrl is the operator's hand on a cluster of ramd daemons: it plans and applies
the cluster's spec, shows what goes on, and starts what is done by hand.

It talks to any node of the cluster. Where: --addr or RAM_ADDR, several addresses
with commas, 127.0.0.1:8080 when neither is given. With which token: --token-file,
or RAM_TOKEN (the token itself), or RAM_TOKEN_FILE. Every ramd writes the token
to admin.token in its --data-dir.

Exit codes: 0 done, 1 error, 2 usage.`,
		Example: `  ramctrl validate cluster.hcl
  ramctrl plan cluster.hcl
  ramctrl apply cluster.hcl
  ramctrl status --watch`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&a.addr, "addr", "", "addresses of ramds, `HOST:PORT` with commas between (RAM_ADDR; default 127.0.0.1:8080)")
	flags.StringVar(&a.tokenFile, "token-file", "", "`FILE` that holds the admin token (RAM_TOKEN, RAM_TOKEN_FILE)")
	flags.StringVarP(&a.output, "output", "o", outputText, "output `FORMAT`: text or json")
	root.AddGroup(
		&cobra.Group{ID: groupSpec, Title: "The spec:"},
		&cobra.Group{ID: groupCluster, Title: "The cluster:"},
		&cobra.Group{ID: groupActions, Title: "Actions:"},
		&cobra.Group{ID: groupOther, Title: "Others:"},
	)
	root.SetHelpCommandGroupID(groupOther)
	a.addCommands(root)
	return root
}

// addCommands lists every verb. Commands of other packages, such as a cluster
// on this machine for trying things out, are added here as well.
func (a *app) addCommands(root *cobra.Command) {
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupSpec, a.validateCommand(), a.fmtCommand(), a.planCommand(), a.applyCommand(), a.historyCommand(), a.rollbackCommand())
	add(groupCluster, a.statusCommand(), a.nodesCommand(), a.eventsCommand(), a.explainCommand(), a.healthCommand(), a.dsnCommand(), a.psqlCommand())
	add(groupActions, a.restartCommand(), a.reloadCommand(), a.reinitCommand(), a.switchoverCommand(), a.failoverCommand(), a.pauseCommand(), a.resumeCommand(), a.backupCommand())
	add(groupOther, a.devCommand(), a.versionCommand(), a.completionCommand())
}
