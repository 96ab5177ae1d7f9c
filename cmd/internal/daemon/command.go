package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/buildinfo"
	"github.com/ramhq/ram/pg/guard"
)

// Exit codes of ramd.
const (
	exitDone  = 0
	exitError = 1
	exitUsage = 2
)

// errUsage marks errors in how ramd was called.
type errUsage struct{ error }

// Unwrap is the error itself.
func (e errUsage) Unwrap() error { return e.error }

// Main is ramd: it returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr *os.File) int {
	if len(args) == 1 && args[0] == guardCommand {
		return guard.Main(stdin, stdout, stderr)
	}
	if len(args) > 0 && args[0] == walCommand {
		return walMain(args[1:], stderr)
	}
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(stderr, "ramd: %s\n", err)
	var usage errUsage
	if errors.As(err, &usage) {
		fmt.Fprintln(stderr, "Try ramd --help.")
		return exitUsage
	}
	return exitError
}

// stopAllSignal ends ramd and its PostgreSQL: what ramd stop --postgres sends.
const stopAllSignal = syscall.SIGUSR1

// guardCommand makes this program a guard; only ramd itself calls it.
const guardCommand = "guard"

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "ramd",
		Short: "The daemon that makes PostgreSQL on this host what the cluster's spec says",
		Long: `ramd runs on every host of a PostgreSQL cluster. Started with the same spec
everywhere, the daemons form one Raft group, keep the spec in it, and make real
PostgreSQL servers match it. ramctrl plans and applies changes.

Every flag can also be given as an environment variable: --data-dir as
RAMD_DATA_DIR. A flag wins over the environment.`,
		SilenceUsage: true, SilenceErrors: true,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return errUsage{err} })
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return fromEnvironment(cmd) }
	root.AddCommand(startCommand(), stopCommand(), statusCommand(), infoCommand(), logLevelCommand(), recoverCommand(), versionCommand())
	return root
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return errUsage{fmt.Errorf("%s takes no argument, and got %q", cmd.CommandPath(), args[0])}
	}
	return nil
}

// runtimeEnvironment is what ramd's own Go runtime was told, which the commands of ramd
// that PostgreSQL runs are to be told too.
func runtimeEnvironment() []string {
	var env []string
	for _, name := range []string{"GODEBUG", "GORACE", "GOTRACEBACK"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// fromEnvironment sets flags that were not given from RAMD_ variables.
func fromEnvironment(cmd *cobra.Command) error {
	for _, name := range []string{"spec", "node", "data-dir", "watch", "insecure", "watchdog", "var", "var-file", "log-level", "log-format", "daemonize"} {
		flag := cmd.Flags().Lookup(name)
		if flag == nil || flag.Changed {
			continue
		}
		variable := "RAMD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		v, ok := os.LookupEnv(variable)
		if !ok {
			continue
		}
		if err := flag.Value.Set(v); err != nil {
			return errUsage{fmt.Errorf("%s=%q: %w", variable, v, err)}
		}
	}
	return nil
}

type startFlags struct {
	Options
	logLevel, logFormat string
	foreground          bool
	daemonize           bool
}

func startCommand() *cobra.Command {
	var f startFlags
	cmd := &cobra.Command{
		Use:   "start --spec cluster.hcl --node NAME",
		Short: "Run the daemon for one node of a cluster",
		Long: `Runs the daemon for one node, in the foreground, until SIGTERM or ramd stop.

All daemons of a new cluster are started with the same spec: when every initial
voter is there they form the cluster. A daemon without state whose cluster exists
already joins it, once an applied spec has its node. PostgreSQL is set up by
ramctrl apply, or at once with --watch.

Stopping or upgrading ramd leaves PostgreSQL running. The primary of a ramd that is
killed, or that is stopped in async mode, ends when its lease does (failover.lease),
unless ramd is back before.`,
		Example: `  ramd start --spec cluster.hcl --node a
  ramd start --spec /etc/ram/cluster.hcl --node a --data-dir /var/lib/ram --watch`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runStart(cmd, f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.SpecPath, "spec", "", "the cluster's spec: a file or a directory of *.hcl files")
	fs.StringVar(&f.Node, "node", "", "the node of the spec that this host is")
	fs.StringVar(&f.DataDir, "data-dir", "", "ramd's own directory (default /var/lib/ram/CLUSTER/NODE as root)")
	fs.BoolVar(&f.Watch, "watch", false, "apply the spec file by itself whenever it changes")
	fs.StringVar(&f.Watchdog, "watchdog", "", "watchdog device, such as /dev/watchdog: the kernel resets the host when the guard of a primary stands still")
	fs.BoolVar(&f.Insecure, "insecure", false, "listen on other than loopback addresses although there is no TLS")
	fs.StringArrayVar(&f.Vars, "var", nil, "value of a variable of the spec: name=value")
	fs.StringArrayVar(&f.VarFiles, "var-file", nil, "file with values of variables")
	fs.StringVar(&f.logLevel, "log-level", "info", "trace, debug, info, warn or error; ramd log-level changes it at run time")
	fs.StringVar(&f.logFormat, "log-format", "auto", "json, text, or auto: text on a terminal")
	fs.BoolVar(&f.foreground, "foreground", false, "stay in the foreground, which is the default")
	fs.BoolVar(&f.daemonize, "daemonize", false, "go to the background once the daemon has started")
	cmd.MarkFlagsMutuallyExclusive("foreground", "daemonize")
	return cmd
}

func runStart(cmd *cobra.Command, f startFlags) error {
	gate := &levelGate{}
	if err := gate.set(f.logLevel); err != nil {
		return errUsage{err}
	}
	log, err := newLogger(os.Stderr, f.logFormat, gate)
	if err != nil {
		return errUsage{err}
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	f.GuardCommand, f.Env = []string{program, guardCommand}, runtimeEnvironment()
	if f.daemonize {
		return daemonize(cmd, program, f.Options)
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	all := make(chan os.Signal, 1)
	signal.Notify(all, stopAllSignal)
	defer signal.Stop(all)
	f.StopAll = all
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	go followLevel(ctx, hup, gate, f, log)
	return Run(ctx, f.Options, log)
}

// followLevel makes the word in the log-level file the log level at each SIGHUP;
// without that file it goes back to the flag's.
func followLevel(ctx context.Context, hup <-chan os.Signal, gate *levelGate, f startFlags, log zerolog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		level := f.logLevel
		if s, err := f.read(); err == nil {
			if dir, err := f.dataDir(s); err == nil {
				if b, err := os.ReadFile(levelPath(dir)); err == nil {
					level = string(b)
				}
			}
		}
		if err := gate.set(level); err != nil {
			log.Warn().Err(err).Msg("log level stays as it is")
			continue
		}
		log.WithLevel(zerolog.InfoLevel).Str("now", strings.TrimSpace(level)).Msg("log level changed")
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of ramd", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "ramd", buildinfo.String())
			return err
		},
	}
}
