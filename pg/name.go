package pg

import (
	"fmt"
	"hash/fnv"
	"strings"
)

// MaxNameBytes is the longest name that PostgreSQL keeps whole: of databases,
// roles, replication slots and applications. It cuts longer ones off.
const MaxNameBytes = 63

// SlotName is the replication slot that a node's followers' upstreams keep for
// it. Slots are named with a-z, 0-9 and _ only: upper case becomes lower case and any other byte
// becomes _, so that nodes db-1 and db_1 would share a name; node names are DNS
// labels, which have no _ . A name that gets too long ends in a hash of the whole.
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
