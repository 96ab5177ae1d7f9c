package reconcile

import (
	"fmt"
	"slices"
)

// explain says of every node why it was chosen or not.
func (c *choice) explain() {
	for _, n := range c.in.Nodes {
		x := NodeVerdict{Node: n.Node, Chosen: n.Node == c.v.Choose}
		switch {
		case x.Chosen, n.Node == c.v.Reclaim:
			x.Reason = c.v.Reason
		case n.Barren:
			x.Reason = "it was a primary before, and has to be rewound first"
		case n.Priority == 0:
			x.Reason = "its priority is 0: it is never promoted"
		case !n.Promised && n.Why != "":
			x.Reason = n.Why
		case !n.Promised:
			x.Reason = "it has not promised"
		case c.v.Choose == "":
			x.Reason = fmt.Sprintf("it has promised, at %s of timeline %d", n.LSN, n.Timeline)
		default:
			x.Reason = c.whyNot(n)
		}
		c.v.Nodes = append(c.v.Nodes, x)
	}
	if slices.ContainsFunc(c.in.Nodes, func(n Candidate) bool { return n.Node == c.in.Deposed.Node }) {
		return
	}
	d := NodeVerdict{Node: c.in.Deposed.Node, Chosen: c.in.Deposed.Node == c.v.Choose}
	switch {
	case d.Chosen:
		d.Reason = c.v.Reason
	case c.revivable():
		d.Reason = "it was the primary before; a standby has all that it acknowledged"
	case c.in.Deposed.Dead:
		d.Reason = "it was the primary before, and its data directory is not there"
	default:
		d.Reason = "it was the primary before, and is not known to be dead"
	}
	c.v.Nodes = append(c.v.Nodes, d)
}

func (c *choice) whyNot(n Candidate) string {
	i := slices.IndexFunc(c.promised, func(p Candidate) bool { return p.Node == c.v.Choose })
	if i < 0 {
		return "the former primary is started again"
	}
	best := c.promised[i]
	switch {
	case n.Timeline != best.Timeline:
		return fmt.Sprintf("it is on timeline %d, %s on %d", n.Timeline, best.Node, best.Timeline)
	case n.LSN != best.LSN:
		return fmt.Sprintf("it is at %s, %s at %s", n.LSN, best.Node, best.LSN)
	case best.Node == c.in.Target:
		return fmt.Sprintf("%s was asked for", best.Node)
	case n.Priority != best.Priority:
		return fmt.Sprintf("its priority is %d, that of %s %d", n.Priority, best.Node, best.Priority)
	}
	return fmt.Sprintf("it is as good as %s, which comes first by zone or name", best.Node)
}
