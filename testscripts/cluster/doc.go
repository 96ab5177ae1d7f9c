// Package cluster runs whole clusters of real ramd processes and real PostgreSQL
// servers on this machine's loopback addresses, for tests only.
//
//	c := cluster.New(t, cluster.Spec{Nodes: []string{"a", "b", "c"}}.String())
//	c.Start("a", "b", "c")
//	c.Apply("")
//	c.CheckHealthy()
//
// A test package calls Main from its TestMain. Each cluster has addresses and a
// directory of its own, so tests may call t.Parallel before New; New waits while
// there are as many clusters as the machine takes at a time (RAM_TEST_CLUSTERS,
// default 3). In a spec, "@a" stands for the address of node a.
//
// At the end of the test every node is stopped as an operator stops it, and the
// test fails when a process of the cluster is left, or when a ramd has crashed or
// raced. When the test has failed already, everything is killed; RAM_TEST_KEEP=1
// then keeps the directory. What a test run that was killed has left behind is
// cleared by the next one.
//
// The programs are built once for each run of a test binary, with the race
// detector when the tests have it. RAM_TEST_PROGRAMS names a directory with others.
package cluster
