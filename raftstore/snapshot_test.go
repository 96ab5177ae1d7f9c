package raftstore

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
)

func TestSealedSnapshotIsOpenedOnlyWhole(t *testing.T) {
	ours := imprint{cluster: "demo", writer: "0.1"}
	whole, err := ours.seal(42, []byte("the record\nof the cluster"))
	must(t, err)
	replace := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(new), 1) }
	}
	cases := []struct {
		name   string
		change func([]byte) []byte
		is     error
	}{
		{"as it was written", func(b []byte) []byte { return b }, nil},
		{"cut short", func(b []byte) []byte { return b[:len(b)-1] }, ErrDamaged},
		{"with something behind", func(b []byte) []byte { return append(b, 'x') }, ErrDamaged},
		{"with a changed byte", replace("record", "recorD"), ErrDamaged},
		{"without a header", func(b []byte) []byte { return b[bytes.IndexByte(b, '\n')+1:] }, ErrDamaged},
		{"with an endless header", func([]byte) []byte { return []byte(strings.Repeat("{", 1<<20)) }, ErrDamaged},
		{"empty", func([]byte) []byte { return nil }, ErrDamaged},
		{"without a format", replace(`"format":1`, `"format":0`), ErrDamaged},
		{"of a newer format", replace(`"format":1`, `"format":2`), ErrIncompatible},
		{"of another cluster", replace("demo", "orders"), ErrForeign},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			index, payload, err := ours.open(bytes.NewReader(tc.change(bytes.Clone(whole))))
			if !errors.Is(err, tc.is) {
				t.Fatalf("error is %v, want %v", err, tc.is)
			}
			if err == nil && (index != 42 || string(payload) != "the record\nof the cluster") {
				t.Errorf("got %q at %d", payload, index)
			}
		})
	}
}

// A snapshot may reflect more than the index under which raft keeps it, and an older
// one may come when the machine is further on.
func TestMachineNeverGoesBackNorAppliesTwice(t *testing.T) {
	machine := &ledger{}
	a := newAdapter(machine, imprint{cluster: "demo"}, func(uint64) {})
	a.Apply(entry(1, "one"))
	old, err := a.Snapshot()
	must(t, err)
	a.Apply(entry(2, "two"))
	newer, err := a.Snapshot()
	must(t, err)
	restore := func(into *adapter, snapshot any) {
		t.Helper()
		must(t, into.Restore(readCloser{bytes.NewReader(snapshot.(sealed))}))
	}
	restore(a, old)
	a.Apply(entry(2, "two"))
	a.Apply(entry(3, "three"))
	want(t, machine, "one", "two", "three")

	second := &ledger{}
	b := newAdapter(second, imprint{cluster: "demo"}, func(uint64) {})
	restore(b, newer)
	for i, command := range []string{"one", "two", "three"} {
		b.Apply(entry(uint64(i+1), command))
	}
	want(t, second, "one", "two", "three")
}

func TestFailedAdapterDoesNothingMore(t *testing.T) {
	machine := &ledger{}
	a := newAdapter(machine, imprint{cluster: "demo"}, func(uint64) {})
	a.Apply(entry(1, "one"))
	before, err := a.Snapshot()
	must(t, err)
	for i, command := range []string{"newer", "after"} {
		answer := a.Apply(entry(uint64(i+2), command)).(outcome)
		wantError(t, answer.err, ErrIncompatible, "entry 2")
	}
	a.StoreConfiguration(4, raft.Configuration{})
	_, err = a.Snapshot()
	wantError(t, err, ErrIncompatible)
	wantError(t, a.Restore(readCloser{bytes.NewReader(before.(sealed))}), ErrIncompatible)
	want(t, machine, "one")
	if a.applied.Load() != 1 {
		t.Errorf("applied is %d", a.applied.Load())
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

func entry(index uint64, command string) *raft.Log {
	return &raft.Log{Index: index, Type: raft.LogCommand, Data: []byte(command)}
}

func want(t *testing.T, machine *ledger, commands ...string) {
	t.Helper()
	if diff := cmp.Diff(commands, machine.commands()); diff != "" {
		t.Errorf("machine (-want +got):\n%s", diff)
	}
}
