package instance

import (
	"context"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/guard"
)

func TestProbeOfAPrimaryAndItsStandby(t *testing.T) {
	a := startPrimary(t)
	b := newNode(t, "b").clone(t, a).start(t)
	waitFor(t, "streaming", func() bool { return probe(t, b).Receiver.Streaming() })
	a.sql(t, "CREATE TABLE public.t AS SELECT 1")
	waitFor(t, "an even standby", func() bool {
		primary, standby := probe(t, a), probe(t, b)
		return primary.LSN == standby.ReplayLSN && len(primary.Senders) == 1 && primary.Senders[0].ReplayLSN == primary.LSN
	})

	end := probe(t, a).LSN
	names := []string{"max_connections", "hot_standby", "shared_buffers", "no_such_setting"}
	settings := map[string]string{"max_connections": "100", "hot_standby": "on", "shared_buffers": "128MB"}
	volatile := cmp.Options{
		cmpopts.IgnoreFields(pg.Server{}, "PID", "StartedAt", "Size", "OldestWAL", "Transactions"),
		cmpopts.IgnoreFields(pg.Slot{}, "RestartLSN"),
	}
	t.Run("primary", func(t *testing.T) {
		want := pg.Server{
			State: pg.ServerRunning, Guarded: true, Timeline: 1, LSN: end, Settings: settings, PendingRestart: []string{},
			Senders: []pg.WALSender{{Application: "b", State: "streaming", SyncState: "async", SentLSN: end, FlushLSN: end, ReplayLSN: end}},
			Slots:   []pg.Slot{{Name: "ram_b", Active: true, WALStatus: "reserved"}},
		}
		if diff := cmp.Diff(want, probe(t, a, names...), volatile); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("standby", func(t *testing.T) {
		want := pg.Server{
			State: pg.ServerRunning, Guarded: true, Recovery: true, Timeline: 1, LSN: end, WALComplete: true, ReplayLSN: end, Settings: settings, PendingRestart: []string{},
			Receiver: &pg.WALReceiver{Status: "streaming", Host: "127.0.0.1", Port: a.cfg.Port, Slot: "ram_b", Timeline: 1},
			Senders:  []pg.WALSender{}, Slots: []pg.Slot{},
		}
		if diff := cmp.Diff(want, probe(t, b, names...), volatile); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("what else is there", func(t *testing.T) {
		got := probe(t, a)
		if got.Size < 5*pg.MB || got.StartedAt.IsZero() || got.PID != a.guarded().Last().PID {
			t.Errorf("size %s, started %s, process %d", got.Size, got.StartedAt, got.PID)
		}
		if got.OldestWAL == 0 || got.OldestWAL > got.LSN || got.OldestWAL%(16<<20) != 0 {
			t.Errorf("oldest WAL %s of %s", got.OldestWAL, got.LSN)
		}
	})
	t.Run("paused replay", func(t *testing.T) {
		b.sql(t, "SELECT pg_wal_replay_pause()")
		waitFor(t, "the pause to show", func() bool { return probe(t, b).ReplayPaused })
		b.sql(t, "SELECT pg_wal_replay_resume()")
	})
	t.Run("promotion", func(t *testing.T) {
		b.sql(t, "SELECT pg_promote()")
		if got := probe(t, b); got.Recovery || got.Timeline != 2 || got.Receiver != nil || got.LSN < end {
			t.Errorf("%+v", got)
		}
	})
}

func TestProbeSeesChangedSettings(t *testing.T) {
	n := newPrimary(t).start(t)
	names := []string{"work_mem", "max_connections"}
	probe(t, n, names...)
	if err := n.WriteConfig(files("work_mem = '7MB'", "max_connections = 55")); err != nil {
		t.Fatal(err)
	}
	if err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the new value", func() bool { return probe(t, n, names...).Settings["work_mem"] == "7MB" })
	got := probe(t, n, names...)
	if diff := cmp.Diff([]string{"max_connections"}, got.PendingRestart); diff != "" || got.Settings["max_connections"] != "100" {
		t.Errorf("max_connections %s: %s", got.Settings["max_connections"], diff)
	}
	if got := probe(t, n, "port").Settings; got["port"] != strconv.Itoa(n.cfg.Port) || len(got) != 1 {
		t.Errorf("other names: %v", got)
	}
}

func TestProbeSeesOpenTransactions(t *testing.T) {
	n := newPrimary(t, "max_prepared_transactions = 2").start(t)
	config, err := n.connConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams = nil
	var sessions [3]*pgx.Conn
	for i := range sessions {
		if sessions[i], err = pgx.ConnectConfig(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		defer sessions[i].Close(context.Background())
		if _, err := sessions[i].Exec(t.Context(), "BEGIN"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sessions[2].Exec(t.Context(), "PREPARE TRANSACTION 'kept'"); err != nil {
		t.Fatal(err)
	}
	// It is looked up when other settings are asked for.
	got := probe(t, n, "work_mem").Transactions
	if got.PID != int(sessions[0].PgConn().PID()) || got.User != "postgres" || got.Age <= 0 || got.Age > time.Minute {
		t.Errorf("the oldest is not the one of pid %d: %+v", sessions[0].PgConn().PID(), got)
	}
	if got.Prepared != 1 || got.PreparedBy != "postgres" || got.PreparedAge <= 0 {
		t.Errorf("prepared: %+v", got)
	}
	for _, s := range sessions {
		s.Close(t.Context())
	}
	n.sql(t, "ROLLBACK PREPARED 'kept'")
	waitFor(t, "none to be open", func() bool {
		n.prober.slow.settingsDue = time.Time{}
		return probe(t, n, "work_mem").Transactions == pg.Transactions{}
	})
}

func TestProbeSurvivesTheServersRestart(t *testing.T) {
	n := newPrimary(t).start(t)
	first := probe(t, n)
	n.stop(t)
	if got := probe(t, n); got.State != pg.ServerStopped || got.PID != 0 {
		t.Errorf("%s, process %d", got.State, got.PID)
	}
	n.start(t)
	if got := probe(t, n); got.State != pg.ServerRunning || got.PID == first.PID {
		t.Errorf("%s, process %d", got.State, got.PID)
	}
	n.sql(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ramd' AND pid <> pg_backend_pid()")
	if got := probe(t, n); got.State != pg.ServerRunning {
		t.Errorf("after its session was ended: %s", got.State)
	}
}

func TestHungServerIsSeenAtTheDeadline(t *testing.T) {
	for name, look := range map[string]func(t *testing.T, n *node){
		"over the kept session": func(t *testing.T, n *node) { probe(t, n) },
		"over a fresh one":      func(*testing.T, *node) {},
	} {
		t.Run(name, func(t *testing.T) {
			n := newPrimary(t).start(t)
			look(t, n)
			for _, pid := range serverProcesses(t, n) {
				kill(t, pid, syscall.SIGSTOP)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			got, err := n.Probe(ctx, nil)
			if err != nil || got.State != pg.ServerHung || got.PID == 0 {
				t.Errorf("%s, process %d, %v", got.State, got.PID, err)
			}
			for _, pid := range serverProcesses(t, n) {
				kill(t, pid, syscall.SIGCONT)
			}
			waitFor(t, "it to go on", func() bool { return probe(t, n).State == pg.ServerRunning })
		})
	}
}

func serverProcesses(t *testing.T, n *node) (pids []int) {
	t.Helper()
	found, err := guard.Processes(n.DataDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		pids = append(pids, p.PID)
	}
	return pids
}

func TestRefusedProbeSaysWhy(t *testing.T) {
	n := newPrimary(t).start(t)
	cfg := n.cfg
	cfg.SuperuserPassword = "another"
	got, err := open(t, cfg).Probe(t.Context(), nil)
	wantError(t, err, nil, "password authentication failed")
	if got.State != pg.ServerRunning || got.PID == 0 {
		t.Errorf("%s, process %d", got.State, got.PID)
	}
}

func TestServerThatStopsIsStopping(t *testing.T) {
	n := newPrimary(t).start(t)
	conn, err := n.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := n.guarded().Stop(t.Context(), guard.Smart, 0); err != nil {
		t.Fatal(err)
	}
	if got := probe(t, n); got.State != pg.ServerStopping {
		t.Errorf("it is %s", got.State)
	}
}

// An operator may repair a data directory with one while ramd is paused.
func TestSingleUserServerIsLeftAlone(t *testing.T) {
	n := newPrimary(t)
	cmd := exec.Command(n.binaries.path("postgres"), "--single", "-D", n.cfg.DataDir, "postgres")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: n.user.credential(), Pdeathsig: syscall.SIGKILL}
	cmd.Dir = "/"
	commands, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the single-user server", func() bool { return n.readPostmasterPID().Standalone })
	if got := probe(t, n); got.State == pg.ServerStopped || got.PID != cmd.Process.Pid {
		t.Errorf("%s, process %d of %d", got.State, got.PID, cmd.Process.Pid)
	}
	// As when it began right after no postmaster was found.
	if got, err := n.probeStopped(t.Context()); err != nil || got.State != pg.ServerStopping {
		t.Errorf("%s, %v", got.State, err)
	}
	commands.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the single-user server: %v", err)
	}
	if got := probe(t, n); got.State != pg.ServerStopped {
		t.Errorf("it is %s after its end", got.State)
	}
}
