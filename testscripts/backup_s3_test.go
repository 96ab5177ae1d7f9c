package testscripts

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ramhq/ram/testscripts/cluster"
	"github.com/ramhq/ram/testscripts/s3server"
)

func TestBackupInAnObjectStore(t *testing.T) {
	t.Parallel()
	server := s3server.Start(t)
	spec := backedUp(alone, repositoryAt(server.URL("clusters/test")))
	c := cluster.New(t, spec.String())
	for name, value := range server.Env {
		c.Setenv(name, value)
	}
	c.Start("a")
	c.Apply("")
	c.CheckHealthy()
	fill(c, "a", 2)
	w := startWriter(t, c, "a")
	first := backUp(c)
	w.end()
	want, target := betweenMarks(t, c)
	c.CtlOK("backup", "verify")
	restore(t, c, "--to-time", target)
	holds(t, c, want)
	archived(c)
	detail := backupOf(c, first)
	if r := detail.Reach; r == nil || r.Gap != "" || r.Timeline <= detail.Timeline {
		t.Errorf("reach %+v of a backup of timeline %d", r, detail.Timeline)
	}
	keepsSecret(t, c, server.Env["AWS_SECRET_ACCESS_KEY"])
}

// keepsSecret looks for a secret where it must not be.
func keepsSecret(t *testing.T, c *cluster.Cluster, secret string) {
	t.Helper()
	for _, command := range []string{"status", "backup list", "backup show -v", "backup jobs", "events", "history", "plan"} {
		for _, format := range []string{"text", "json"} {
			if r := c.Ctl(append(strings.Fields(command), "-o", format)...); strings.Contains(r.String(), secret) {
				t.Errorf("ramctrl %s tells the secret:\n%s", command, r)
			}
		}
	}
	var observed any
	if err := c.Ask("a", "/observed", &observed); err != nil || strings.Contains(fmt.Sprint(observed), secret) {
		t.Errorf("what the leader has observed tells the secret, or nothing: %v", err)
	}
	for _, path := range []string{c.LogFile("a"), c.StateDir("a") + "/postgresql.log", c.StateDir("a") + "/audit.log"} {
		text, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(text), secret) {
			t.Errorf("%s tells the secret, or nothing: %v", path, err)
		}
	}
	for _, p := range c.Processes("a") {
		if strings.Contains(p.Command, secret) {
			t.Errorf("the arguments of a process tell the secret: %s", p)
		}
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
		if err == nil && !strings.Contains(p.Command, "ramd start") && strings.Contains(string(environment), secret) {
			t.Errorf("the secret was handed on to %s", p)
		}
	}
}
