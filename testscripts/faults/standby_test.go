package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// TestFaultsStandbys is about standbys that lag, do not replay, or cannot go on, when
// the primary is lost or not.
func TestFaultsStandbys(t *testing.T) {
	thorough(t)
	s := threeNodes
	s.Parameters = "      max_standby_streaming_delay = -1\n      max_slot_wal_keep_size = \"32MB\"\n"
	c := New(t, s)
	c.Form()
	for _, p := range []struct {
		rule string
		part func(c *Cluster, watch *Watch)
	}{
		{"standby with a paused replay is promoted, with all that it received", pausedReplay},
		{"standby whose replay is held up by a query is promoted", blockedReplay},
		{"only caught-up standby lost with the primary: the one that lags is not promoted", onlyCaughtUpLost},
		{"lag grows during a switchover: the target catches up while the old primary shuts down", lagThatIsMadeUp},
		{"lag grows during a switchover, and stays: there is a primary in the end", lagThatStays},
		{"slot lost while the standby is away: cloned anew", slotLost},
		{"WAL that a rewind needs is gone: cloned anew, and the old copy kept until it streams", rewindWithoutWAL},
	} {
		c.Part(p.rule, func(*testing.T) {
			c.settled()
			watch := c.Watch(Pace{})
			c.AwaitAcknowledged(watch.Writer, 20)
			p.part(c, watch)
			c.AwaitAcknowledged(watch.Writer, 20)
			watch.Check()
		})
	}
}

func pausedReplay(c *Cluster, watch *Watch) {
	c.t.Helper()
	old := c.Primary()
	for _, standby := range c.Others(old) {
		c.execOn(standby, "SELECT pg_wal_replay_pause()")
	}
	c.AwaitAcknowledged(watch.Writer, 100)
	c.KillPostmaster(old)
	c.AwaitNewPrimary(old)
	for _, standby := range c.Others(c.Primary()) {
		// A replay that was paused by hand stays so until somebody resumes it.
		_, _ = column[any](c, standby, "SELECT CASE WHEN pg_is_in_recovery() AND pg_is_wal_replay_paused() THEN pg_wal_replay_resume()::text END")
	}
}

func blockedReplay(c *Cluster, watch *Watch) {
	c.t.Helper()
	old := c.Primary()
	table := c.newTable("held")
	for _, standby := range c.Others(old) {
		c.until("the table is on "+standby, func() bool {
			_, err := column[int64](c, standby, "SELECT number FROM "+table)
			return err == nil
		})
		c.hold(standby, table)
	}
	c.Exec("DROP TABLE " + table)
	c.AwaitAcknowledged(watch.Writer, 100)
	for _, standby := range c.Others(old) {
		if column, err := column[bool](c, standby, "SELECT to_regclass('"+table+"') IS NOT NULL"); err != nil || !column[0] {
			c.t.Fatalf("replay on %s is not held up: %v, %v", standby, column, err)
		}
	}
	c.KillPostmaster(old)
	c.AwaitNewPrimary(old)
	c.AwaitAcknowledged(watch.Writer, 20)
	for _, name := range c.Nodes() {
		_, _ = column[bool](c, name, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%"+table+"'")
	}
}

// hold opens a transaction on a standby that reads a table, which no replay of its
// removal may pass.
func (c *Cluster) hold(standby, table string) {
	c.t.Helper()
	ctx := context.Background()
	conn, err := pgx.ConnectConfig(ctx, at(c.Superuser(), c.Host(standby), c.Client))
	c.must(err)
	c.t.Cleanup(func() { closeNow(conn.PgConn()) })
	_, err = conn.Exec(ctx, "BEGIN; SELECT number FROM "+table)
	c.must(err)
}

func onlyCaughtUpLost(c *Cluster, watch *Watch) {
	c.t.Helper()
	primary := c.Primary()
	behind, caughtUp := c.Others(primary)[0], c.Others(primary)[1]
	c.Net.Cut(behind)
	c.AwaitAcknowledged(watch.Writer, 200)
	for _, name := range []string{caughtUp, primary} {
		c.Net.Cut(name)
		c.KillHost(name)
	}
	c.Net.Heal()
	time.Sleep(2 * time.Second)
	c.Start(caughtUp)
	if next := c.AwaitNewPrimary(primary); next != caughtUp {
		c.t.Errorf("the primary is %s, which was cut off when the last writes were acknowledged, not %s", next, caughtUp)
	}
	c.AwaitAcknowledged(watch.Writer, 20)
	c.Mend()
}

func lagThatIsMadeUp(c *Cluster, watch *Watch) {
	c.t.Helper()
	old, to := c.switchToOneThatLags(watch)
	time.Sleep(2 * time.Second)
	c.Mend()
	if got := c.AwaitNewPrimary(old); got != to {
		c.t.Errorf("the primary is %s after a switchover to %s, which caught up in time", got, to)
	}
}

func lagThatStays(c *Cluster, watch *Watch) {
	c.t.Helper()
	term := c.status().Term
	_, to := c.switchToOneThatLags(watch)
	s := c.Await("there is a primary of a later term", func(s reconcile.Status) error {
		if s.Primary == "" || s.Term == term {
			return fmt.Errorf("primary %q, term %d", s.Primary, s.Term)
		}
		return nil
	})
	if s.Primary == to {
		c.t.Errorf("the primary is %s, which cannot have what was acknowledged", to)
	}
	c.AwaitAcknowledged(watch.Writer, 20)
	c.Mend()
}

// switchToOneThatLags begins a switchover to a standby that receives nothing any more,
// since shortly before.
func (c *Cluster) switchToOneThatLags(watch *Watch) (old, to string) {
	c.t.Helper()
	old = c.Primary()
	to = c.Others(old)[0]
	if c.Host(to).Signal(syscall.SIGSTOP, "walreceiver") != 1 {
		c.t.Fatalf("no walreceiver on %s\n%s", to, c.Picture())
	}
	c.AwaitAcknowledged(watch.Writer, 20)
	c.detached("switchover", "--to", to)
	return old, to
}

func slotLost(c *Cluster, watch *Watch) {
	c.t.Helper()
	primary := c.Primary()
	standby := c.Others(primary)[0]
	before := c.copied(standby)
	c.Net.Cut(standby)
	for range 6 {
		c.execOn(primary, "CREATE TABLE switched (); DROP TABLE switched; SELECT pg_switch_wal()")
	}
	c.until("the slot of the standby is lost", func() bool {
		c.execOn(primary, "CHECKPOINT")
		status, err := column[string](c, primary, "SELECT wal_status FROM pg_replication_slots WHERE slot_name = '"+pg.SlotName(standby)+"'")
		return err == nil && slices.Equal(status, []string{"lost"})
	})
	c.AwaitAcknowledged(watch.Writer, 20)
	c.Mend()
	c.AwaitConverged()
	if c.copied(standby) == before {
		c.t.Errorf("node %s was not cloned anew although the primary has no WAL for it", standby)
	}
}

var walFile = regexp.MustCompile(`^[0-9A-F]{24}$`)

func rewindWithoutWAL(c *Cluster, watch *Watch) {
	c.t.Helper()
	old := c.Primary()
	before := c.copied(old)
	c.KillHost(old)
	next := c.AwaitNewPrimary(old)
	c.AwaitAcknowledged(watch.Writer, 20)
	dir := filepath.Join(c.DataDir(old), "pg_wal")
	files, err := os.ReadDir(dir)
	c.must(err)
	for _, file := range files {
		if walFile.MatchString(file.Name()) {
			c.must(os.Remove(filepath.Join(dir, file.Name())))
		}
	}
	c.Start(old)
	c.until("node "+old+" has been cloned anew", func() bool { return c.copied(old) > before })
	c.until("the old copy is removed", func() bool {
		aside, err := filepath.Glob(c.DataDir(old) + ".ram-aside-*")
		return err == nil && len(aside) == 0
	})
	streaming, err := column[string](c, next, "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'")
	if err != nil || !slices.Contains(streaming, pg.ApplicationName(old)) {
		c.t.Errorf("the old copy on %s was removed, and %v stream from %s: %v", old, streaming, next, err)
	}
}

// copied is how many copies have taken the place of a data directory of the node.
func (c *Cluster) copied(node string) int {
	c.t.Helper()
	text, err := os.ReadFile(c.LogFile(node))
	c.must(err)
	return strings.Count(string(text), "old data directory set aside")
}

// execOn runs statements on the server of a node.
func (c *Cluster) execOn(node, sql string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, at(c.Superuser(), c.Host(node), c.Client))
	if err == nil {
		defer conn.Close(ctx)
		for _, statement := range strings.Split(sql, "; ") {
			if err == nil {
				_, err = conn.Exec(ctx, statement)
			}
		}
	}
	if err != nil {
		c.t.Fatalf("%s on %s: %v\n%s", sql, node, err, c.Picture())
	}
}
