package instance

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ramhq/ram/pg/guard"
)

// child is one run of one of PostgreSQL's programs, as PostgreSQL's user, with a
// clean environment. It does not outlive ramd, nor the context.
type child struct {
	program string
	args    []string
	// env is added to the clean environment.
	env    []string
	stdout io.Writer
	// line is called with each line of the standard error stream; it returns false
	// for a line that is of no use in an error message. It may be nil.
	line func(text string) bool
	// deathSignal is what it gets when ramd dies; zero is SIGKILL.
	deathSignal syscall.Signal
}

// keptLines is how many lines of a failed program's complaints an error carries.
const keptLines = 6

// environment is all of a program's, with more of the form name=value.
func (i *Instance) environment(more ...string) []string {
	env := []string{"PATH=" + i.binaries.Dir + ":/usr/local/bin:/usr/bin:/bin", "LC_ALL=C"}
	return slices.Concat(env, i.cfg.Env, more)
}

// run waits for the program's end.
func (i *Instance) run(ctx context.Context, c child) error {
	complaints, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer complaints.Close()
	cmd := exec.CommandContext(ctx, i.binaries.path(c.program), c.args...)
	cmd.Dir = "/"
	cmd.Env = append(i.environment("PGAPPNAME=ramd"), c.env...)
	cmd.Stdout, cmd.Stderr = c.stdout, writer
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true, Pdeathsig: cmp.Or(c.deathSignal, syscall.SIGKILL), Credential: i.user.credential(),
	}
	// pg_basebackup has a child of its own: the whole group goes.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	ended := make(chan error, 1)
	go func() {
		// The kernel sends the parent-death signal when the thread that forked ends, so
		// this one is kept until the program has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		writer.Close()
		if err == nil {
			awaitGroup(cmd.Process.Pid)
			err = cmd.Wait()
		}
		ended <- err
	}()
	last := collect(complaints, c.line)
	if err := <-ended; err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("%s: %w%s", c.program, err, last)
	}
	return nil
}

// awaitGroup waits for a program's end and kills what it leaves behind:
// pg_basebackup's child, which receives the WAL, does not notice that its parent was
// killed. The program is not reaped yet, so the number of its group is not taken.
func awaitGroup(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL) // mostly there is nobody
}

// endOrphans kills programs that write to the new directory though ramd, who
// started them, was killed: the kernel ends the program itself with ramd, but not
// pg_basebackup's child, which would hold the replication slot for ever.
func (i *Instance) endOrphans() {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	found := false
	for _, line := range lines {
		text, _ := os.ReadFile(line)
		words := strings.Split(string(text), "\x00")
		if !slices.Contains(programs, filepath.Base(words[0])) || !slices.Contains(words, i.newData()) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(line, "/")[2]); err == nil {
			found = true
			_ = syscall.Kill(pid, syscall.SIGKILL)
			i.logger.Warn().Int("pid", pid).Str("program", filepath.Base(words[0])).Msg("killed a program that an earlier ramd has started")
		}
	}
	if found {
		time.Sleep(sourceNotices)
	}
	// A restore's server has children that look like any other's.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := guard.KillLeftovers(ctx, i.newData()); err != nil {
		i.logger.Warn().Err(err).Msg("a server that an earlier ramd has started does not end")
	}
}

// sourceNotices is time for the source of a clone to release the slot of a copier
// that was killed.
const sourceNotices = 300 * time.Millisecond

// collect reads until the last writer is gone and returns the last lines, ready to
// follow an error.
func collect(r io.Reader, keep func(string) bool) string {
	var last []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		if text == "" || (keep != nil && !keep(text)) {
			continue
		}
		last = append(last, text)
		last = last[max(0, len(last)-keptLines):]
	}
	_, _ = io.Copy(io.Discard, r) // after a line too long to scan, the program must not wait
	if len(last) == 0 {
		return ""
	}
	return ": " + strings.Join(last, "; ")
}

// output runs a program and returns what it prints.
func (i *Instance) output(ctx context.Context, program string, args ...string) (string, error) {
	var out bytes.Buffer
	err := i.run(ctx, child{program: program, args: args, stdout: &out})
	return out.String(), err
}
