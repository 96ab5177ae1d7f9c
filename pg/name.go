package pg

import (
	"fmt"
	"hash/fnv"
	"strings"
)

// MaxNameBytes is the longest name that PostgreSQL keeps whole: of databases,
// roles, replication slots and applications. It cuts longer ones off.
const MaxNameBytes = 63

// SlotName is the replication slot that other nodes keep for a node: ram_ and its
// name. Slots are named with a-z, 0-9 and _ only, so upper case becomes lower
// case and any other character becomes _. Nodes db-1 and db_1 would share a slot;
// node names are DNS labels, which have no underscore. A slot name that would be
// too long ends in a hash of the node's whole name.
func SlotName(node string) string {
	name := "ram_" + strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
			return c
		case 'A' <= c && c <= 'Z':
			return c | 0x20
		}
		return '_'
	}, node)
	return shorten(name, node)
}

// ApplicationName is what a node's walreceiver calls itself, and what
// synchronous_standby_names calls the node: its name, shortened as SlotName does
// when PostgreSQL would cut it off.
func ApplicationName(node string) string { return shorten(node, node) }

func shorten(name, whole string) string {
	if len(name) <= MaxNameBytes {
		return name
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(whole)) // never fails
	return strings.ToValidUTF8(name[:MaxNameBytes-9], "") + fmt.Sprintf("_%08x", hash.Sum32())
}
