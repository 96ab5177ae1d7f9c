package devcluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// started is a ramd that this run has started.
type started struct {
	node string
	pid  int
	// from is where its part of the log begins, in bytes.
	from int64
	// ended is closed when it has ended; err is set before.
	ended chan struct{}
	err   error
}

// ramdProgram is the ramd beside a ramctrl, or the first one in PATH.
func ramdProgram(own, path string) (string, error) {
	if real, err := filepath.EvalSymlinks(own); err == nil {
		own = real
	}
	beside := filepath.Join(filepath.Dir(own), "ramd")
	for _, candidate := range append([]string{beside}, inPath(path)...) {
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("ramd is neither beside ramctrl (%s) nor in PATH: install both in one directory, or make build", filepath.Dir(own))
}

func inPath(path string) []string {
	var candidates []string
	for _, dir := range filepath.SplitList(path) {
		if filepath.IsAbs(dir) {
			candidates = append(candidates, filepath.Join(dir, "ramd"))
		}
	}
	return candidates
}

// start runs a ramd in a session of its own, which goes on when this process ends.
func (p *place) start(program, node string, environ []string) (*started, error) {
	if err := makeAll(p.data(node)); err != nil {
		return nil, fmt.Errorf("make the directory of node %s: %w", node, err)
	}
	log, err := os.OpenFile(p.log(node), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the log of node %s: %w", node, err)
	}
	defer log.Close()
	from, err := log.Seek(0, 2)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, p.arguments(node)...)
	cmd.Dir = "/"
	cmd.Env = ramdEnviron(environ)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start ramd of node %s: %w", node, err)
	}
	s := &started{node: node, pid: cmd.Process.Pid, from: from, ended: make(chan struct{})}
	go func() {
		s.err = cmd.Wait()
		close(s.ended)
	}()
	return s, nil
}

func (p *place) arguments(node string) []string {
	args := []string{"start", "--spec", p.Spec, "--node", node, "--data-dir", p.data(node), "--log-format", "text"}
	if p.Watch {
		args = append(args, "--watch")
	}
	return append(args, p.variables()...)
}

// variables are the flags that give the spec's variables their values.
func (p *place) variables() []string {
	var flags []string
	for _, v := range p.Vars {
		flags = append(flags, "--var", v)
	}
	for _, f := range p.VarFiles {
		flags = append(flags, "--var-file", f)
	}
	return flags
}

// ramdEnviron is the environment without what is meant for another ramd, and
// without ramctrl's token.
func ramdEnviron(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return strings.HasPrefix(name, "RAMD_") && name != "RAMD_LOG_LEVEL" || name == "RAM_TOKEN"
	})
}

// alive reports whether it still runs.
func (s *started) alive() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// died says how a ramd ended, with the end of what it has logged.
func (p *place) died(s *started) error {
	how := "it ended"
	var exit *exec.ExitError
	switch {
	case errors.As(s.err, &exit):
		how = exit.String()
	case s.err != nil:
		how = s.err.Error()
	}
	return fmt.Errorf("ramd of node %s did not stay (%s); the end of its log %s:\n%s", s.node, how, p.log(s.node), p.tail(s.node, s.from))
}

// tailLines is how much of a log an error shows.
const tailLines = 8

// tail is the end of a node's log, of what was written after an offset.
func (p *place) tail(node string, from int64) string {
	text, err := os.ReadFile(p.log(node))
	if err != nil {
		return "  (" + err.Error() + ")"
	}
	text = text[min(from, int64(len(text))):]
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	if len(lines) == 1 && lines[0] == "" {
		return "  (nothing)"
	}
	return "  " + strings.Join(lines, "\n  ")
}
