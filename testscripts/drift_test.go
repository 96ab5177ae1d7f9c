package testscripts

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// drift is something that somebody does to a node by hand, and how it shows.
type drift struct {
	name string
	do   func(t *testing.T, c *cluster.Cluster)
	// shows are parts of one line of the plan, once it has been noticed.
	shows []string
	// event are parts of an event that tells what was put right, and why.
	event []string
	// after checks that it has been put right.
	after func(t *testing.T, c *cluster.Cluster)
}

// checkDrift does it while the cluster is paused, which shows it and leaves it
// alone, and has it put right by resuming.
func checkDrift(t *testing.T, c *cluster.Cluster, d drift) {
	t.Helper()
	seq, serials := c.LastEvent(), fmt.Sprint(c.Serials())
	c.CtlOK("pause", "--reason", d.name)
	d.do(t, c)
	var plan cluster.Result
	c.Until(fmt.Sprintf("the plan shows %q", d.shows), cluster.Patience, func() bool {
		plan = c.Ctl("plan", "--detailed-exitcode")
		return plan.Code == 2 && lineWith(plan.Stdout, d.shows)
	})
	if s, ok := c.Status(); !ok || s.Converged || !s.Paused {
		t.Errorf("status while paused: converged %v, paused %v", s.Converged, s.Paused)
	}
	if now := fmt.Sprint(c.Serials()); now != serials {
		t.Errorf("assignments changed while paused: from %s to %s", serials, now)
	}
	c.CtlOK("resume")
	c.AwaitEvent(seq, d.event...)
	c.CheckHealthy()
	if d.after != nil {
		d.after(t, c)
	}
}

func lineWith(text string, parts []string) bool {
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			return true
		}
	}
	return false
}

// shown has the setting on a node be the one of the spec.
func shown(node, name, want string) func(*testing.T, *cluster.Cluster) {
	return func(t *testing.T, c *cluster.Cluster) {
		t.Helper()
		if got := c.Query(node, "SHOW "+name)[0]; got != want {
			t.Errorf("%s on node %s is %s, want %s", name, node, got, want)
		}
	}
}

// restored has a file in a data directory be without a text that was added.
func restored(node, file, added string) func(*testing.T, *cluster.Cluster) {
	return func(t *testing.T, c *cluster.Cluster) {
		t.Helper()
		if text := c.ReadData(node, file); strings.Contains(text, added) {
			t.Errorf("%s of node %s still has %q:\n%s", file, node, added, text)
		}
	}
}

func alterSystem(node string) func(*testing.T, *cluster.Cluster) {
	return func(_ *testing.T, c *cluster.Cluster) {
		c.Exec(node, "ALTER SYSTEM SET work_mem = '9MB'")
		c.Exec(node, "SELECT pg_reload_conf()::text")
	}
}

func edit(node, file, text string) func(*testing.T, *cluster.Cluster) {
	return func(_ *testing.T, c *cluster.Cluster) { c.Edit(node, file, text) }
}

func TestDriftOfConfiguration(t *testing.T) {
	t.Parallel()
	c := settled(t, cluster.Spec{Nodes: abc})
	for _, d := range []drift{
		{
			name: "ALTER SYSTEM on the primary", do: alterSystem("a"),
			shows: []string{"work_mem (ALTER SYSTEM)", "9MB"},
			event: []string{"a", "changed by hand", "work_mem (ALTER SYSTEM)"},
			after: shown("a", "work_mem", "4MB"),
		},
		{
			name: "ALTER SYSTEM on a standby", do: alterSystem("b"),
			shows: []string{"work_mem (ALTER SYSTEM)", "9MB"},
			event: []string{"b", "changed by hand", "work_mem (ALTER SYSTEM)"},
			after: shown("b", "work_mem", "4MB"),
		},
		{
			name: "ALTER SYSTEM of a parameter that restarts, on the primary",
			do: func(_ *testing.T, c *cluster.Cluster) {
				c.Exec("a", "ALTER SYSTEM SET max_connections = 150")
				c.Exec("a", "SELECT pg_reload_conf()::text")
			},
			shows: []string{"max_connections (ALTER SYSTEM)", "150"},
			event: []string{"a", "changed by hand", "max_connections (ALTER SYSTEM)"},
			after: func(t *testing.T, c *cluster.Cluster) {
				shown("a", "max_connections", "100")(t, c)
				for _, run := range c.Runs() {
					for _, s := range run.Steps {
						if s.Kind == reconcile.StepRestart {
							t.Errorf("run %d restarted node %s: %s", run.ID, s.Node, s.Reason)
						}
					}
				}
			},
		},
		{
			name:  "ram.conf is edited",
			do:    edit("b", "ram.conf", "work_mem = '11MB'\n"),
			shows: []string{"work_mem (ram.conf)", "11MB"},
			event: []string{"b", "changed by hand", "work_mem (ram.conf)"},
			after: restored("b", "ram.conf", "11MB"),
		},
		{
			name:  "ram.conf no longer says whose it is",
			do:    edit("c", "ram.conf", "ram.serial = '0'\n"),
			shows: []string{"ram.serial (ram.conf)", "0"},
			event: []string{"c", "changed by hand", "ram.serial (ram.conf)"},
			after: restored("c", "ram.conf", "ram.serial = '0'"),
		},
		{
			name:  "ram.conf has broken syntax",
			do:    edit("c", "ram.conf", "work_mem = = 'oops\n"),
			shows: []string{"syntax (ram.conf)"},
			event: []string{"c", "changed by hand", "syntax (ram.conf)"},
			after: restored("c", "ram.conf", "oops"),
		},
		{
			name:  "postgresql.conf is edited",
			do:    edit("a", "postgresql.conf", "work_mem = '11MB'\n"),
			shows: []string{"postgresql.conf"},
			event: []string{"a", "changed by hand", "postgresql.conf"},
			after: restored("a", "postgresql.conf", "11MB"),
		},
		{
			name:  "pg_hba.conf is edited",
			do:    edit("c", "pg_hba.conf", "host all all 0.0.0.0/0 trust\n"),
			shows: []string{"pg_hba.conf"},
			event: []string{"c", "changed by hand", "pg_hba.conf"},
			after: restored("c", "pg_hba.conf", "trust"),
		},
		{
			name:  "postgresql.auto.conf has broken syntax",
			do:    edit("b", "postgresql.auto.conf", "work_mem = = 'oops\n"),
			shows: []string{"syntax (ALTER SYSTEM)"},
			event: []string{"b", "changed by hand", "syntax (ALTER SYSTEM)"},
			after: restored("b", "postgresql.auto.conf", "oops"),
		},
		{
			name: "postgresql.auto.conf has broken syntax and the server was stopped",
			do: func(_ *testing.T, c *cluster.Cluster) {
				c.Edit("b", "postgresql.auto.conf", "work_mem = = 'oops\n")
				c.PgCtl("b", "stop", "-m", "fast")
			},
			shows: []string{"start", "b"},
			event: []string{"b", "start PostgreSQL"},
			after: restored("b", "postgresql.auto.conf", "oops"),
		},
		{
			name: "standby.signal is removed",
			do: func(t *testing.T, c *cluster.Cluster) {
				if err := os.Remove(filepath.Join(c.DataDir("b"), "standby.signal")); err != nil {
					t.Fatal(err)
				}
			},
			shows: []string{"standby.signal"},
			event: []string{"b", "changed by hand", "standby.signal"},
			after: func(t *testing.T, c *cluster.Cluster) {
				if _, err := os.Stat(filepath.Join(c.DataDir("b"), "standby.signal")); err != nil {
					t.Error(err)
				}
			},
		},
	} {
		c.Part(d.name, func(t *testing.T) { checkDrift(t, c, d) })
	}
}

func TestDriftOfServers(t *testing.T) {
	t.Parallel()
	c := settled(t, cluster.Spec{Nodes: abc})
	var postmaster int // before the part
	guarded := func(node string) func(*testing.T, *cluster.Cluster) {
		return func(t *testing.T, c *cluster.Cluster) {
			t.Helper()
			server := c.FindProcess(node, "bin/postgres", "-D")
			if server.PID == postmaster {
				t.Errorf("node %s still has the postmaster that it had", node)
			}
			c.FindProcess(node, "ramd guard")
		}
	}
	stop := func(node string) func(*testing.T, *cluster.Cluster) {
		return func(_ *testing.T, c *cluster.Cluster) {
			postmaster = c.Postmaster(node)
			c.PgCtl(node, "stop", "-m", "fast")
		}
	}
	for _, d := range []drift{
		{
			name:  "a slot is dropped on a standby",
			do:    func(_ *testing.T, c *cluster.Cluster) { c.Exec("b", "SELECT pg_drop_replication_slot('ram_c')::text") },
			shows: []string{"ram_c (slot)", "dropped"},
			event: []string{"b", "changed by hand", "ram_c (slot)"},
		},
		{
			name: "a slot is dropped on the primary while its standby is down",
			do: func(_ *testing.T, c *cluster.Cluster) {
				c.PgCtl("b", "stop", "-m", "fast")
				c.Exec("a", "SELECT pg_drop_replication_slot('ram_b')::text")
			},
			shows: []string{"ram_b (slot)", "dropped"},
			event: []string{"a", "changed by hand", "ram_b (slot)"},
		},
		{
			name: "a standby is stopped", do: stop("b"),
			shows: []string{"start", "PostgreSQL on b"},
			event: []string{"b", "start PostgreSQL", "stopped"},
			after: guarded("b"),
		},
		{
			name: "a standby's postmaster is killed",
			do: func(_ *testing.T, c *cluster.Cluster) {
				postmaster = c.Postmaster("c")
				_ = syscall.Kill(postmaster, syscall.SIGKILL)
			},
			shows: []string{"start", "PostgreSQL on c"},
			event: []string{"c", "start PostgreSQL", "stopped"},
			after: guarded("c"),
		},
		{
			name: "the replication role has another password",
			do: func(_ *testing.T, c *cluster.Cluster) {
				c.Exec("a", "ALTER ROLE ram_replication PASSWORD 'other'")
				c.Exec("a", "SELECT pg_terminate_backend(pid)::text FROM pg_stat_replication")
			},
			shows: []string{"ram_replication (role)", "changed"},
			event: []string{"a", "changed by hand", "ram_replication (role)"},
		},
		{
			name: "the replication role is dropped",
			do: func(_ *testing.T, c *cluster.Cluster) {
				c.Exec("a", "DROP ROLE ram_replication")
			},
			shows: []string{"ram_replication (role)", "dropped"},
			event: []string{"a", "changed by hand", "ram_replication (role)"},
		},
		{
			name: "WAL that a standby needs is gone",
			do: func(_ *testing.T, c *cluster.Cluster) {
				c.PgCtl("b", "stop", "-m", "fast")
				c.Exec("a", "SELECT pg_drop_replication_slot('ram_b')::text")
				forgetWAL(c)
			},
			shows: []string{"ram_b (slot)", "dropped"},
			event: []string{"clone b", "the WAL that it needs is gone"},
			after: func(_ *testing.T, c *cluster.Cluster) {
				c.Until("the old data directory of b is gone", cluster.Patience, func() bool { return len(asides(c, "b")) == 0 })
			},
		},
		{
			name: "a standby has been run as a primary",
			do: func(t *testing.T, c *cluster.Cluster) {
				c.PgCtl("b", "stop", "-m", "fast")
				if err := os.Remove(filepath.Join(c.DataDir("b"), "standby.signal")); err != nil {
					t.Fatal(err)
				}
				startByHand(c, "b")
				c.Exec("b", "CREATE TABLE only_here (x int)")
			},
			shows: []string{"rewind b", "has run as a primary"},
			event: []string{"rewind b", "has run as a primary"},
			after: func(t *testing.T, c *cluster.Cluster) {
				if got := c.Query("b", "SELECT count(*)::text FROM pg_class WHERE relname = 'only_here'")[0]; got != "0" {
					t.Errorf("node b still has what was written to it alone")
				}
			},
		},
	} {
		c.Part(d.name, func(t *testing.T) { checkDrift(t, c, d) })
	}

	c.Part("a standby that runs without a guard is started anew under one", func(t *testing.T) {
		checkUnguarded(t, c, "b")
	})
	c.Part("a primary that runs without a guard is started anew under one", func(t *testing.T) {
		checkUnguarded(t, c, "a")
	})
}

// forgetWAL has the primary write WAL until it has recycled all that was there.
func forgetWAL(c *cluster.Cluster) {
	oldest := func() string {
		return c.Query("a", "SELECT min(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'")[0]
	}
	last := c.Query("a", "SELECT pg_walfile_name(pg_current_wal_lsn())")[0]
	c.Until("the primary has forgotten old WAL", cluster.Patience, func() bool {
		c.Write()
		c.Exec("a", "SELECT pg_switch_wal()::text")
		c.Exec("a", "CHECKPOINT")
		return oldest() > last
	})
}

// asides are the data directories of a node that are kept for a while.
func asides(c *cluster.Cluster, node string) []string {
	found, _ := filepath.Glob(c.DataDir(node) + ".ram-aside-*")
	return found
}

// startByHand starts a server without a guard, and with nobody to wait for.
func startByHand(c *cluster.Cluster, node string) {
	c.PgCtl(node, "start", "-w", "-l", filepath.Join(c.DataDir(node), "byhand.log"), "-o",
		"-c synchronous_standby_names= -c unix_socket_directories="+filepath.Join(c.StateDir(node), "run"))
}

// checkUnguarded has a server be run by hand, as somebody does who does not know ram.
func checkUnguarded(t *testing.T, c *cluster.Cluster, node string) {
	t.Helper()
	c.CtlOK("pause")
	c.PgCtl(node, "stop", "-m", "fast")
	c.Until("the guard has made sure that no process is left", cluster.Patience, func() bool {
		return !slices.ContainsFunc(c.Processes(node), func(p cluster.Process) bool { return strings.Contains(p.Command, "ramd guard") })
	})
	startByHand(c, node)
	byHand := c.Postmaster(node)
	if byHand == 0 {
		t.Fatal("the server that was started by hand does not run")
	}
	c.Await("status shows a server that somebody started", func(s reconcile.Status) error {
		for _, n := range s.Nodes {
			if n.Name == node && n.State == reconcile.NodeRunning {
				return nil
			}
		}
		return fmt.Errorf("node %s does not run: %+v", node, s.Nodes)
	})
	c.CtlOK("resume")
	c.Until("the server that was started by hand is replaced", cluster.Patience, func() bool {
		pid := c.Postmaster(node)
		return pid != 0 && pid != byHand
	})
	c.CheckHealthy()
	c.FindProcess(node, "ramd guard")
}

// quiet is the time over which a cluster that cannot get on is watched.
const quiet = 20 * time.Second

// countQuiet counts what a cluster does in that time: events and assignments.
func countQuiet(c *cluster.Cluster) (events, assigned int) {
	seq, before := c.LastEvent(), c.Serials()
	time.Sleep(quiet)
	for node, serial := range c.Serials() {
		assigned += int(serial - before[node])
	}
	return len(c.Since(seq)), assigned
}

func TestWhatCannotBePutRightIsNotTriedWithoutPause(t *testing.T) {
	t.Parallel()
	c := settled(t, cluster.Spec{Nodes: abc})

	c.Part("a port that somebody took", func(t *testing.T) {
		c.CtlOK("pause")
		c.PgCtl("b", "stop", "-m", "fast")
		l, err := net.Listen("tcp", c.Host("b")+":5432")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c.CtlOK("resume")
		c.Await("status says that the port is taken", reason("b", "5432", "port"))
		events, assigned := countQuiet(c)
		if events > 5 || assigned > 2 {
			t.Errorf("in %s there were %d events and %d assignments\n%s", quiet, events, assigned, c.Picture())
		}
		l.Close()
		c.CheckHealthy()
	})

	c.Part("somebody who changes it again at once", func(t *testing.T) {
		conn := c.Connect("b")
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for n := 0; ; n++ {
				_, _ = conn.Exec(t.Context(), fmt.Sprintf("ALTER SYSTEM SET work_mem = '%dMB'", 8+n%8))
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		}()
		c.Await("status shows the drift", func(s reconcile.Status) error {
			if len(s.Drift) == 0 {
				return fmt.Errorf("no drift")
			}
			return nil
		})
		events, assigned := countQuiet(c)
		close(stop)
		<-stopped
		if events > 60 || assigned > 10 {
			t.Errorf("in %s there were %d events and %d assignments\n%s", quiet, events, assigned, c.Picture())
		}
		c.CheckHealthy()
	})
}

// reason is the condition that the status of a node gives a reason with all parts.
func reason(node string, parts ...string) cluster.Condition {
	return func(s reconcile.Status) error {
		for _, n := range s.Nodes {
			if n.Name == node && lineWith(n.Reason, parts) {
				return nil
			}
			if n.Name == node {
				return fmt.Errorf("node %s is %s with the reason %q, which lacks some of %q", node, n.State, n.Reason, parts)
			}
		}
		return fmt.Errorf("there is no node %s", node)
	}
}
