package testscripts

import (
	"os"
	"testing"

	"github.com/ramhq/ram/testscripts/cluster"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

func TestClusterOfThreeNodesFromNothing(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Spec{Nodes: []string{"a", "b", "c"}}.String())
	c.Start("a", "b", "c")
	c.Apply("")
	c.CheckHealthy()
}
