package raftstore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

// Member is one node as a member of the Raft group.
type Member struct {
	// Name is the node's name in the spec.
	Name string
	// Incarnation tells this life of the node's raft directory from earlier ones.
	Incarnation string
	// Address is the host:port at which the other members reach it.
	Address string
	// Voter is false for a member that only receives the log.
	Voter bool
}

// ID is the member's Raft server ID: name and incarnation. A node whose disk was
// wiped has a new one, so that nothing that it forgot is expected of it.
func (m Member) ID() string { return m.Name + idSeparator + m.Incarnation }

const (
	idSeparator = "#"
	// maxNameLength is what one length byte of the handshake can say, less the
	// incarnation.
	maxNameLength = 200
)

func checkName(name string) error {
	if name == "" || len(name) > maxNameLength || strings.ContainsAny(name, idSeparator+targetSeparator+" \t\r\n") {
		return fmt.Errorf("node name %q must have 1 to %d bytes and no '#', '@' or space", name, maxNameLength)
	}
	return nil
}

func (m Member) check() error {
	if err := checkName(m.Name); err != nil {
		return err
	}
	if m.Incarnation == "" || len(m.Incarnation) > 32 || strings.Contains(m.Incarnation, idSeparator) {
		return fmt.Errorf("node %s: incarnation %q is not one that a raft store makes", m.Name, m.Incarnation)
	}
	if m.Address == "" {
		return fmt.Errorf("node %s: no raft address", m.Name)
	}
	return nil
}

func (m Member) server() raft.Server {
	suffrage := raft.Nonvoter
	if m.Voter {
		suffrage = raft.Voter
	}
	return raft.Server{ID: raft.ServerID(m.ID()), Address: raft.ServerAddress(m.Address), Suffrage: suffrage}
}

func memberOf(server raft.Server) Member {
	name, incarnation := splitID(string(server.ID))
	return Member{
		Name: name, Incarnation: incarnation,
		Address: string(server.Address), Voter: server.Suffrage == raft.Voter,
	}
}

func splitID(id string) (name, incarnation string) {
	name, incarnation, _ = strings.Cut(id, idSeparator)
	return name, incarnation
}

// membersOf are the servers in the order of their names.
func membersOf(servers []raft.Server) []Member {
	members := make([]Member, len(servers))
	for i, server := range servers {
		members[i] = memberOf(server)
	}
	slices.SortFunc(members, compareIDs)
	return members
}

func compareIDs(a, b Member) int { return cmp.Compare(a.ID(), b.ID()) }
