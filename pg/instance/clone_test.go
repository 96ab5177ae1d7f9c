package instance

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/pg"
)

func TestCloneStreamsFromItsSource(t *testing.T) {
	a := startPrimary(t)
	a.sql(t, "CREATE TABLE public.t AS SELECT 42 AS n")
	b := newNode(t, "b").clone(t, a)

	made := inspect(t, b)
	if made.SystemID != inspect(t, a).SystemID || made.Generation != 2 || !made.Standby {
		t.Errorf("made %+v", made)
	}
	if got, err := b.ReadConfig(); err != nil || got != standbyFiles(a, "ram_b") {
		t.Errorf("configuration: %v: %s", err, cmp.Diff(standbyFiles(a, "ram_b"), got))
	}
	noLeftovers(t, b)
	b.start(t)
	waitFor(t, "streaming", func() bool { return probe(t, b).Receiver.Streaming() })
	if got := b.sql(t, "SELECT n FROM public.t"); got != "42" {
		t.Errorf("the copy has %s", got)
	}
}

func TestCloneKeepsTheOldDirectoryUntilToldOtherwise(t *testing.T) {
	a := startPrimary(t)
	b := newNode(t, "b").clone(t, a)
	options := cloneOptions(t, a)
	options.Generation = 3
	if err := b.Clone(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	if got := inspect(t, b).Generation; got != 3 {
		t.Errorf("generation %d is in place", got)
	}
	old, marked, err := readMarker(b.DataDir() + ".ram-aside-1")
	if err != nil || !marked || old.Generation != 2 {
		t.Errorf("set aside: %+v, %v", old, err)
	}
	t.Run("the same generation is done already", func(t *testing.T) {
		options.Source = pg.Conninfo{"host": "127.0.0.1", "port": "1"}
		if err := b.Clone(t.Context(), options); err != nil {
			t.Error(err)
		}
	})
	retired := b.DataDir() + ".ram-removed-20260101T000000Z"
	if err := os.Mkdir(retired, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.RemoveAside(); err != nil {
		t.Fatal(err)
	}
	beside, _ := filepath.Glob(b.DataDir() + ".*")
	if diff := cmp.Diff([]string{retired}, beside); diff != "" {
		t.Error(diff)
	}
}

func TestCloneRefusals(t *testing.T) {
	a := startPrimary(t)
	untouched := func(t *testing.T, n *node, want uint64) {
		t.Helper()
		if got := inspect(t, n); got.Generation != want {
			t.Errorf("generation %d is in place, want %d", got.Generation, want)
		}
		beside, _ := filepath.Glob(n.DataDir() + ".*")
		if len(beside) != 0 {
			t.Errorf("left: %v", beside)
		}
	}
	t.Run("source of another cluster", func(t *testing.T) {
		b := newNode(t, "b")
		o := cloneOptions(t, a)
		o.SystemID++
		wantError(t, b.Clone(t.Context(), o), ErrWrongSystem, "the server at 127.0.0.1", o.SystemID.String())
		untouched(t, b, 0)
	})
	t.Run("data directory of another cluster", func(t *testing.T) {
		b := newNode(t, "b")
		if err := b.Init(t.Context(), InitOptions{Generation: 5, Files: files()}); err != nil {
			t.Fatal(err)
		}
		wantError(t, b.Clone(t.Context(), cloneOptions(t, a)), ErrWrongSystem, "move "+b.DataDir()+" away")
		untouched(t, b, 5)
	})
	t.Run("server that runs", func(t *testing.T) {
		wantError(t, a.Clone(t.Context(), cloneOptions(t, a)), ErrRunning, "stop it first")
		untouched(t, a, 1)
	})
	t.Run("wrong password", func(t *testing.T) {
		b := newNode(t, "b")
		o := cloneOptions(t, a)
		o.Password = "wrong"
		wantError(t, b.Clone(t.Context(), o), nil, "password authentication failed")
		untouched(t, b, 0)
	})
	t.Run("nobody there", func(t *testing.T) {
		b := newNode(t, "b")
		o := cloneOptions(t, a)
		o.Source["port"] = strconv.Itoa(freePort(t))
		wantError(t, b.Clone(t.Context(), o), nil, "reach the source of the clone", "refused")
		untouched(t, b, 0)
	})
	t.Run("no such slot", func(t *testing.T) {
		b := newNode(t, "b")
		o := cloneOptions(t, a)
		o.Slot = "missing"
		wantError(t, b.Clone(t.Context(), o), nil, "pg_basebackup: exit status 1", `replication slot "missing" does not exist`)
		if got := inspect(t, b).State; got != pg.DirAbsent {
			t.Errorf("afterwards: %s", got)
		}
		b.clone(t, a) // and the remains are not in the way
	})
}

// slowly makes a clone take as long as the test needs.
func slowly(o CloneOptions) CloneOptions {
	o.MaxRate = pg.MB
	return o
}

func TestCloneReportsProgressAndHidesItsPassword(t *testing.T) {
	a := startPrimary(t)
	b := newNode(t, "b")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := slowly(cloneOptions(t, a))
	var commandLines string
	o.Progress = func(done, total pg.Bytes) {
		if total < 10*pg.MB || done > total+pg.MB {
			t.Errorf("%s of %s", done, total)
		}
		if done == 0 {
			return
		}
		for _, pid := range copiers(t, b) {
			text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
			commandLines += string(text)
		}
		cancel()
	}
	err := b.Clone(ctx, o)
	wantError(t, err, context.Canceled)
	if !strings.Contains(commandLines, "ram_b") || strings.Contains(commandLines, "streams") {
		t.Errorf("command lines: %q", commandLines)
	}
	waitFor(t, "the copiers to go", func() bool { return len(copiers(t, b)) == 0 })
	secrets, _ := filepath.Glob(filepath.Join(b.SocketDir(), "*password*"))
	if len(secrets) != 0 {
		t.Errorf("left: %v", secrets)
	}
}

// copiers are the pg_basebackup processes that write to a node.
func copiers(t *testing.T, n *node) (pids []int) {
	t.Helper()
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		text, _ := os.ReadFile(line)
		words := strings.Split(string(text), "\x00")
		if strings.HasSuffix(words[0], "pg_basebackup") && slices.Contains(words, n.newData()) {
			pid, _ := strconv.Atoi(strings.Split(line, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestKilledCopyIsMadeAgain(t *testing.T) {
	a := startPrimary(t)
	o := slowly(cloneOptions(t, a))
	for name, victim := range map[string]func(b *node, ramdPID int) int{
		"pg_basebackup": func(b *node, _ int) int { return slices.Min(copiers(t, b)) },
		"ramd":          func(_ *node, ramdPID int) int { return ramdPID },
	} {
		t.Run(name, func(t *testing.T) {
			b := newNode(t, "b")
			cmd := ramd(t, errand{Config: b.plain(), Clone: &o})
			waitFor(t, "the copy to begin", func() bool {
				_, err := os.Stat(filepath.Join(b.newData(), "base"))
				return err == nil && len(copiers(t, b)) > 0
			})
			kill(t, victim(b, cmd.Process.Pid), syscall.SIGKILL)
			if err := cmd.Wait(); err == nil {
				t.Error("the clone succeeded")
			}
			if got := inspect(t, b).State; got != pg.DirAbsent {
				t.Errorf("half a copy counts as %s", got)
			}
			waitFor(t, "the copiers to go", func() bool { return len(copiers(t, b)) == 0 })
			waitFor(t, "the source to release the slot", func() bool {
				slots := probe(t, a).Slots
				return len(slots) == 1 && !slots[0].Active
			})
			b.clone(t, a)
			noLeftovers(t, b)
		})
	}
}

// placementSteps are where a placement can be killed, in order, and whether the new
// directory must be in place at the next look.
var placementSteps = []struct {
	name    string
	inPlace bool
}{
	{"new directory made", false},
	{"new directory marked", false},
	{"building", false},
	{"new directory built", false},
	{"new directory complete", false},
	{"old directory aside", true},
	{"new directory in place", true},
}

func TestKilledAtAnyStepNothingIsLostAndTheNextCallGetsThere(t *testing.T) {
	a := startPrimary(t)
	o := cloneOptions(t, a)
	for _, step := range placementSteps {
		t.Run("clone/"+step.name, func(t *testing.T) {
			b := newNode(t, "b")
			old := cloneOptions(t, a)
			old.Generation = 1
			if err := b.Clone(t.Context(), old); err != nil {
				t.Fatal(err)
			}
			dieAt(t, errand{Config: b.plain(), Clone: &o, DieAt: step.name})

			if !hasGeneration(b.DataDir(), 1) && !hasGeneration(b.DataDir()+".ram-aside-1", 1) {
				t.Error("the old copy is lost")
			}
			want := uint64(1)
			if step.inPlace {
				want = 2
			}
			if got := inspect(t, b); got.State != pg.DirCluster || got.Generation != want {
				t.Errorf("the next look finds %s of generation %d, want %d", got.State, got.Generation, want)
			}
			b.clone(t, a)
			if got := inspect(t, b); got.Generation != 2 || !hasGeneration(b.DataDir()+".ram-aside-1", 1) {
				t.Errorf("in the end generation %d is in place", got.Generation)
			}
			beside, _ := filepath.Glob(b.DataDir() + ".*")
			if diff := cmp.Diff([]string{b.DataDir() + ".ram-aside-1"}, beside); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, step := range placementSteps {
		if step.name == "old directory aside" {
			continue // there is none
		}
		t.Run("init/"+step.name, func(t *testing.T) {
			n := newNode(t, "a")
			options := InitOptions{Generation: 1, Files: files()}
			dieAt(t, errand{Config: n.plain(), Init: &options, DieAt: step.name})
			if step.name == "new directory complete" {
				// Its place is free, so the next look finishes it.
				if got := inspect(t, n).State; got != pg.DirCluster {
					t.Errorf("the next look finds %s", got)
				}
			}
			if err := n.Init(t.Context(), options); err != nil {
				t.Fatal(err)
			}
			noLeftovers(t, n)
		})
	}
}

func dieAt(t *testing.T, e errand) {
	t.Helper()
	err := ramd(t, e).Wait()
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("ramd did not come to %q: %v", e.DieAt, err)
	}
}

func hasGeneration(dir string, generation uint64) bool {
	m, marked, err := readMarker(dir)
	_, versionErr := os.Stat(filepath.Join(dir, "PG_VERSION"))
	return err == nil && marked && m.Generation == generation && versionErr == nil
}

func TestRemovalOfLeftoversCanBeKilled(t *testing.T) {
	a := startPrimary(t)
	b := newNode(t, "b")
	o := cloneOptions(t, a)
	dieAt(t, errand{Config: b.plain(), Clone: &o, DieAt: "building"})
	// As far as a removal may have come: the data is gone, the marker is not.
	if err := os.RemoveAll(b.newData()); err != nil {
		t.Fatal(err)
	}
	b.clone(t, a)
}

func TestBuildOfAnotherProcessIsLeftAlone(t *testing.T) {
	a := startPrimary(t)
	b := newNode(t, "b")
	o := slowly(cloneOptions(t, a))
	cmd := ramd(t, errand{Config: b.plain(), Clone: &o})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		inspect(t, b) // ends what it has started
	})
	waitFor(t, "the copy to begin", func() bool { return len(copiers(t, b)) > 0 })
	if got := inspect(t, b).State; got != pg.DirAbsent {
		t.Errorf("half a copy counts as %s", got)
	}
	wantError(t, b.Clone(t.Context(), cloneOptions(t, a)), errBuilding)
	if len(copiers(t, b)) == 0 {
		t.Error("the copy of the other process was ended")
	}
}

func TestRetiredDirectoryIsKept(t *testing.T) {
	n := newPrimary(t)
	at := time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)
	t.Run("not while a server runs on it", func(t *testing.T) {
		n.start(t)
		_, err := n.SetAside(t.Context(), at, "removed")
		wantError(t, err, ErrRunning)
		n.stop(t)
	})
	path, err := n.SetAside(t.Context(), at, "node a left")
	if err != nil {
		t.Fatal(err)
	}
	if want := n.DataDir() + ".ram-removed-20261122T010203Z"; path != want {
		t.Errorf("%s, want %s", path, want)
	}
	if m, _, _ := readMarker(path); !strings.Contains(m.Removed, "node a left") {
		t.Errorf("its marker says %+v", m)
	}
	if got := inspect(t, n).State; got != pg.DirAbsent {
		t.Errorf("in its place: %s", got)
	}
	if again, err := n.SetAside(t.Context(), at, "again"); again != "" || err != nil {
		t.Errorf("nothing to set aside: %q, %v", again, err)
	}
	if err := errors.Join(n.RemoveAside()); err != nil || !hasGeneration(path, 1) {
		t.Errorf("%v, it is kept: %v", err, hasGeneration(path, 1))
	}
}
