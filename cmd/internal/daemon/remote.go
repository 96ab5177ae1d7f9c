package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/netx"
	"github.com/ramhq/ram/pg"
)

// local finds the ramd of this host, for the commands that talk to it.
type local struct {
	Options
	output string
}

func (l *local) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.DataDir, "data-dir", "", "the directory that ramd was started with")
	cmd.Flags().StringVar(&l.SpecPath, "spec", "", "the spec that ramd was started with, instead of --data-dir")
	cmd.Flags().StringVar(&l.Node, "node", "", "the node that ramd was started with, instead of --data-dir")
}

func (l *local) dir() (string, error) {
	if l.DataDir != "" {
		return filepath.Abs(l.DataDir)
	}
	if l.SpecPath == "" {
		return "", errUsage{errors.New("which ramd? Use --data-dir, or --spec and --node, as it was started with")}
	}
	l.Insecure = true
	s, err := l.read()
	if err != nil {
		return "", err
	}
	return l.dataDir(s)
}

// find is the ramd that runs on the directory.
func (l *local) find() (dir string, r running, err error) {
	if dir, err = l.dir(); err != nil {
		return "", r, err
	}
	if r, err = findRunning(dir); err != nil {
		return dir, r, err
	}
	if syscall.Kill(r.PID, 0) != nil {
		return dir, r, fmt.Errorf("no ramd runs on %s: its last one (pid %d) was killed", dir, r.PID)
	}
	return dir, r, nil
}

func (l *local) call(ctx context.Context, dir string, r running, method, path string, in, out any) error {
	token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("ramd (pid %d) is not a member of a cluster yet: see its log", r.PID)
	}
	if err != nil {
		return err
	}
	transport := netx.NewTransport()
	defer transport.CloseIdleConnections()
	p := peers{http: &http.Client{Transport: transport, Timeout: 10 * time.Second}, token: func() string { return strings.TrimSpace(string(token)) }}
	return p.call(ctx, r.Address, method, api.Prefix+path, in, out)
}

func stopCommand() *cobra.Command {
	var l local
	var postgres bool
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the ramd of this host; PostgreSQL keeps running unless told otherwise",
		Example: `  ramd stop --data-dir /var/lib/ram
  ramd stop --data-dir /var/lib/ram --postgres`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, r, err := l.find()
			if err != nil {
				return err
			}
			end := syscall.SIGTERM
			if postgres {
				end = stopAllSignal
			}
			if err := syscall.Kill(r.PID, end); err != nil {
				return fmt.Errorf("stop ramd (pid %d): %w", r.PID, err)
			}
			if err := awaitEnd(cmd.Context(), r.PID); err != nil {
				return err
			}
			what := "PostgreSQL keeps running"
			if postgres {
				what = "so has PostgreSQL"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "ramd of node %s has stopped; %s\n", r.Node, what)
			return nil
		},
	}
	l.flags(cmd)
	cmd.Flags().BoolVar(&postgres, "postgres", false, "also stop PostgreSQL on this host")
	return cmd
}

func awaitEnd(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for alive(pid) {
		if !sleep(ctx, 20*time.Millisecond) {
			return fmt.Errorf("ramd (pid %d) has not stopped in time: see its log", pid)
		}
	}
	return nil
}

// alive reports whether a process runs. One that has ended and that nobody has
// waited for, as under a container's first process, does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !bytes.Contains(stat, []byte(") Z "))
}

func infoCommand() *cobra.Command {
	var l local
	cmd := &cobra.Command{
		Use: "info", Short: "Show everything that the ramd of this host knows of itself, as JSON", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, err := l.info(cmd.Context())
			if err != nil {
				return err
			}
			encoder := json.NewEncoder(cmd.OutOrStdout())
			encoder.SetIndent("", "  ")
			return encoder.Encode(info)
		},
	}
	l.flags(cmd)
	return cmd
}

func (l *local) info(ctx context.Context) (api.Info, error) {
	var info api.Info
	dir, r, err := l.find()
	if err != nil {
		return info, err
	}
	return info, l.call(ctx, dir, r, http.MethodGet, "/info", nil, &info)
}

func statusCommand() *cobra.Command {
	var l local
	cmd := &cobra.Command{
		Use: "status", Short: "Show how the ramd of this host and its PostgreSQL are", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, err := l.info(cmd.Context())
			if err != nil {
				return err
			}
			if l.output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(info)
			}
			return printInfo(cmd, info)
		},
	}
	l.flags(cmd)
	cmd.Flags().StringVarP(&l.output, "output", "o", "text", "text or json")
	return cmd
}

func printInfo(cmd *cobra.Command, info api.Info) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		if v := fmt.Sprintf(format, args...); v != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, v)
		}
	}
	line("node", "%s of cluster %s", info.Node, info.Cluster)
	line("ramd", "%s, pid %d, up %s", info.Version, info.PID, time.Since(info.Started).Round(time.Second))
	line("phase", "%s", info.Phase)
	line("reason", "%s", info.Reason)
	line("raft", "%s, the leader is %s", info.RaftState, info.Leader)
	line("data directory", "%s", info.DataDir)
	if r := info.Report; r != nil && r.Data.State != "" {
		role := ""
		if r.Server.State == pg.ServerRunning {
			role = "primary, "
			if r.Server.Recovery {
				role = "standby, "
			}
		}
		line("postgresql", "%s%s, data directory %s", role, r.Server.State, r.Data.State)
		if r.Problem != nil {
			line("problem", "%s", r.Problem.Text)
		}
	}
	return w.Flush()
}

func logLevelCommand() *cobra.Command {
	var l local
	cmd := &cobra.Command{
		Use:   "log-level LEVEL",
		Short: "Change the log level of the running ramd: trace, debug, info, warn, error or default",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errUsage{errors.New("ramd log-level takes one level")}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			dir, r, err := l.find()
			if err != nil {
				return err
			}
			if args[0] == "default" {
				if err := os.Remove(levelPath(dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
				return syscall.Kill(r.PID, syscall.SIGHUP)
			}
			if err := new(levelGate).set(args[0]); err != nil {
				return errUsage{err}
			}
			if err := os.WriteFile(levelPath(dir), []byte(args[0]+"\n"), 0o644); err != nil {
				return err
			}
			return syscall.Kill(r.PID, syscall.SIGHUP)
		},
	}
	l.flags(cmd)
	return cmd
}

// daemonize starts the same command in the background and waits until it is
// there, or has failed.
func daemonize(cmd *cobra.Command, program string, opts Options) error {
	s, err := opts.read()
	if err != nil {
		return err
	}
	dir, err := opts.dataDir(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	logPath := filepath.Join(dir, "ramd.log")
	out, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer out.Close()
	from, _ := out.Seek(0, 2)
	args := []string{}
	for _, arg := range os.Args[1:] {
		if arg != "--daemonize" && !strings.HasPrefix(arg, "--daemonize=") {
			args = append(args, arg)
		}
	}
	child := exec.Command(program, args...)
	child.Env = append(os.Environ(), "RAMD_DAEMONIZE=false")
	child.Stdout, child.Stderr = out, out
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for {
		select {
		case <-ended:
			return fmt.Errorf("ramd did not start: %s", lastLine(logPath, from))
		case <-time.After(20 * time.Millisecond):
		}
		if r, err := findRunning(dir); err == nil && r.PID == child.Process.Pid {
			fmt.Fprintf(cmd.OutOrStdout(), "ramd of node %s runs (pid %d); its log is %s\n", s.node.Name, r.PID, logPath)
			return nil
		}
	}
}

func lastLine(path string, from int64) string {
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) <= from {
		return "see " + path
	}
	lines := bytes.Split(bytes.TrimSpace(b[from:]), []byte("\n"))
	return strings.TrimPrefix(string(lines[len(lines)-1]), "ramd: ")
}
