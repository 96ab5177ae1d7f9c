package pg

import (
	"strings"
	"testing"
)

func TestNamesOfNodesInsidePostgreSQL(t *testing.T) {
	long := strings.Repeat("n", 63)
	for _, c := range []struct{ node, slot, application string }{
		{"a", "ram_a", "a"},
		{"db-1", "ram_db_1", "db-1"},
		{"DB.example", "ram_db_example", "DB.example"},
		{"é", "ram__", "é"},
		{long[:59], "ram_" + long[:59], long[:59]},
		{long[:60], "ram_" + long[:50] + "_820f61f5", long[:60]},
		{long, "ram_" + long[:50] + "_8213b529", long},
		{long + "n", "ram_" + long[:50] + "_0c065ec5", long[:54] + "_0c065ec5"},
	} {
		if got := SlotName(c.node); got != c.slot {
			t.Errorf("slot of %s: got %s, want %s", c.node, got, c.slot)
		}
		if got := ApplicationName(c.node); got != c.application {
			t.Errorf("application name of %s: got %s, want %s", c.node, got, c.application)
		}
	}
}

func FuzzNamesAreWhatPostgreSQLKeeps(f *testing.F) {
	f.Add("db-1")
	f.Add(strings.Repeat("ä", 41))
	f.Fuzz(func(t *testing.T, node string) {
		slot := SlotName(node)
		if len(slot) > MaxNameBytes || strings.Trim(slot, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("slot %q", slot)
		}
		if name := ApplicationName(node); len(name) > MaxNameBytes {
			t.Errorf("application name %q", name)
		}
	})
}

// checkSlotNames lets the server make the slots.
func (s *scratch) checkSlotNames(t *testing.T) {
	for _, node := range []string{"a", "db-1", "UPPER.example", strings.Repeat("n", 100)} {
		var kept string
		err := s.conn.QueryRow(t.Context(), "SELECT slot_name FROM pg_create_physical_replication_slot($1)", SlotName(node)).Scan(&kept)
		if err != nil || kept != SlotName(node) {
			t.Errorf("%s: kept %q, %v", SlotName(node), kept, err)
		}
	}
}
