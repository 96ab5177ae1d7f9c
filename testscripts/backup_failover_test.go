package testscripts

import (
	"fmt"
	"os"
	"testing"

	"github.com/ramhq/ram/reconcile"
)

func TestArchiveHasNoGapAfterFailovers(t *testing.T) {
	t.Parallel()
	dir, url := emptyRepository(t)
	c := applied(t, backedUp(threeNodes, repositoryAt(url)))
	fill(c, primaryOf(c), 1)
	first := backUp(c)
	var inBetween map[string]string
	var target string

	for round := range 2 {
		c.Part(fmt.Sprintf("failover %d, of a primary whose WAL is not archived", round+1), func(t *testing.T) {
			s := c.AwaitConverged()
			lost := s.Primary
			away(t, dir, func() {
				w := startWriter(t, c, lost)
				for range 3 {
					c.Query(lost, "SELECT pg_switch_wal()::text")
				}
				mark(t, c, lost, fmt.Sprint("before ", round))
				c.KillTree(lost)
				w.end()
			})
			c.Await("another primary", func(now reconcile.Status) error {
				if now.Primary == "" || now.Primary == lost || now.Term <= s.Term {
					return fmt.Errorf("the primary is %q", now.Primary)
				}
				return nil
			})
			c.Start(lost)
			c.CheckHealthy()
			primary := primaryOf(c)
			one := mark(t, c, primary, fmt.Sprint("after ", round))
			inBetween = c.Contents(primary)
			target = between(one, mark(t, c, primary, fmt.Sprint("later ", round)))
		})
	}
	c.Part("recovery reaches to the last timeline", func(t *testing.T) {
		archived(c)
		s := c.AwaitConverged()
		detail := backupOf(c, first)
		if r := detail.Reach; r == nil || r.Gap != "" || r.Timeline != s.Timeline || detail.Timeline >= s.Timeline {
			t.Errorf("the reach of the backup of timeline %d is %+v, the cluster is on timeline %d", detail.Timeline, r, s.Timeline)
		}
	})
	c.Part("the cluster goes back to a time after the failovers, from the backup of before them", func(t *testing.T) {
		restore(t, c, "--to-time", target)
		holds(t, c, inBetween)
	})
	c.Part("a backup on the last timeline is whole", func(t *testing.T) {
		c.CtlOK("backup", "verify", backUp(c, "--from", "primary"))
	})
}

// away has a repository be gone while something is done.
func away(t *testing.T, dir string, do func()) {
	t.Helper()
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Error(err)
		}
	}()
	do()
}
