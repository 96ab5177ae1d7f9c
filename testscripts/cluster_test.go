package testscripts

import (
	"errors"
	"fmt"
	"net/http"
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

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

var threeNodes = cluster.Spec{Nodes: []string{"a", "b", "c"}}

// applied is a healthy cluster of a spec.
func applied(t *testing.T, s cluster.Spec) *cluster.Cluster {
	t.Helper()
	c := cluster.New(t, s.String())
	c.Start(s.Nodes...)
	c.Apply("")
	c.CheckHealthy()
	return c
}

func TestClusterForms(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, threeNodes.String())

	c.Part("not before every initial voter is there", func(t *testing.T) {
		c.Start("a", "b")
		c.AwaitLog("a", "waiting for ramd on c")
		c.AwaitLog("b", "waiting for ramd on c")
		if _, err := os.Stat(c.TokenFile("a")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("node a has an admin token although there is no cluster: %v", err)
		}
		if err := c.AskAs("", "a", http.MethodGet, "/status", nil, nil); err == nil {
			t.Error("a ramd without a cluster answers to anybody")
		}
	})
	c.Part("not while one was started with another spec", func(t *testing.T) {
		c.WriteSpec("c", threeNodes.With("d").String())
		c.Start("c")
		c.AwaitLog("a", "node c was started with a spec whose voters are a, b, c, d, here they are a, b, c: start all nodes with the same spec")
		c.Kill9("c")
		c.WriteSpec("c", threeNodes.String())
		c.Start("c")
		c.AwaitFormed()
	})
	c.Part("and asks for a token from then on", func(t *testing.T) {
		c.AwaitToken("b")
		for _, token := range []string{"", "wrong", strings.Repeat("0", 64)} {
			for path, method := range map[string]string{
				"/status": http.MethodGet, "/credentials": http.MethodGet, "/observed": http.MethodGet,
				"/apply": http.MethodPost, "/stop": http.MethodPost,
			} {
				err := c.AskAs(token, "b", method, path, struct{}{}, nil)
				if err == nil || !strings.Contains(err.Error(), "401") {
					t.Errorf("%s %s with the token %q: %v, want 401", method, path, token, err)
				}
			}
		}
		if r := c.CtlAs("wrong", "status"); r.Code != 1 || !strings.Contains(r.Stderr, "admin.token") {
			t.Errorf("ramctrl with a wrong token: %s", r)
		}
	})
	c.Part("a second ramd on the same data directory is refused", func(t *testing.T) {
		r := c.Ramd("a", "start", "--spec", c.SpecFile("a"), "--node", "a")
		if r.Code != 1 || !strings.Contains(r.Stderr, "already runs on "+c.StateDir("a")) {
			t.Errorf("second ramd: %s", r)
		}
	})
	c.Part("nothing is set up before the first apply", func(t *testing.T) {
		for _, name := range threeNodes.Nodes {
			if _, err := os.Stat(c.DataDir(name)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("node %s has a data directory: %v", name, err)
			}
		}
	})
	c.Part("a request to a follower is carried out by the leader", func(t *testing.T) {
		leader := c.Leader()
		follower := slices.DeleteFunc(slices.Clone(threeNodes.Nodes), func(n string) bool { return n == leader })[0]
		c.Await("the follower knows the cluster", func(reconcile.Status) error {
			_, err := c.StatusOf(follower)
			return err
		})
		if r := c.CtlAt([]string{follower}, "apply", c.SpecFile("a"), "--auto-approve"); r.Code != 0 {
			t.Errorf("apply at follower %s: %s", follower, r)
		}
		c.CheckHealthy()
		for _, name := range threeNodes.Nodes {
			s, err := c.StatusOf(name)
			if err != nil || s.Primary == "" || s.Raft.Leader != c.Leader() || cluster.Converged(s) != nil {
				t.Errorf("node %s says %+v, %v", name, s, err)
			}
		}
	})
}

func TestClusterShapes(t *testing.T) {
	for _, shape := range []struct {
		name   string
		spec   cluster.Spec
		voters []string
		roles  string
	}{
		{
			"one node alone",
			cluster.Spec{Nodes: []string{"a"}, Cluster: "  replication { sync_standbys = 0 }"},
			[]string{"a"},
			"primary",
		},
		{
			"four nodes",
			cluster.Spec{Nodes: []string{"a", "b", "c", "d"}},
			[]string{"a", "b", "c", "d"},
			"primary standby standby standby",
		},
		{
			"five nodes, one a witness",
			cluster.Spec{Nodes: []string{"a", "b", "c", "d", "w"}, Witnesses: []string{"w"}},
			[]string{"a", "b", "c", "d", "w"},
			"primary standby standby standby witness",
		},
		{
			"six nodes, the sixth has no vote",
			cluster.Spec{Nodes: []string{"a", "b", "c", "d", "e", "f"}},
			[]string{"a", "b", "c", "d", "e"},
			"primary standby standby standby standby standby",
		},
	} {
		t.Run(shape.name, func(t *testing.T) {
			t.Parallel()
			c := applied(t, shape.spec)
			s := c.AwaitConverged()
			if diff := cmp.Diff(shape.voters, s.Raft.Voters); diff != "" {
				t.Errorf("voters (-want +got):\n%s", diff)
			}
			var roles []string
			for _, n := range s.Nodes {
				roles = append(roles, string(n.Role))
			}
			if got := strings.Join(roles, " "); got != shape.roles {
				t.Errorf("roles are %s, want %s", got, shape.roles)
			}
		})
	}
}

// session is a connection that is open across what happens to ramd.
type session struct {
	t    *testing.T
	ask  func(sql string) (string, error)
	node string
}

func openSession(t *testing.T, c *cluster.Cluster, node string) session {
	t.Helper()
	conn := c.Connect(node)
	return session{t, func(sql string) (answer string, err error) {
		err = conn.QueryRow(t.Context(), sql).Scan(&answer)
		return answer, err
	}, node}
}

func (s session) mustWork() {
	s.t.Helper()
	if _, err := s.ask("SELECT 'works'"); err != nil {
		s.t.Errorf("the session with PostgreSQL on node %s was cut: %v", s.node, err)
	}
}

func (s session) mustBeCut() {
	s.t.Helper()
	if _, err := s.ask("SELECT 'works'"); err == nil {
		s.t.Errorf("the session with PostgreSQL on node %s goes on", s.node)
	}
}

// nodeState is the condition that a node is in a state.
func nodeState(node string, want reconcile.NodeState) cluster.Condition {
	return func(s reconcile.Status) error { return stateIs(s, node, want) }
}

func TestClusterOutlivesItsDaemons(t *testing.T) {
	t.Parallel()
	c := applied(t, threeNodes)
	const started = "SELECT pg_postmaster_start_time()::text"

	for how, end := range map[string]func(...string){"is stopped": c.Stop, "is killed": c.Kill9} {
		c.Part("PostgreSQL and its sessions go on when ramd "+how+", and ramd finds them again", func(t *testing.T) {
			before := map[string]string{}
			var sessions []session
			for _, name := range threeNodes.Nodes {
				before[name] = c.Query(name, started)[0]
				sessions = append(sessions, openSession(t, c, name))
			}
			end("a", "b", "c")
			for _, s := range sessions {
				s.mustWork()
			}
			c.Start("c", "a", "b")
			c.CheckHealthy()
			for _, s := range sessions {
				s.mustWork()
				if now := c.Query(s.node, started)[0]; now != before[s.node] {
					t.Errorf("PostgreSQL on node %s was restarted: it ran since %s, and runs since %s", s.node, before[s.node], now)
				}
			}
		})
	}
	c.Part("a minority says so, changes nothing, and ends its primary when the lease is over", func(t *testing.T) {
		s := openSession(t, c, "a")
		c.Stop("b", "c")
		c.Await("node a says that there is no quorum", func(s reconcile.Status) error {
			if s.Raft.HasQuorum || s.Converged {
				return fmt.Errorf("has_quorum %t, converged %t", s.Raft.HasQuorum, s.Converged)
			}
			return nil
		})
		r := c.TryApply(cluster.Spec{Nodes: threeNodes.Nodes, Parameters: `work_mem = "5MB"`}.String())
		if r.Code != 1 {
			t.Errorf("a change was taken without a quorum: %s", r)
		}
		if r := c.Ctl("pause"); r.Code != 1 {
			t.Errorf("a pause was taken without a quorum: %s", r)
		}
		if r := c.Ctl("health"); r.Code != 1 {
			t.Errorf("health without a quorum: %s", r)
		}
		c.Await("PostgreSQL on a is ended by its guard", nodeState("a", reconcile.NodeStopped))
		s.mustBeCut()
		c.Start("b", "c")
		c.SetSpec(threeNodes.String())
		c.CheckHealthy()
		if s, _ := c.Status(); s.Revision != 1 || s.Paused {
			t.Errorf("revision %d, paused %t after the refusals", s.Revision, s.Paused)
		}
	})
	c.Part("ramd stop --postgres stops both, and both come back", func(t *testing.T) {
		for _, name := range []string{"b", "a"} { // a standby, and the primary
			if r := c.StopPostgres(name); r.Code != 0 || !strings.Contains(r.Stdout, "so has PostgreSQL") {
				t.Errorf("stop --postgres on %s: %s", name, r)
			}
			c.CheckNoProcess(name)
			c.Start(name)
			c.CheckHealthy()
		}
	})
	for _, order := range [][]string{{"a", "b", "c"}, {"c", "b", "a"}, {"b", "c", "a"}} {
		c.Part("a power cut, and a start in the order "+strings.Join(order, " "), func(t *testing.T) {
			c.Write()
			c.KillTree("a", "b", "c")
			for _, name := range order {
				c.Start(name)
				time.Sleep(500 * time.Millisecond) // so that the order is one
			}
			c.CheckHealthy()
		})
	}
}

func TestClusterRefusesStateItCannotRead(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Spec{Nodes: []string{"a"}, Cluster: "  replication { sync_standbys = 0 }"}.String())
	c.Start("a")
	c.AwaitFormed()
	c.Stop("a")
	store := filepath.Join(c.StateDir("a"), "raft", "store.json")
	good, err := os.ReadFile(store)
	if err != nil {
		t.Fatal(err)
	}
	for name, broken := range map[string]struct{ text, want string }{
		"a newer format":  {strings.Replace(string(good), `"format":1`, `"format":2`, 1), "newer ramd"},
		"another node":    {strings.Replace(string(good), `"node":"a"`, `"node":"b"`, 1), "another node"},
		"another cluster": {strings.Replace(string(good), `"cluster":"test"`, `"cluster":"prod"`, 1), "another node"},
		"a damaged file":  {"{", "damaged"},
	} {
		c.Part(name, func(t *testing.T) {
			if broken.text == string(good) {
				t.Fatalf("the case does not change %s", good)
			}
			if err := os.WriteFile(store, []byte(broken.text), 0o600); err != nil {
				t.Fatal(err)
			}
			c.Start("a")
			if code := c.AwaitEnd("a"); code != 1 {
				t.Errorf("exit code %d", code)
			}
			if log := c.Log("a"); !strings.Contains(log[strings.LastIndex(strings.TrimSpace(log), "\n")+1:], broken.want) {
				t.Errorf("the last line does not say %q:\n%s", broken.want, log)
			}
			if got, _ := os.ReadFile(store); string(got) != broken.text {
				t.Errorf("%s was changed to %s", store, got)
			}
		})
	}
	if err := os.WriteFile(store, good, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Start("a")
	c.Apply("")
	c.CheckHealthy()
}
