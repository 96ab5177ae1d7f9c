package spec

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
)

func (c *Cluster) validateNodes(p *problems) {
	if len(c.Nodes) == 0 {
		p.errorf("node", `write node "a" { host = "10.0.0.11" } and one such block for every host`, "the cluster has no nodes")
		return
	}
	paths := blockPaths("node", c.Nodes, func(n Node) string { return n.Name })
	taken := newClaims()
	for i, n := range c.Nodes {
		c.validateNode(p, paths[i], n)
		taken.claimName(p, paths[i], n)
		taken.claimID(p, paths[i], n)
		taken.claimAddresses(p, paths[i], n)
		taken.claimDataDir(p, paths[i], n)
	}
	c.validateElectorate(p, paths)
}

func (c *Cluster) validateNode(p *problems, at string, n Node) {
	if why := nameProblem(n.Name); why != "" {
		p.errorf(at, nameHint(n.Name), "node name %q cannot be used: %s", n.Name, why)
	} else if n.Name == FromPrimary || n.Name == FromStandby {
		p.errorf(at, "choose a name that is not a role: roles move between nodes", "node name %q is the word for a role", n.Name)
	}
	if n.ID < 1 {
		p.errorf(at+".id", "write 1 or more, or leave it out to number the nodes in order", "id %d is not positive", n.ID)
	}
	if n.Priority < 0 {
		p.errorf(at+".priority", "write 0 for a node that must never be primary", "priority %d is negative", n.Priority)
	}
	if why := hostProblem(n.Host); why != "" {
		p.errorf(at+".host", `write an address or a host name that the other nodes reach, such as "10.0.0.11"`, "host %q cannot be used: %s", n.Host, why)
	}
	for _, port := range n.Ports.named() {
		if port.number < 1 || port.number > 65535 {
			p.errorf(at+".ports."+port.name, "write a port from 1 to 65535", "%s port %d is not a TCP port", port.name, port.number)
		}
	}
	if n.Witness {
		validateWitness(p, at, n)
		return
	}
	if n.DataDir != "" && (!path.IsAbs(n.DataDir) || path.Clean(n.DataDir) == "/") {
		p.errorf(at+".data_dir", `write the whole path of a directory, such as "/var/lib/postgresql/15/orders"`,
			"data_dir %q is not the absolute path of a directory", n.DataDir)
	}
	c.validateParameters(p, at+".parameters", n.Parameters, oneNode)
}

func validateWitness(p *problems, at string, n Node) {
	const detail = "remove it, or remove witness = true"
	if n.DataDir != "" {
		p.errorf(at+".data_dir", detail, "witness %q holds no data, so it has no data_dir", n.Name)
	}
	if len(n.Parameters) > 0 {
		p.errorf(at+".parameters", detail, "witness %q runs no PostgreSQL, so it has no parameters", n.Name)
	}
	if n.Priority != DefaultPriority {
		p.errorf(at+".priority", detail, "witness %q is never primary, so it has no priority", n.Name)
	}
}

// validateElectorate checks what the nodes are together.
func (c *Cluster) validateElectorate(p *problems, paths []string) {
	electable := false
	for i, n := range c.Nodes {
		electable = electable || n.Electable()
		if n.Witness && i >= MaxVoters {
			p.warnf(paths[i]+".witness", fmt.Sprintf("move it among the first %d nodes, or remove it", MaxVoters),
				"witness %q does not vote: only the first %d nodes do", n.Name, MaxVoters)
		}
	}
	if !electable {
		p.errorf("node", "give one node without witness = true a priority above 0", "no node can be primary: every one is a witness or has priority 0")
	}
	if voters := len(c.Voters()); voters%2 == 0 {
		p.warnf("node", fmt.Sprintf("add a node, or one with witness = true, which votes and holds no data; %d voters go on without %d of them", voters+1, voters/2),
			"an even number of voters: %d go on without %d of them, no more than %d would", voters, (voters-1)/2, voters-1)
	}
}

type namedPort struct {
	name   string
	number int
}

func (ports Ports) named() []namedPort {
	return []namedPort{
		{"postgres", ports.Postgres},
		{"api", ports.API},
		{"raft", ports.Raft},
		{"metrics", ports.Metrics},
	}
}

// claims remembers who took what only one node can have.
type claims struct {
	names     map[string]bool
	ids       map[int]string
	hosts     map[hostPorts]string
	addresses map[string]string
	dataDirs  map[string]string
}

// hostPorts is everything that a node listens on.
type hostPorts struct {
	host  string
	ports Ports
}

func newClaims() claims {
	return claims{
		names:     map[string]bool{},
		ids:       map[int]string{},
		hosts:     map[hostPorts]string{},
		addresses: map[string]string{},
		dataDirs:  map[string]string{},
	}
}

func (c claims) claimName(p *problems, at string, n Node) {
	if c.names[n.Name] {
		p.errorf(at, "give every node a name of its own", "there is another node %q", n.Name)
	}
	c.names[n.Name] = true
}

func (c claims) claimID(p *problems, at string, n Node) {
	if owner, taken := c.ids[n.ID]; taken {
		p.errorf(at+".id", "choose another number; a node without id takes its place in the order of the nodes", "id %d is already that of node %q", n.ID, owner)
		return
	}
	c.ids[n.ID] = n.Name
}

func (c claims) claimAddresses(p *problems, at string, n Node) {
	host := canonicalHost(n.Host)
	if host == "" {
		return // that is a problem of its own
	}
	if owner, taken := c.hosts[hostPorts{host, n.Ports}]; taken {
		p.errorf(at+".host", "correct the host, or give the node ports of its own", "host and ports of node %q are already those of node %q", n.Name, owner)
		return
	}
	c.hosts[hostPorts{host, n.Ports}] = n.Name
	for _, port := range n.Ports.named() {
		address := host + ":" + strconv.Itoa(port.number)
		if owner, taken := c.addresses[address]; taken {
			p.errorf(at+".ports."+port.name, "choose another port or another host",
				"%s port %d of node %q is already %s on %s", port.name, port.number, n.Name, owner, n.Host)
			continue
		}
		c.addresses[address] = fmt.Sprintf("the %s port of node %q", port.name, n.Name)
	}
}

func (c claims) claimDataDir(p *problems, at string, n Node) {
	if n.DataDir == "" || n.Witness {
		return
	}
	place := canonicalHost(n.Host) + ":" + path.Clean(n.DataDir)
	if owner, taken := c.dataDirs[place]; taken {
		p.errorf(at+".data_dir", "give every node a directory of its own", "data_dir %q on %s is already that of node %q", n.DataDir, n.Host, owner)
		return
	}
	c.dataDirs[place] = n.Name
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?$`)

// hostProblem says why a host cannot be reached by, and is empty when it can.
func hostProblem(host string) string {
	if host == "" {
		return "it is empty"
	}
	if address, err := netip.ParseAddr(host); err == nil {
		if address.IsUnspecified() || address.IsMulticast() {
			return "nobody can connect to that address"
		}
		return ""
	}
	if _, err := netip.ParseAddrPort(host); err == nil {
		return "ports stand in the ports block"
	}
	switch {
	case strings.Contains(host, "/"):
		return "it is neither an address nor a host name"
	case len(host) > 253 || !hostPattern.MatchString(host):
		return "it is neither an address nor a host name"
	case strings.Trim(host, "0123456789.") == "":
		return "it is not a complete IP address"
	}
	return ""
}

// canonicalHost makes two spellings of one address equal.
func canonicalHost(host string) string {
	if address, err := netip.ParseAddr(host); err == nil {
		return address.Unmap().String()
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

func indexPath(at string, i int) string { return fmt.Sprintf("%s[%d]", at, i) }
