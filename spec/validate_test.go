package spec_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// build makes a cluster from words: "a", "b:witness", "c:priority=0".
func build(nodes ...string) *spec.Cluster {
	c := spec.NewCluster("demo")
	c.Postgres.Version = 15
	for i, word := range nodes {
		name, kind, _ := strings.Cut(word, ":")
		n := spec.NewNode(name, i+1)
		n.Host = fmt.Sprintf("10.0.0.%d", 11+i)
		n.Witness = kind == "witness"
		if kind == "priority=0" {
			n.Priority = 0
		}
		c.Nodes = append(c.Nodes, n)
	}
	c.Settle()
	return c
}

// brief is problems in one-line notation.
func brief(problems []spec.Problem) []string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, fmt.Sprintf("%s %s", p.Severity, p.Path))
	}
	return lines
}

func TestSizesOfClusters(t *testing.T) {
	for _, tt := range []struct {
		rule  string
		nodes string
		sync  int
		want  []string
	}{
		{"one node is valid and waits for nobody", "a", 0, nil},
		{"one node and a witness elect nobody else", "a w:witness", 0, []string{"warning node"}},
		{"two nodes are an even number of voters", "a b", 1, []string{"warning node"}},
		{"two nodes and a witness", "a b w:witness", 1, nil},
		{"three nodes", "a b c", 1, nil},
		{"standbys that are never primary are not waited for", "a b:priority=0 c:priority=0", 0, nil},
		{"four nodes are an even number of voters", "a b c d", 1, []string{"warning node"}},
		{"of six nodes five vote", "a b c d e f", 1, nil},
		{"nobody can be primary", "a:priority=0 b:priority=0 w:witness", 0, []string{"error node"}},
		{"only witnesses", "u:witness v:witness w:witness", 0, []string{"error node"}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			c := build(strings.Fields(tt.nodes)...)
			if c.Replication.SyncStandbys != tt.sync {
				t.Errorf("sync_standbys defaults to %d, want %d", c.Replication.SyncStandbys, tt.sync)
			}
			if diff := cmp.Diff(tt.want, brief(c.Validate())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestProblemsComeInTheSameOrder(t *testing.T) {
	broken := func() *spec.Cluster {
		c := build("a", "a", "B", "w:witness")
		c.Postgres.Parameters = map[string]string{"fsync": "off", "port": "1", "nonsense": "x", "work_mem": "-5"}
		c.Nodes[1].Parameters = map[string]string{"fsync": "off", "max_connections": "1"}
		c.Repositories = []spec.Repository{{Name: "r"}, {Name: "r"}}
		c.Failover.Lease = 0
		return c
	}
	want := broken().Validate()
	if len(want) < 10 {
		t.Fatalf("only %d problems", len(want))
	}
	for range 20 {
		if diff := cmp.Diff(want, broken().Validate()); diff != "" {
			t.Fatalf("another order:\n%s", diff)
		}
	}
}

func TestEveryProblemHasAPlaceAndSaysWhatToWrite(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	text := func() string { return []string{"", "x", "UPPER", "10.0.0.1", "/abs", "5", "é"}[r.IntN(7)] }
	for range 500 {
		c := &spec.Cluster{Name: text(), Postgres: spec.Postgres{Version: r.IntN(20), User: text(), BinDir: text(), HBA: []string{text()}}}
		c.Postgres.Parameters = map[string]string{text(): text(), "work_mem": text(), "synchronous_commit": text()}
		for range r.IntN(4) {
			c.Nodes = append(c.Nodes, spec.Node{Name: text(), ID: r.IntN(3) - 1, Host: text(), Priority: r.IntN(3) - 1, DataDir: text(), Witness: r.IntN(2) == 0})
		}
		c.Replication = spec.Replication{Mode: spec.Mode(text()), SyncStandbys: r.IntN(4) - 1, WhenShort: spec.WhenShort(text())}
		c.Repositories = []spec.Repository{{Name: text(), URL: text(), Compression: text()}}
		c.Archive = &spec.Archive{Repository: text()}
		c.Backups = []spec.Backup{{Name: text(), Repository: text(), Schedule: text(), Timezone: text(), From: text()}}
		c.Bootstrap = &spec.Bootstrap{Restore: &spec.Restore{Repository: text(), TargetTime: text()}}
		c.Protect = []string{text(), text()}
		for _, p := range c.Validate() {
			if p.Path == "" || p.Summary == "" || p.Detail == "" || p.Severity == "" {
				t.Fatalf("incomplete: %+v", p)
			}
		}
	}
}

func TestSecondBlocksOfOneNameHavePathsOfTheirOwn(t *testing.T) {
	c := build("a", "b", "b")
	c.Nodes[2].Priority = -1
	want := []string{"error node.b#2.priority", "error node.b#2"}
	if diff := cmp.Diff(want, brief(c.Validate())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUnsafeSettingsInEverySpelling(t *testing.T) {
	for _, tt := range []struct {
		parameter, value string
		refused          bool
	}{
		{"fsync", "off", true},
		{"fsync", "FALSE", true},
		{"fsync", "0", true},
		{"fsync", "n", true},
		{"FSYNC", "no", true},
		{"fsync", "on", false},
		{"synchronous_commit", "off", true},
		{"synchronous_commit", "false", true},
		{"synchronous_commit", "local", true},
		{"synchronous_commit", "remote_write", true},
		{"synchronous_commit", "on", false},
		{"synchronous_commit", "yes", false},
		{"synchronous_commit", "remote_apply", false},
		{"wal_level", "minimal", true},
		{"wal_level", "logical", false},
		{"max_wal_senders", "4", true},
		{"max_wal_senders", "5", false},
		{"max_replication_slots", "2", true},
		{"max_replication_slots", "3", false},
	} {
		c := build("a", "b", "c")
		c.Postgres.Parameters = map[string]string{tt.parameter: tt.value}
		if got := len(c.Validate()) > 0; got != tt.refused {
			t.Errorf("%s = %s is refused: %t, want %t (%v)", tt.parameter, tt.value, got, tt.refused, c.Validate())
		}
	}
}

// Where no standby can have a commit, synchronous_commit protects nobody.
func TestOneNodeMayCommitLocally(t *testing.T) {
	c := build("a")
	c.Postgres.Parameters = map[string]string{"synchronous_commit": "local"}
	if problems := c.Validate(); len(problems) > 0 {
		t.Errorf("got %v", problems)
	}
}

// Names serve as they are in PostgreSQL: nothing is cut off, and no two valid
// names share a slot.
func TestNamesServeInPostgreSQL(t *testing.T) {
	slots := map[string]string{}
	for _, name := range []string{"a", "b1", "db-1", "db1", "d-b1", strings.Repeat("x", 50)} {
		if problems := build(name).Validate(); len(problems) > 0 {
			t.Errorf("%s is refused: %v", name, problems)
		}
		slot := pg.SlotName(name)
		if other, taken := slots[slot]; taken {
			t.Errorf("%s and %s share slot %s", name, other, slot)
		}
		if pg.ApplicationName(name) != name || slot != "ram_"+strings.ReplaceAll(name, "-", "_") {
			t.Errorf("%s is %s and %s to PostgreSQL", name, pg.ApplicationName(name), slot)
		}
		slots[slot] = name
	}
	for _, name := range []string{"db_1", "DB", "1", "-a", "a-", "a.b", "", strings.Repeat("x", 51), "é"} {
		if len(build(name).Validate()) == 0 {
			t.Errorf("%q is accepted", name)
		}
	}
}

func TestParametersTakePostgreSQLsOwnSpelling(t *testing.T) {
	c := build("a", "b", "c")
	c.Postgres.Parameters = map[string]string{"timezone": "UTC", "Work_Mem": "8MB", "My.Own": "x"}
	c.Nodes[0].Parameters = map[string]string{"DATESTYLE": "iso"}
	c.SpellParameters()
	if diff := cmp.Diff(map[string]string{"TimeZone": "UTC", "work_mem": "8MB", "My.Own": "x"}, c.Postgres.Parameters); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"DateStyle": "iso"}, c.Nodes[0].Parameters); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSecretNames(t *testing.T) {
	for name, want := range map[string]bool{
		"password": true, "app.api_token": true, "my.Secret": true, "aws_access_key": true, "passphrase": true,
		"key_file": false, "password_file": false, "password_encryption": false, "ssl_passphrase_command": false, "work_mem": false, "primary": false,
	} {
		if got := spec.SecretName(name); got != want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

// The record keeps specs as JSON for as long as a cluster lives: what this text
// becomes must not change.
func TestJSONIsStable(t *testing.T) {
	c := build("a", "w:witness")
	c.Nodes[0].Tags = map[string]string{"rack": "r1"}
	c.Postgres.Parameters = map[string]string{"work_mem": "8MB", "fsync": "on"}
	got, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"demo","postgres":{"version":15,"user":"postgres","parameters":{"fsync":"on","work_mem":"8MB"}},` +
		`"nodes":[{"name":"a","id":1,"host":"10.0.0.11","priority":100,"ports":{"postgres":5432,"api":8080,"raft":7400,"metrics":9090},"tags":{"rack":"r1"}},` +
		`{"name":"w","id":2,"host":"10.0.0.12","priority":100,"witness":true,"ports":{"postgres":5432,"api":8080,"raft":7400,"metrics":9090}}],` +
		`"replication":{"mode":"quorum","sync_standbys":0,"when_short":"wait","max_lag":"16MB"},` +
		`"failover":{"automatic":true,"detect":"1s","lease":"5s"},"protect":["data","backups"]}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var back spec.Cluster
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, &back); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}
