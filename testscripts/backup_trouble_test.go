package testscripts

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// newKey makes a key with ramctrl and returns its file.
func newKey(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup.key")
	c.CtlOK("backup", "keygen", "--out", path)
	return path
}

// jobsOf are the jobs, oldest first.
func jobsOf(c *cluster.Cluster) []reconcile.Job {
	var answer struct {
		Jobs []struct {
			Job reconcile.Job `json:"job"`
		} `json:"jobs"`
	}
	c.CtlJSON(&answer, "backup", "jobs")
	var jobs []reconcile.Job
	for _, a := range answer.Jobs {
		jobs = append(jobs, a.Job)
	}
	return jobs
}

func TestRepositoryInTrouble(t *testing.T) {
	t.Parallel()
	dir, url := emptyRepository(t)
	c := cluster.New(t, alone.String())
	key := newKey(t, c)
	c.SetSpec(backedUp(alone, fmt.Sprintf("repository \"main\" {\n  url = %q\n  encryption {\n    key_file = %q\n  }\n}\n", url, key)).String())
	c.Start("a")
	c.Apply("")
	c.CheckHealthy()
	fill(c, "a", 2)
	good := backUp(c)

	c.Part("one that is gone for a while: writes go on, status tells, and the backlog drains", func(t *testing.T) {
		away(t, dir, func() {
			for range 5 {
				c.Write()
				c.Query("a", "SELECT pg_switch_wal()::text")
			}
			c.Await("status tells what is the matter", func(s reconcile.Status) error {
				if a := s.Backups.Archive; a == nil || a.Backlog < 5 || !strings.Contains(a.Failure, "is its file system mounted?") {
					return fmt.Errorf("archive %+v", a)
				}
				return nil
			})
			if text := c.CtlOK("status"); !lineWith(text, []string{"archive", "not archived yet", "is its file system mounted?"}) {
				t.Errorf("ramctrl status:\n%s", text)
			}
			c.CtlFails([]string{"failed on a", dir, "is its file system mounted?", "ramctrl backup create"}, "backup", "create")
			c.AwaitEvent(0, "failed: back up nightly", "is its file system mounted?")
			jobs := jobsOf(c)
			if job := jobs[len(jobs)-1]; job.Kind != reconcile.JobBackup || job.State != reconcile.JobFailed {
				t.Errorf("the latest job is %+v", job)
			}
			c.CtlFails([]string{dir, "is its file system mounted?"}, "backup", "list")
			c.CtlFails([]string{dir, "is its file system mounted?"}, "backup", "restore", "--auto-approve")
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("somebody has made %s anew", dir)
			}
		})
		c.Await("the backlog has drained", func(s reconcile.Status) error {
			if a := s.Backups.Archive; a == nil || a.Backlog > 0 || a.Failure != "" {
				return fmt.Errorf("archive %+v", a)
			}
			return nil
		})
		archived(c)
		if detail := backupOf(c, good); detail.Reach == nil || detail.Reach.Gap != "" || detail.Reach.To <= detail.StopLSN {
			t.Errorf("reach %+v of %+v", detail.Reach, detail)
		}
	})
	c.Part("nothing in it can be read without the key", func(t *testing.T) {
		if err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(path, ".json") {
				return err
			}
			text, err := os.ReadFile(path)
			if !bytes.HasPrefix(text, []byte("age-encryption.org/v1")) {
				t.Errorf("%s is not encrypted", path)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
	c.Part("a wrong key, and none", func(t *testing.T) {
		right, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(newKey(t, c), key); err != nil {
			t.Fatal(err)
		}
		c.CtlFails([]string{"failed on a", "no key opens it"}, "backup", "verify", good)
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		c.CtlFails([]string{key}, "backup", "create")
		c.CtlFails([]string{key}, "backup", "verify", good)
		if err := os.WriteFile(key, right, 0o600); err != nil {
			t.Fatal(err)
		}
		c.CtlOK("backup", "verify", good)
	})
	c.Part("a byte that flipped is found, named, and remembered", func(t *testing.T) {
		bad := backUp(c, "--name", "flipped")
		detail := backupOf(c, bad)
		if !detail.Encrypted || len(detail.Objects) == 0 {
			t.Fatalf("backup %+v", detail)
		}
		object := detail.Objects[0].Name
		flip(t, filepath.Join(dir, object))
		for _, how := range []string{"--quick", "--quick=false"} {
			c.CtlFails([]string{bad, object, "damaged"}, "backup", "verify", bad, how)
			if detail = backupOf(c, bad); !strings.Contains(detail.Broken, object) {
				t.Errorf("after verify %s the backup counts as %q", how, detail.Broken)
			}
			if s, _ := c.Status(); s.Backups.Last.ID != good || s.Backups.Count != 2 {
				t.Errorf("after verify %s status tells %+v", how, s.Backups)
			}
		}
		if text := c.CtlOK("status"); !lineWith(text, []string{bad, "is broken"}) {
			t.Errorf("ramctrl status does not tell of the broken backup:\n%s", text)
		}
		c.CtlFails([]string{bad, object}, "backup", "restore", "--backup", bad, "--to-backup-end", "--auto-approve")
		nothingBeside(t, c)
	})
	c.Part("the cluster is restored from the other", func(t *testing.T) {
		want := c.Contents("a")
		restore(t, c)
		holds(t, c, want)
	})
}

// flip changes one bit in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
