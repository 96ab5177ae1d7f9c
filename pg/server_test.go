package pg

import "testing"

func TestWasPrimary(t *testing.T) {
	for _, test := range []struct {
		name string
		dir  DataDirectory
		want bool
	}{
		{"a standby that was stopped", DataDirectory{State: DirCluster, ControlState: "shut down in recovery"}, false},
		{"a standby that was killed", DataDirectory{State: DirCluster, ControlState: "in archive recovery"}, false},
		{"a primary that was stopped", DataDirectory{State: DirCluster, ControlState: "shut down"}, true},
		{"a primary that was killed", DataDirectory{State: DirCluster, ControlState: "in production"}, true},
		{"a primary that was killed while it stopped", DataDirectory{State: DirCluster, ControlState: "shutting down"}, true},
		{"a copy of a primary that no server has started on", DataDirectory{State: DirCluster, ControlState: "in production", BackupLabel: true}, false},
		{"nothing", DataDirectory{State: DirAbsent}, false},
		{"a directory whose control file was not read", DataDirectory{State: DirCluster}, false},
	} {
		if got := test.dir.WasPrimary(); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
