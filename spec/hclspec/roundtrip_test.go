package hclspec_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
	"github.com/ramhq/ram/spec/hclspec"
)

// dice makes clusters that are valid, and as different as the language allows.
type dice struct{ *rand.Rand }

func (d dice) chance() bool { return d.IntN(2) == 0 }

func pick[T any](d dice, choices ...T) T { return choices[d.IntN(len(choices))] }

func (d dice) text() string {
	return pick(d, "", "north", "with space", `"quoted" \ back`, "${not} %{a template}", "$${x}", "å→日本", "a=b", "#no comment", "'x'")
}

func (d dice) cluster() *spec.Cluster {
	c := spec.NewCluster(pick(d, "demo", "a", "orders-2"))
	c.Postgres.Version = 13 + d.IntN(6)
	c.Postgres.BinDir = pick(d, "", "/usr/lib/postgresql/15/bin")
	c.Postgres.User = pick(d, "postgres", "pg")
	c.Postgres.Parameters = d.parameters()
	if d.chance() {
		c.Postgres.HBA = []string{"host all all 10.0.0.0/8 scram-sha-256", `host "my db" all samenet scram-sha-256`}
	}
	for i := range 1 + d.IntN(7) {
		c.Nodes = append(c.Nodes, d.node(i))
	}
	c.Replication.Mode = pick(d, spec.ModeQuorum, spec.ModeAsync)
	c.Settle()
	if possible := c.SyncCandidates(); c.Replication.Mode == spec.ModeQuorum && possible > 0 {
		c.Replication.SyncStandbys = 1 + d.IntN(possible)
	}
	c.Replication.WhenShort = pick(d, spec.WhenShortWait, spec.WhenShortDegrade)
	c.Replication.MaxLag = pick(d, 0, 1, 16*pg.MB, 3*pg.GB)
	c.Failover.Automatic = d.chance()
	c.Failover.Detect = spec.Duration(time.Duration(100+d.IntN(2000)) * time.Millisecond)
	c.Failover.Lease = c.Failover.Detect + spec.Duration(time.Second)
	c.Protect = pick(d, []string{}, []string{"data"}, []string{"data", "backups"})
	d.backups(c)
	return c
}

func (d dice) parameters() map[string]string {
	if d.chance() {
		return nil
	}
	return map[string]string{
		"work_mem":         pick(d, "64MB", "4096"),
		"log_line_prefix":  d.text(),
		"log_connections":  "on",
		"random_page_cost": pick(d, "1.1", "4"),
		"my.extension":     d.text(),
	}
}

func (d dice) node(i int) spec.Node {
	n := spec.NewNode(fmt.Sprintf("n%d", i), i+1)
	n.Host = fmt.Sprintf("10.0.0.%d", i+1)
	n.Zone = d.text()
	if d.chance() {
		n.ID = 100 + i
	}
	if d.chance() {
		n.Ports = spec.Ports{Postgres: 5433, API: 8080, Raft: 7401, Metrics: 9090}
	}
	if d.chance() {
		n.Tags = map[string]string{"rack": d.text(), "with space": d.text(), "1": "2"}
	}
	if i > 0 && d.IntN(4) == 0 {
		n.Witness = true
		return n
	}
	n.Priority = 1 + d.IntN(200)
	n.DataDir = pick(d, "", "/srv/pg")
	n.Parameters = d.parameters()
	return n
}

func (d dice) backups(c *spec.Cluster) {
	if d.chance() {
		return
	}
	r := spec.NewRepository("main")
	r.URL = pick(d, "file:///srv/backups", "s3://bucket/prefix?region=x")
	r.Compression = pick(d, spec.CompressionZstd, spec.CompressionNone)
	if d.chance() {
		r.Encryption = &spec.Encryption{KeyFile: "/etc/ram/backup.key"}
	}
	c.Repositories = []spec.Repository{r}
	if d.chance() {
		c.Archive = &spec.Archive{Repository: "main"}
	}
	b := spec.NewBackup("nightly")
	b.Repository, b.Schedule = "main", "*/5 2-4 * * mon"
	b.Timezone = pick(d, "UTC", "Europe/Stockholm")
	b.From = pick(d, spec.FromStandby, spec.FromPrimary, "n0")
	b.Keep = spec.Keep{Last: 1 + d.IntN(9), Days: d.IntN(3)}
	if d.chance() {
		b.Verify = &spec.Verify{Schedule: "0 5 * * 0"}
	}
	c.Backups = []spec.Backup{b}
	if d.chance() {
		restore := spec.NewRestore()
		restore.Repository = "main"
		restore.TargetTime = pick(d, "", "2026-11-20T12:00:00Z")
		c.Bootstrap = &spec.Bootstrap{Restore: &restore}
	}
}

func TestParseOfEncodeIsTheSameCluster(t *testing.T) {
	for seed := range uint64(100) {
		want := dice{rand.New(rand.NewPCG(seed, 1))}.cluster()
		text := hclspec.Encode(want)
		got, diagnostics := hclspec.Parse([]hclspec.Source{{Name: "encoded.hcl", Text: text}}, hclspec.Options{})
		if diagnostics.HasErrors() {
			t.Fatalf("seed %d: %s\n%s", seed, diagnostics.Error(), text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d (-want +got):\n%s\n%s", seed, diff, text)
		}
		if want.Digest() != got.Digest() {
			t.Fatalf("seed %d: digests differ", seed)
		}
	}
}

func TestEncodeIsCanonical(t *testing.T) {
	for seed := range uint64(25) {
		c := dice{rand.New(rand.NewPCG(seed, 2))}.cluster()
		text := hclspec.Encode(c)
		if diff := cmp.Diff(string(text), string(hclspec.Encode(c))); diff != "" {
			t.Fatalf("seed %d: the same cluster gives different text:\n%s", seed, diff)
		}
		formatted, err := hclspec.Format("encoded.hcl", text)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if diff := cmp.Diff(string(text), string(formatted)); diff != "" {
			t.Fatalf("seed %d: not in canonical layout (-encoded +formatted):\n%s", seed, diff)
		}
	}
}

func TestEncodeLeavesOutDefaults(t *testing.T) {
	c := spec.NewCluster("demo")
	c.Postgres.Version = 15
	for i, name := range []string{"a", "b"} {
		n := spec.NewNode(name, i+1)
		n.Host = "10.0.0." + name
		c.Nodes = append(c.Nodes, n)
	}
	c.Settle()
	want := `cluster "demo" {
  postgres {
    version = 15
  }

  node "a" {
    host = "10.0.0.a"
  }

  node "b" {
    host = "10.0.0.b"
  }
}
`
	if diff := cmp.Diff(want, string(hclspec.Encode(c))); diff != "" {
		t.Error(diff)
	}
}
