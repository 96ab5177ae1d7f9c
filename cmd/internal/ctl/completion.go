package ctl

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) completionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes ramctrl's commands in a shell",
		Long: `Print a completion script. Load it in the running shell, or put it where the shell
looks for completions.`,
		Example: `  source <(ramctrl completion bash)
  ramctrl completion bash > /etc/bash_completion.d/ramctrl
  ramctrl completion zsh > "${fpath[1]}/_ramctrl"
  ramctrl completion fish > ~/.config/fish/completions/ramctrl.fish`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
	}
	cmd.RunE = a.do(func(_ context.Context, cmd *cobra.Command, args []string) error {
		switch args[0] {
		case "bash":
			return cmd.Root().GenBashCompletionV2(a.sys.Stdout, true)
		case "zsh":
			return cmd.Root().GenZshCompletion(a.sys.Stdout)
		default:
			return cmd.Root().GenFishCompletion(a.sys.Stdout, true)
		}
	})
	return cmd
}
