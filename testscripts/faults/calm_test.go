package faults

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ramhq/ram/testscripts/cluster"
)

// BenchmarkCalm counts failovers of a cluster that nothing happens to, for RAM_BENCH_CALM
// (1m) at rest and as long under pgbench, which leaves no core idle, with each of the
// times in RAM_BENCH_DETECT (1s). Aim: none.
func BenchmarkCalm(b *testing.B) {
	lasting := time.Minute
	if text := os.Getenv("RAM_BENCH_CALM"); text != "" {
		var err error
		if lasting, err = time.ParseDuration(text); err != nil {
			b.Fatal(err)
		}
	}
	detects := strings.Fields(os.Getenv("RAM_BENCH_DETECT"))
	if len(detects) == 0 {
		detects = []string{"1s"}
	}
	for _, detect := range detects {
		for _, load := range []struct {
			name  string
			under func(*Cluster, func())
		}{
			{"at rest", func(_ *Cluster, do func()) { do() }},
			{"pgbench", (*Cluster).underPgbench},
		} {
			b.Run("detect "+detect+"/"+load.name, func(b *testing.B) {
				s := threeNodes
				s.Cluster = "  failover { detect = \"" + detect + "\" }"
				c := New(b, s)
				c.Form()
				for b.Loop() {
					load.under(c, func() { c.stayCalm(b, lasting) })
				}
			})
		}
	}
}

// stayCalm watches the cluster for a while: how many primaries were replaced, how often
// Raft had another leader, and how long a client that writes now and then had to wait.
func (c *Cluster) stayCalm(b *testing.B, lasting time.Duration) {
	before := c.AwaitConverged()
	w := c.StartWriter(Pace{Every: 50 * time.Millisecond, Timeout: 10 * time.Second})
	c.AwaitAcknowledged(w, 1)
	leader, led := before.Raft.Leader, 0
	for end := time.Now().Add(lasting); time.Now().Before(end); time.Sleep(time.Second) {
		if s, err := c.Status(); err == nil && s.Raft.Leader != "" && s.Raft.Leader != leader {
			leader = s.Raft.Leader
			led++
		}
	}
	l := w.Stop()
	after := c.AwaitConverged()
	c.CheckLedger(after.Primary, l)
	b.ReportMetric(float64(after.Term-before.Term), "failovers")
	b.ReportMetric(float64(led), "leader-changes")
	b.ReportMetric(float64(l.LongestOutage().Length())/1e6, "longest-wait-ms")
}

// underPgbench does something while pgbench keeps both cores busy.
func (c *Cluster) underPgbench(do func()) {
	c.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	first := c.pgbench(ctx, "-i", "-q", "-s", "10")
	c.must(c.Client.Start(first))
	c.must(first.Wait())
	ended := make(chan struct{})
	defer func() {
		stop()
		<-ended
	}()
	cmd := c.pgbench(ctx, "-n", "-c", "16", "-j", "2", "-T", "86400")
	c.must(c.Client.Start(cmd))
	go func() {
		defer close(ended)
		for {
			_ = cmd.Wait() // with its primary, or with ctx
			sleep(ctx, time.Second)
			again := exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
			again.Env = cmd.Env
			if cmd = again; ctx.Err() != nil || c.Client.Start(cmd) != nil {
				return
			}
		}
	}()
	do()
}

// pgbench is a run of pgbench on the client's host with whichever node takes writes. It
// is killed with ctx.
func (c *Cluster) pgbench(ctx context.Context, args ...string) *exec.Cmd {
	c.t.Helper()
	path, err := cluster.Program("pgbench")
	c.must(err)
	config := c.Superuser()
	hosts := []string{config.Host}
	for _, f := range config.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PGHOST="+strings.Join(hosts, ","), "PGPORT="+strconv.Itoa(int(config.Port)), "PGUSER="+config.User,
		"PGPASSWORD="+config.Password, "PGDATABASE="+config.Database, "PGTARGETSESSIONATTRS=read-write", "PGCONNECT_TIMEOUT=5")
	return cmd
}
