package reconcile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/sim"
)

// changeLines writes changes with one line for each attribute: ~ updated,
// + created, - destroyed.
func changeLines(changes []reconcile.Change) string {
	signs := map[reconcile.Action]string{
		reconcile.ActionCreate: "+", reconcile.ActionUpdate: "~", reconcile.ActionDestroy: "-",
	}
	var lines []string
	for _, c := range changes {
		for _, a := range c.Attributes {
			line := fmt.Sprintf("%s%s %s: %s -> %s", signs[c.Action], signs[a.Action], c.Object+" "+a.Name, a.Old, a.New)
			if a.Forces != "" {
				line += " # " + a.Forces
			}
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

func TestChangesSayWhatTheyCost(t *testing.T) {
	for _, rule := range []struct{ name, before, after, want string }{
		{"nothing", "a b", "a b", ""},
		{"a reload", "a b; work_mem=1MB", "a b; work_mem=2MB", "~~ postgres parameters.work_mem: 1MB -> 2MB # reload"},
		{"a restart", "a b", "a b; shared_buffers=1GB", "~+ postgres parameters.shared_buffers:  -> 1GB # restart"},
		{"a restart whatever the spelling", "a b", "a b; Max_Connections=50", "~+ postgres parameters.Max_Connections:  -> 50 # restart"},
		{"back to the default", "a b; max_connections=50", "a b", "~- postgres parameters.max_connections: 50 ->  # restart"},
		{"one node", "a b", "a(shared_buffers=1GB) b", "~+ node a parameters.shared_buffers:  -> 1GB # restart"},
		{"the port", "a b", "a b(port=6000)", "~~ node b ports.postgres: 5432 -> 6000 # restart"},
		{"a line of pg_hba.conf", "a b", "a b; hba host all all 10.0.0.0/8 md5", "~+ postgres hba[0]:  -> host all all 10.0.0.0/8 md5 # reload"},
		{"a priority", "a b", "a b(priority=1)", "~~ node b priority: 100 -> 1"},
		{"the number of synchronous standbys", "a b c", "a b c; k=2", "~~ replication sync_standbys: 1 -> 2"},
		{"a parameter with a password", "a b; my.password=one", "a b; my.password=two", "~~ postgres parameters.my.password: (sensitive) -> (sensitive) # reload"},
		{"a line of pg_hba.conf with a password", "a b", "a b; hba host all all all ldap ldapbindpasswd=x", "~+ postgres hba[0]:  -> (sensitive) # reload"},
		{"a connection string with a password", "a b; my.dsn=password=x", "a b", "~- postgres parameters.my.dsn: (sensitive) ->  # reload"},
		{"the encryption of passwords is no secret", "a b", "a b; password_encryption=md5", "~+ postgres parameters.password_encryption:  -> md5 # reload"},
	} {
		t.Run(rule.name, func(t *testing.T) {
			w := settled(t, rule.before)
			plan := reconcile.Diff(mustSpec(t, rule.after), w.Record, w.Observed())
			if diff := cmp.Diff(rule.want, changeLines(plan.Changes)); diff != "" {
				t.Error(diff)
			}
			for _, c := range plan.Changes {
				for _, a := range c.Attributes {
					if a.Sensitive != strings.Contains(a.Old+a.New, "(sensitive)") {
						t.Errorf("%s: sensitive %v, shown %q -> %q", a.Name, a.Sensitive, a.Old, a.New)
					}
				}
			}
		})
	}
}

func TestANewObjectListsOnlyWhatIsNotAtItsDefault(t *testing.T) {
	w := sim.New(1, mustSpec(t, "a b"))
	plan := reconcile.Diff(mustSpec(t, "a b(priority=50)"), w.Record, w.Observed())
	want := []string{
		"postgres.version", "node a.host", "node a.id", "node b.host", "node b.id", "node b.priority",
	}
	var got []string
	for _, c := range plan.Changes {
		for _, a := range c.Attributes {
			if !strings.HasPrefix(a.Name, "parameters.") && !strings.HasPrefix(a.Name, "hba[") {
				got = append(got, c.Object+"."+a.Name)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestObjectsAreListedClusterFirstThenNodesByNumber(t *testing.T) {
	w := sim.New(1, mustSpec(t, "b(id=2) a(id=1)"))
	want := mustSpec(t, "b(id=2) a(id=1)")
	want.Protect, want.Replication.MaxLag, want.Failover.Automatic = []string{"none"}, 0, false
	plan := reconcile.Diff(want, w.Record, w.Observed())
	var objects []string
	for _, c := range plan.Changes {
		objects = append(objects, c.Object)
	}
	if diff := cmp.Diff([]string{"cluster", "postgres", "replication", "failover", "node a", "node b"}, objects); diff != "" {
		t.Error(diff)
	}
	w = settled(t, "a b c")
	plan = reconcile.Diff(mustSpec(t, "a b"), w.Record, w.Observed())
	if len(plan.Changes) != 1 || plan.Changes[0].Object != "node c" || plan.Changes[0].Action != reconcile.ActionDestroy {
		t.Errorf("a node that leaves: %+v", plan.Changes)
	}
	if !plan.Summary.Destructive || plan.Summary.Destroy != 1 {
		t.Errorf("summary %+v", plan.Summary)
	}
}
