package testscripts

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// never is a schedule that does not come up while tests run.
const never = "0 0 29 2 *"

// repositoryAt are the blocks of a repository without what uses it.
func repositoryAt(url string) string {
	return fmt.Sprintf("repository \"main\" {\n  url = %q\n}\n", url)
}

// backedUp is a spec whose cluster archives and is backed up to a repository.
func backedUp(s cluster.Spec, repository string) cluster.Spec {
	s.Parameters += "track_commit_timestamp = \"on\"\n"
	s.Cluster += repository + fmt.Sprintf(
		"archive {\n  repository = \"main\"\n}\nbackup \"nightly\" {\n  repository = \"main\"\n  schedule = %q\n}\n", never)
	return s
}

// emptyRepository is a new directory and its URL.
func emptyRepository(t *testing.T) (dir, url string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "repository")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir, "file://" + dir
}

// alone is the smallest cluster.
var alone = cluster.Spec{Nodes: []string{"a"}, Cluster: "replication {\n  sync_standbys = 0\n}\n"}

// fill makes tables as pgbench has them, of some megabytes that do not compress.
func fill(c *cluster.Cluster, node string, megabytes int) {
	c.Exec(node, "CREATE TABLE history (at timestamptz DEFAULT clock_timestamp(), account int, delta int)")
	c.Exec(node, "CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL, filler bytea)")
	c.Exec(node, `INSERT INTO accounts SELECT i, 0, (SELECT string_agg(sha512((i || '-' || j)::bytea), '') FROM generate_series(1, 16) AS j)
		FROM generate_series(1, $1::int) AS i`, megabytes*900)
}

// writer commits transactions on a node, one after the other, until it is stopped.
type writer struct {
	stop  chan struct{}
	ended sync.WaitGroup
	done  int // transactions; read after ended
}

func startWriter(t *testing.T, c *cluster.Cluster, node string) *writer {
	t.Helper()
	conn := c.Connect(node)
	w := &writer{stop: make(chan struct{})}
	w.ended.Go(func() {
		for {
			select {
			case <-w.stop:
				return
			default:
			}
			if w.write(t, conn) != nil {
				return
			}
		}
	})
	return w
}

func (w *writer) write(t *testing.T, conn *pgx.Conn) error {
	account, delta := rand.IntN(900)+1, rand.IntN(1000)
	return pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "UPDATE accounts SET balance = balance + $2 WHERE id = $1", account, delta); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), "INSERT INTO history (account, delta) VALUES ($1, $2)", account, delta)
		w.done++
		return err
	})
}

// end stops the writer and returns how many transactions it has committed.
func (w *writer) end() int {
	close(w.stop)
	w.ended.Wait()
	return w.done
}

// mark commits a transaction on a node and returns when that was, by the server.
func mark(t *testing.T, c *cluster.Cluster, node, name string) time.Time {
	t.Helper()
	c.Exec(node, "CREATE TABLE IF NOT EXISTS marks (name text)")
	c.Exec(node, "INSERT INTO marks VALUES ($1)", name)
	text := c.Query(node, "SELECT to_char(pg_xact_commit_timestamp(xmin) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM marks WHERE name = $1", name)[0]
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// between is the middle of two times, as ramctrl takes it.
func between(a, b time.Time) string { return a.Add(b.Sub(a) / 2).Format(time.RFC3339Nano) }

// primaryOf is the node that takes writes.
func primaryOf(c *cluster.Cluster) string {
	s, _ := c.Status()
	return s.Primary
}

// stored is a backup as ramctrl shows it.
type stored struct {
	reconcile.CatalogBackup
	Role      string `json:"role"`
	Encrypted bool   `json:"encrypted"`
	Proof     *struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
		LSN   pg.LSN `json:"lsn"`
		Pages int64  `json:"pages"`
	} `json:"proof"`
	Objects []struct {
		Name string `json:"name"`
	} `json:"objects"`
	Reach *struct {
		From     pg.LSN      `json:"from"`
		To       pg.LSN      `json:"to"`
		Timeline pg.Timeline `json:"timeline"`
		Gap      string      `json:"gap"`
	} `json:"reach"`
}

// backups are those in the repository, oldest first.
func backups(c *cluster.Cluster) []stored {
	var list struct {
		Backups []stored `json:"backups"`
	}
	c.CtlJSON(&list, "backup", "list")
	return list.Backups
}

// backupOf is all that is known of a backup.
func backupOf(c *cluster.Cluster, id string) stored {
	var detail stored
	c.CtlJSON(&detail, "backup", "show", id)
	return detail
}

// backUp takes a backup and returns its ID.
func backUp(c *cluster.Cluster, flags ...string) string {
	var done struct {
		Job reconcile.Job `json:"job"`
	}
	c.CtlJSON(&done, append([]string{"backup", "create"}, flags...)...)
	return done.Job.Result.Backup
}

// restore takes the cluster back and checks that it is in order then, on a new timeline.
func restore(t *testing.T, c *cluster.Cluster, flags ...string) {
	t.Helper()
	before := c.AwaitConverged()
	c.CtlOK(append([]string{"backup", "restore", "--auto-approve"}, flags...)...)
	isRestored(t, c, before)
}

func isRestored(t *testing.T, c *cluster.Cluster, before reconcile.Status) {
	t.Helper()
	after := c.AwaitConverged()
	if after.Timeline <= before.Timeline || after.Term <= before.Term {
		t.Errorf("timeline %d, term %d before; timeline %d, term %d after", before.Timeline, before.Term, after.Timeline, after.Term)
	}
	for _, n := range after.Nodes {
		if n.Timeline != after.Timeline {
			t.Errorf("node %s is on timeline %d, the primary on %d", n.Name, n.Timeline, after.Timeline)
		}
	}
}

// holds checks the contents of all nodes, and then that the cluster is in order.
func holds(t *testing.T, c *cluster.Cluster, want map[string]string) {
	t.Helper()
	s, _ := c.Status()
	for _, n := range s.Nodes {
		var diff string
		c.Until("node "+n.Name+" has what was there then", cluster.Patience, func() bool {
			diff = cmp.Diff(want, c.Contents(n.Name))
			return diff == "" || n.Role == reconcile.RolePrimary
		})
		if diff != "" {
			t.Errorf("contents of node %s (-then +now):\n%s", n.Name, diff)
		}
	}
	c.WentBack()
	c.CheckHealthy()
}

// archived waits until the WAL that the primary has written so far is in the repository.
func archived(c *cluster.Cluster) {
	node := primaryOf(c)
	segment := c.Query(node, "SELECT pg_walfile_name(pg_switch_wal())")[0]
	c.Await("WAL to "+segment+" is archived", func(s reconcile.Status) error {
		if s.Backups == nil || s.Backups.Archive == nil {
			return fmt.Errorf("nothing is reported of it")
		}
		if strings.HasSuffix(s.Backups.Archive.Last, ".history") { // it came after the segment, or before
			c.Query(node, "SELECT pg_create_restore_point('next')::text")
			c.Query(node, "SELECT pg_switch_wal()::text")
		}
		// Of this timeline, with those before it: a later one may be done first.
		if a := s.Backups.Archive; len(a.Last) < len(segment) || a.Last < segment || a.Backlog > 0 {
			return fmt.Errorf("archive %+v", s.Backups.Archive)
		}
		return nil
	})
}

// betweenMarks is what is there between two transactions, and that time.
func betweenMarks(t *testing.T, c *cluster.Cluster) (contents map[string]string, at string) {
	t.Helper()
	primary := primaryOf(c)
	one := mark(t, c, primary, "one")
	contents = c.Contents(primary)
	return contents, between(one, mark(t, c, primary, "two"))
}
