package devcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ramhq/ram/pg/guard"
)

// Patience with what is stopped, before it is killed.
const (
	ramdPatience     = 15 * time.Second
	postgresPatience = 30 * time.Second
	killPatience     = 20 * time.Second
)

// down stops a dev cluster and removes its directory.
func (d *dev) down(ctx context.Context, args []string, keep bool) error {
	p, err := d.find(args)
	if err != nil {
		return err
	}
	release, err := p.claim()
	if err != nil {
		return err
	}
	defer release()
	stopped, err := p.stop(ctx, keep)
	if err != nil {
		return fmt.Errorf("%w\nNothing was removed; %s tries again", err, d.command("dev", "down", near(p.Spec)))
	}
	if keep {
		d.say("Dev cluster %s has stopped (%s); its data is kept in %s. Go on with: %s", p.Cluster, stopped, p.dir, d.command("dev", "up", near(p.Spec)))
		return nil
	}
	if err := d.remove(p); err != nil {
		return err
	}
	d.say("Dev cluster %s has stopped (%s), and %s is removed.", p.Cluster, stopped, p.dir)
	for _, dir := range stopped.outside {
		d.say("Left as it is: %s, a data directory that a spec has placed elsewhere.", dir)
	}
	return nil
}

// stopped is what a stop has ended.
type stopped struct {
	ramds, servers int
	// outside are data directories that are not below the dev directory.
	outside []string
}

// String counts it for people.
func (s stopped) String() string {
	if s.ramds == 0 && s.servers == 0 {
		return "nothing of it was running"
	}
	return fmt.Sprintf("%s, %s", count(s.ramds, "ramd"), count(s.servers, "PostgreSQL server"))
}

// stop ends every process of the dev cluster: the ramds first, for they would
// start PostgreSQL again, then PostgreSQL by its guards, then what has neither. It
// looks again until nothing is left, since a ramd that was killed may have been
// about to start something.
func (p *place) stop(ctx context.Context, keep bool) (stopped, error) {
	ctx, cancel := context.WithTimeout(ctx, ramdPatience+postgresPatience+killPatience)
	defer cancel()
	var total stopped
	for {
		left := p.ramds()
		if err := p.stopRamds(ctx, left); err != nil {
			return total, err
		}
		servers, outside, err := p.stopServers(ctx, keep)
		total.ramds += len(left)
		total.servers += servers
		total.outside = append(total.outside, outside...)
		if err != nil {
			return total, err
		}
		if err := p.killRest(ctx); err != nil {
			return total, err
		}
		if len(left) == 0 && servers == 0 && len(p.processes()) == 0 {
			return total, nil
		}
	}
}

func (p *place) stopRamds(ctx context.Context, ramds map[string]process) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for _, q := range ramds {
			if err := p.signal(q, sig); err != nil {
				return fmt.Errorf("stop ramd of node %s (pid %d): %w", q.node, q.pid, err)
			}
		}
		gone := func() bool { return !p.anyLeft(ramds) }
		if waitFor(ctx, ramdPatience, gone) {
			return nil
		}
	}
	return fmt.Errorf("a ramd does not end although it was killed: %w", ctx.Err())
}

func (p *place) anyLeft(ramds map[string]process) bool {
	for _, q := range ramds {
		if now, ok := p.judge(q.pid); ok && now.node == q.node {
			return true
		}
	}
	return false
}

// waitFor looks until something is so; false when patience is at an end.
func waitFor(ctx context.Context, patience time.Duration, so func() bool) bool {
	limit := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-limit:
			return so()
		case <-ctx.Done():
			return so()
		}
	}
	return true
}

// stopServers has the guards stop their servers, all at once. Data that is to be
// removed needs no checkpoint.
func (p *place) stopServers(ctx context.Context, keep bool) (servers int, outside []string, err error) {
	nodes, err := p.nodeDirs()
	if err != nil {
		return 0, nil, err
	}
	mode := guard.Immediate
	if keep {
		mode = guard.Fast
	}
	dirs := make([]string, len(nodes)) // of the servers that were stopped
	group, ctx := errgroup.WithContext(ctx)
	for i, node := range nodes {
		group.Go(func() (err error) {
			dirs[i], err = p.stopServer(ctx, node, mode)
			return err
		})
	}
	err = group.Wait()
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		servers++
		if p.nodeOf(dir) == "" {
			outside = append(outside, dir)
		}
	}
	return servers, outside, err
}

// stopServer returns the data directory of the server that it has stopped, or
// empty when the node has no guard.
func (p *place) stopServer(ctx context.Context, node string, mode guard.Mode) (dataDir string, err error) {
	hello, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := guard.Connect(hello, p.guard(node))
	if errors.Is(err, guard.ErrNoGuard) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("stop PostgreSQL of node %s: %w", node, err)
	}
	defer client.Close()
	dataDir = client.Last().DataDir
	var refusal *guard.Error
	err = client.Stop(ctx, mode, postgresPatience)
	if err != nil && !errors.Is(err, guard.ErrLost) && !(errors.As(err, &refusal) && refusal.Code == guard.CodeEnded) {
		return dataDir, fmt.Errorf("stop PostgreSQL of node %s: %w", node, err)
	}
	select {
	case <-client.Done():
		return dataDir, nil
	case <-ctx.Done():
		return dataDir, fmt.Errorf("PostgreSQL of node %s has not stopped: %w", node, ctx.Err())
	}
}

// killRest ends what no ramd and no guard looks after: guards that do not
// answer, programs that build a data directory, servers whose guard was killed.
func (p *place) killRest(ctx context.Context) error {
	for _, q := range p.processes() {
		if q.kind == ramd {
			continue
		}
		// A guard that has just said its last word needs a moment to go.
		one := map[string]process{q.node: q}
		if q.kind == guarding && waitFor(ctx, time.Second, func() bool { return !p.anyLeft(one) }) {
			continue
		}
		if err := p.signal(q, syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill %s (pid %d): %w", q.kind, q.pid, err)
		}
		waitFor(ctx, killPatience, func() bool { return !p.anyLeft(one) })
	}
	return p.killServers(ctx)
}

// killServers ends servers that have no guard, in every directory that may be a
// data directory: the node's own, one that was being built, those set aside.
func (p *place) killServers(ctx context.Context) error {
	dirs, err := filepath.Glob(filepath.Join(p.dir, "*", "postgres*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		for _, data := range []string{dir, filepath.Join(dir, "data")} {
			if info, err := os.Stat(data); err != nil || !info.IsDir() {
				continue
			}
			if err := guard.KillLeftovers(ctx, data); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove takes away the directory, our mark last, so that a removal that was
// interrupted can be taken up again; and the place of all dev clusters with the
// last of them.
func (d *dev) remove(p *place) error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(p.dir, e.Name())
		if path == memoryPath(p.dir) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove the dev cluster's data: %w", err)
		}
	}
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("remove the dev directory: %w", err)
	}
	if base, err := d.base(); err == nil && filepath.Dir(p.dir) == base {
		_ = os.Remove(base) // refused while there is another
	}
	return nil
}
