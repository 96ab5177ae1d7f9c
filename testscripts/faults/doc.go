// Package faults runs whole clusters of real ramd processes and real PostgreSQL
// servers on hosts that can fail, for tests only. A host is a network namespace;
// the network between the hosts is a switch inside the test, which drops, loses
// and delays packets as it is told.
//
//	c := faults.New(t, cluster.Spec{Nodes: []string{"a", "b", "c"}})
//	c.Form()
//	w := c.StartWriter(faults.Pace{})
//	c.Net.Cut("a")
//	...
//	c.Net.Heal()
//	c.CheckLedger(w.Stop())
//
// It needs root and /dev/net/tun; New skips the test when they are missing, but for
// CI=true as root.
//
// # What runs when
//
// A plain go test plays what breaks most often, in three to four minutes: the primary lost
// in the usual ways, two failovers in a row, what is no reason for a failover, and a
// few rounds of random faults.
// RAM_FAULTS_ALL=1 adds the rest: every way to lose the primary; standbys that lag, do not
// replay or have lost their WAL; failover during changes; hosts that come back in every
// order; async mode and witnesses. Random rounds go on for RAM_FAULTS_HOURS. make faults
// sets both.
//
// # Why a switch of our own
//
// Every host has a TUN device whose other end the test holds. That needs nothing of
// the kernel but TUN: tc's netem, its drop action, nft and iptables are missing on
// many machines, and each silently changes what a test means when it is. It drops
// without a word to either side, one way or both, which a blackhole route (an error
// for local senders) or a link that is down (seen by its host) does not. There is no
// ARP, so no host learns from a neighbour's silence. Namespaces have no names: they
// end with their last process, so a test that was killed leaves none.
//
// A round trip through the switch costs some 0.1 ms more than a pair of veth devices.
package faults
