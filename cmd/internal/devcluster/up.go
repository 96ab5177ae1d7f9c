package devcluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/spec"
)

type upFlags struct {
	vars     []string
	varFiles []string
	watch    bool
	timeout  time.Duration
	// given reports whether a flag was on the command line.
	given func(name string) bool
}

// recall fills in what was not given this time from what the dev cluster of that
// spec was started with.
func (d *dev) recall(path string, f upFlags) upFlags {
	var args []string
	if d.dir == "" {
		args = []string{path}
	}
	p, err := d.find(args)
	if err != nil || !sameFile(path, p.Spec) {
		return f
	}
	if !f.given("var") && !f.given("var-file") {
		f.vars, f.varFiles = p.Vars, p.VarFiles
	}
	if !f.given("watch") {
		f.watch = p.Watch
	}
	return f
}

// up starts what is missing of a dev cluster and waits until it is there.
func (d *dev) up(ctx context.Context, path string, f upFlags) error {
	began := time.Now()
	f = d.recall(path, f)
	cluster, err := d.load(path, f)
	if err != nil {
		return err
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := ramdProgram(own, d.getenv("PATH"))
	if err != nil {
		return err
	}
	p, err := d.settle(cluster, path, f)
	if err != nil {
		return err
	}
	release, err := p.claim()
	if err != nil {
		return err
	}
	defer release()
	fresh := !p.formed()
	run, err := d.startMissing(p, cluster, program)
	if err != nil {
		return errors.Join(err, d.emptied(p))
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	waiting, err := d.await(ctx, p, cluster, run, fresh)
	if err != nil {
		return fmt.Errorf("%w\n%s removes what was started; %s tries again", err, d.command("dev", "down", near(p.Spec)), d.command("dev", "up", near(p.Spec)))
	}
	switch took := render.Elapsed(time.Since(began)); {
	case len(run) == 0:
		d.say("%s", d.Style().Good("All of it runs already."))
	case fresh:
		d.say("%s", d.Style().Good("The cluster has formed after "+took+"."))
	default:
		d.say("%s", d.Style().Good(fmt.Sprintf("%s started after %s.", count(len(run), "ramd"), took)))
	}
	if len(waiting) > 0 {
		d.say("Node %s becomes a member when a spec that has it is applied.", strings.Join(waiting, ", "))
	}
	d.next(p)
	return nil
}

// settle finds or makes the directory, after everything that can be checked
// without it.
func (d *dev) settle(c *spec.Cluster, path string, f upFlags) (*place, error) {
	dir, err := d.directory(c.Name)
	if err != nil {
		return nil, err
	}
	if err := checkHere(c, dir); err != nil {
		return nil, err
	}
	now := memory{Cluster: c.Name, Vars: f.vars, Watch: f.watch}
	if now.Spec, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	for _, file := range f.varFiles {
		abs, err := filepath.Abs(file)
		if err != nil {
			return nil, err
		}
		now.VarFiles = append(now.VarFiles, abs)
	}
	p, err := open(dir)
	if errors.Is(err, errNone) {
		return create(dir, now)
	}
	if err != nil {
		return nil, err
	}
	if p.Cluster != c.Name || !sameFile(path, p.Spec) {
		return nil, fmt.Errorf("%s holds dev cluster %s of another spec, %s: remove it with ramctrl dev down --dir %s, or choose another directory with --dir",
			dir, p.Cluster, p.Spec, shellWord(dir))
	}
	p.Spec, p.Vars, p.VarFiles, p.Watch = now.Spec, now.Vars, now.VarFiles, now.Watch
	return p, nil
}

// startMissing starts a ramd for each node that has none, when all of them can be.
func (d *dev) startMissing(p *place, c *spec.Cluster, program string) ([]*started, error) {
	running := p.ramds()
	var inTheWay []error
	for _, n := range c.Nodes {
		if _, runs := running[n.Name]; !runs {
			inTheWay = append(inTheWay, p.checkPorts(n))
		}
	}
	if err := errors.Join(inTheWay...); err != nil {
		return nil, err
	}
	p.note(c)
	if err := p.remember(); err != nil {
		return nil, err
	}
	d.say("Dev cluster %s in %s:", d.Style().Bold(c.Name), p.dir)
	var run []*started
	for _, n := range c.Nodes {
		if q, runs := running[n.Name]; runs {
			d.say("  node %s  runs at %s (pid %d)%s", n.Name, apiAddress(n), q.pid, p.unwatched(q))
			continue
		}
		s, err := p.start(program, n.Name, d.Environ)
		if err != nil {
			return run, err
		}
		run = append(run, s)
		d.say("  node %s  started at %s (pid %d)", n.Name, apiAddress(n), s.pid)
	}
	for _, name := range slices.Sorted(maps.Keys(running)) {
		if _, wanted := c.Node(name); !wanted {
			d.say("  node %s  is no longer in the spec; its ramd goes on (pid %d) until dev down", name, running[name].pid)
		}
	}
	return run, nil
}

func apiAddress(n spec.Node) string { return net.JoinHostPort(n.Host, strconv.Itoa(n.Ports.API)) }

// unwatched says that a running ramd does not do what --watch now asks for.
func (p *place) unwatched(q process) string {
	if p.Watch && !slices.Contains(q.args, "--watch") {
		return "; it was started without --watch: ramctrl dev down --keep, then dev up --watch"
	}
	return ""
}

// note keeps where the nodes are; those that are no longer in the spec stay known.
func (p *place) note(c *spec.Cluster) {
	for _, n := range c.Nodes {
		m := member{n.Name, apiAddress(n)}
		if i := slices.IndexFunc(p.Nodes, func(have member) bool { return have.Name == m.Name }); i >= 0 {
			p.Nodes[i] = m
		} else {
			p.Nodes = append(p.Nodes, m)
		}
	}
}

// emptied removes a directory that holds nothing but our mark, after nothing
// could be started.
func (d *dev) emptied(p *place) error {
	entries, err := os.ReadDir(p.dir)
	if err != nil || len(entries) != 1 {
		return nil
	}
	return d.remove(p)
}

// next says what can be done with the cluster.
func (d *dev) next(p *place) {
	path := near(p.Spec)
	lines := [][2]string{{fmt.Sprintf(`eval "$(%s)"`, d.command("dev", "env", path)), "lead ramctrl in this shell to it"}}
	if p.Watch {
		lines = append(lines, [2]string{d.command("status", "--watch"), "see it being set up"})
	} else {
		lines = append(lines,
			[2]string{d.command(append([]string{"plan", path}, p.variables()...)...), "what would be done"},
			[2]string{d.command(append([]string{"apply", path}, p.variables()...)...), "do it"})
	}
	lines = append(lines,
		[2]string{d.command("dev", "status", path), "the ramds, their logs, the cluster"},
		[2]string{d.command("dev", "down", path), "stop and remove everything"})
	width := 0
	for _, line := range lines {
		width = max(width, len(line[0]))
	}
	d.say("\nNext:")
	for _, line := range lines {
		d.say("  %-*s  %s", width, line[0], d.Style().Faint("# "+line[1]))
	}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
