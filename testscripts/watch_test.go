package testscripts

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// specCopy is the copy of a spec on one host, kept there as some tool does.
type specCopy interface {
	// path is what ramd is started with.
	path() string
	write(t *testing.T, text string)
}

// plainFile is edited in place.
type plainFile struct{ name string }

func (f plainFile) path() string { return f.name }

func (f plainFile) write(t *testing.T, text string) {
	t.Helper()
	writeFile(t, f.name, text)
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replace puts a file in place as editors do: with a rename.
func replace(t *testing.T, path, text string) {
	t.Helper()
	writeFile(t, path+"~", text)
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}

// swapLink points a link to another target with a rename.
func swapLink(t *testing.T, link, target string) {
	t.Helper()
	if err := os.Symlink(target, link+".tmp"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".tmp", link); err != nil {
		t.Fatal(err)
	}
}

// gitSync keeps each version in a directory of its own and a link to the current one.
type gitSync struct {
	dir     string
	version *int
}

func (g gitSync) path() string { return filepath.Join(g.dir, "current", "cluster.hcl") }

func (g gitSync) write(t *testing.T, text string) {
	t.Helper()
	old := filepath.Join(g.dir, fmt.Sprint("rev-", *g.version))
	*g.version++
	name := fmt.Sprint("rev-", *g.version)
	writeFile(t, filepath.Join(g.dir, name, "cluster.hcl"), text)
	swapLink(t, filepath.Join(g.dir, "current"), name)
	if err := os.RemoveAll(old); err != nil {
		t.Fatal(err)
	}
}

// configMap is how Kubernetes mounts one: the file is a link through the link ..data.
type configMap struct {
	dir     string
	version *int
}

func (m configMap) path() string { return filepath.Join(m.dir, "cluster.hcl") }

func (m configMap) write(t *testing.T, text string) {
	t.Helper()
	old := filepath.Join(m.dir, fmt.Sprint("..", *m.version))
	*m.version++
	name := fmt.Sprint("..", *m.version)
	writeFile(t, filepath.Join(m.dir, name, "cluster.hcl"), text)
	swapLink(t, filepath.Join(m.dir, "..data"), name)
	if _, err := os.Lstat(m.path()); err != nil {
		if err := os.Symlink(filepath.Join("..data", "cluster.hcl"), m.path()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(old); err != nil {
		t.Fatal(err)
	}
}

// watched is a cluster whose three hosts watch copies of one spec.
type watched struct {
	*cluster.Cluster
	copies map[string]specCopy
}

func newWatched(t *testing.T, spec string) *watched {
	t.Helper()
	c := cluster.New(t, spec)
	w := &watched{c, map[string]specCopy{
		"a": plainFile{c.SpecFile("a")},
		"b": gitSync{filepath.Join(c.Dir("b"), "repo"), new(int)},
		"c": configMap{filepath.Join(c.Dir("c"), "mount"), new(int)},
	}}
	for _, node := range abc {
		w.copies[node].write(t, c.Text(spec))
	}
	w.start(abc...)
	return w
}

func (w *watched) start(nodes ...string) {
	for _, node := range nodes {
		w.StartWith(node, "--spec", w.copies[node].path(), "--watch")
	}
}

func (w *watched) write(t *testing.T, spec string, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		w.copies[node].write(t, w.Text(spec))
	}
}

func (w *watched) revision() uint64 {
	s := w.AwaitConverged()
	return s.Revision
}

// awaitRevision waits until a revision is in force and in effect.
func (w *watched) awaitRevision(want uint64) {
	w.Await(fmt.Sprintf("revision %d is in effect", want), func(s reconcile.Status) error {
		if s.Revision != want {
			return fmt.Errorf("revision %d is in force", s.Revision)
		}
		return cluster.Converged(s)
	})
}

// awaitWatch waits until the status says of a node's copy, in one line, all the parts.
func (w *watched) awaitWatch(parts ...string) {
	w.Await(fmt.Sprintf("status says %q of the watch", parts), func(s reconcile.Status) error {
		if !lineWith(strings.Join(s.Watch, "\n"), parts) {
			return fmt.Errorf("it says %q", s.Watch)
		}
		return nil
	})
}

// awaitAgreement waits until no copy differs from what is in force.
func (w *watched) awaitAgreement() {
	w.Await("all copies are in force", func(s reconcile.Status) error {
		if len(s.Watch) > 0 {
			return fmt.Errorf("the watch says %q", s.Watch)
		}
		return cluster.Converged(s)
	})
}

// steady checks that a revision stays the one in force while every watch looks again.
func (w *watched) steady(t *testing.T, want uint64) {
	t.Helper()
	for range 10 {
		time.Sleep(200 * time.Millisecond)
		if s, ok := w.Status(); ok && s.Revision != want {
			t.Fatalf("revision %d became revision %d by itself\n%s", want, s.Revision, w.Picture())
		}
	}
}

// checkHistory checks who made the last revisions, oldest first.
func (w *watched) checkHistory(t *testing.T, want ...string) {
	t.Helper()
	var got struct {
		Revisions []reconcile.Revision `json:"revisions"`
	}
	if err := json.Unmarshal([]byte(w.CtlOK("history", "-o", "json")), &got); err != nil {
		t.Fatal(err)
	}
	by := []string{}
	for _, r := range got.Revisions[max(0, len(got.Revisions)-len(want)):] {
		by = append(by, r.By)
	}
	if diff := cmp.Diff(want, by); diff != "" {
		t.Errorf("who made the last revisions (-want +got):\n%s", diff)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	base := cluster.Spec{Nodes: abc}
	memory := func(mb int) string {
		s := base
		s.Parameters = fmt.Sprintf("work_mem = \"%dMB\"", mb)
		return s.String()
	}
	w := newWatched(t, memory(5))

	w.Part("the first spec is applied by itself", func(t *testing.T) {
		w.awaitRevision(1)
		w.CheckHealthy()
		w.awaitAgreement()
		checkShown(t, w.Cluster, "work_mem", everywhere("5MB"))
	})

	for n, first := range []struct {
		name string
		edit func(t *testing.T, spec string)
		node string
	}{
		{"a file edited in place", func(t *testing.T, spec string) { t.Helper(); w.write(t, spec, "a") }, "a"},
		{"a file that is replaced", func(t *testing.T, spec string) { t.Helper(); replace(t, w.SpecFile("a"), w.Text(spec)) }, "a"},
		{"a link to a directory, as git-sync swaps it", func(t *testing.T, spec string) { t.Helper(); w.write(t, spec, "b") }, "b"},
		{"a link to a link, as Kubernetes swaps it", func(t *testing.T, spec string) { t.Helper(); w.write(t, spec, "c") }, "c"},
	} {
		w.Part(first.name+" is applied, the other hosts' copies follow", func(t *testing.T) {
			revision, spec := w.revision(), memory(10+n)
			first.edit(t, spec)
			w.awaitRevision(revision + 1)
			checkShown(t, w.Cluster, "work_mem", everywhere(fmt.Sprint(10+n, "MB")))
			others := slices.DeleteFunc(slices.Clone(abc), func(node string) bool { return node == first.node })
			for _, node := range others {
				w.awaitWatch("node "+node, "stale copy")
			}
			w.steady(t, revision+1)
			for _, node := range others {
				w.write(t, spec, node)
			}
			w.awaitAgreement()
			w.steady(t, revision+1)
			w.checkHistory(t, "watch on "+first.node)
		})
	}

	w.Part("all copies at the same moment are one revision", func(t *testing.T) {
		revision := w.revision()
		w.write(t, memory(20), abc...)
		w.awaitRevision(revision + 1)
		w.awaitAgreement()
		w.steady(t, revision+1)
	})

	w.Part("a missing file changes nothing, and is read when it is back", func(t *testing.T) {
		revision := w.revision()
		if err := os.Remove(w.SpecFile("a")); err != nil {
			t.Fatal(err)
		}
		w.awaitWatch("node a", "cluster.hcl", "cannot be read")
		w.steady(t, revision)
		w.write(t, memory(21), abc...)
		w.awaitRevision(revision + 1)
		w.awaitAgreement()
	})

	w.Part("an invalid file changes nothing and is told with its line", func(t *testing.T) {
		revision, seq := w.revision(), w.LastEvent()
		text := w.Text(memory(22))
		line := 1 + strings.Count(text[:strings.Index(text, "work_mem")], "\n")
		w.write(t, strings.ReplaceAll(memory(22), "work_mem", "work_mum"), "a")
		where := fmt.Sprintf("cluster.hcl:%d:", line)
		w.awaitWatch("node a", where, "work_mum")
		w.AwaitEvent(seq, "node a", where, "work_mum")
		w.steady(t, revision)
		w.write(t, memory(22), abc...)
		w.awaitRevision(revision + 1)
		w.awaitAgreement()
	})

	w.Part("a revert by an edit is a new revision", func(t *testing.T) {
		revision := w.revision()
		w.write(t, memory(21), "a")
		w.awaitRevision(revision + 1)
		w.write(t, memory(21), "b", "c")
		w.awaitAgreement()
		checkShown(t, w.Cluster, "work_mem", everywhere("21MB"))
	})

	w.Part("a copy that stayed behind while its ramd was down is stale", func(t *testing.T) {
		revision := w.revision()
		w.Stop("c")
		w.write(t, memory(30), "a", "b")
		w.Await("the others apply it", func(s reconcile.Status) error {
			if s.Revision != revision+1 {
				return fmt.Errorf("revision %d", s.Revision)
			}
			return nil
		})
		w.start("c")
		w.awaitWatch("node c", "stale copy")
		w.steady(t, revision+1)
		w.write(t, memory(30), "c")
		w.awaitAgreement()
		w.awaitRevision(revision + 1)
	})

	w.Part("an edit made while ramd was down is applied when it was made to what is in force", func(t *testing.T) {
		revision := w.revision()
		w.Stop("c")
		w.write(t, memory(31), "c")
		w.start("c")
		w.awaitRevision(revision + 1)
		w.checkHistory(t, "watch on c")
		w.write(t, memory(31), "a", "b")
		w.awaitAgreement()
	})

	w.Part("an edit of what is no longer in force is not applied", func(t *testing.T) {
		revision := w.revision()
		w.Stop("c")
		w.write(t, memory(32), "a", "b")
		w.Await("the others apply it", func(s reconcile.Status) error {
			if s.Revision != revision+1 {
				return fmt.Errorf("revision %d", s.Revision)
			}
			return nil
		})
		w.write(t, memory(33), "c")
		w.start("c")
		w.awaitWatch("node c", fmt.Sprintf("not changed from revision %d", revision+1))
		w.steady(t, revision+1)
		w.write(t, memory(32), "c")
		w.awaitAgreement()
	})

	w.Part("after a rollback the copies are reported as stale", func(t *testing.T) {
		revision := w.revision()
		w.CtlOK("rollback", fmt.Sprint(revision-1), "--auto-approve")
		for _, node := range abc {
			w.awaitWatch("node "+node, "stale copy")
		}
		w.steady(t, revision+1)
		w.write(t, memory(31), abc...)
		w.awaitAgreement()
		w.steady(t, revision+1)
	})

	without := base.Without("c")
	without.Parameters = `work_mem = "31MB"`
	w.Part("what destroys waits for an operator", func(t *testing.T) {
		revision, seq := w.revision(), w.LastEvent()
		w.write(t, without.String(), "a", "b")
		w.awaitWatch("apply --allow-destroy")
		w.AwaitEvent(seq, "apply --allow-destroy", "watch on")
		w.steady(t, revision)
		if r := w.Ctl("status"); !strings.Contains(r.Stdout, "--allow-destroy") {
			t.Errorf("ramctrl status does not say what waits:\n%s", r)
		}
	})
	w.Part("what waits is forgotten when the file is as before", func(t *testing.T) {
		revision := w.revision()
		w.write(t, memory(31), "a", "b")
		w.awaitAgreement()
		w.steady(t, revision)
	})
	w.Part("what waits goes on when an operator agrees", func(t *testing.T) {
		revision := w.revision()
		w.write(t, without.String(), "a", "b")
		w.awaitWatch("apply --allow-destroy")
		if r := w.TryApply(without.String()); r.Code != 1 || !strings.Contains(r.Stderr, "--allow-destroy") {
			t.Errorf("apply without agreement: %s", r)
		}
		w.CtlOK("apply", "--allow-destroy", "--auto-approve")
		w.awaitRevision(revision + 1)
		w.awaitAgreement()
		w.CheckHealthy()
	})
}
