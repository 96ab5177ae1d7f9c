package instance

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/ramhq/ram/pg"
)

// markerFile is ramd's own file in a data directory, and beside one that is being
// built.
const markerFile = "ram.json"

// marker says whose a data directory is.
type marker struct {
	Cluster    string `json:"cluster"`
	Node       string `json:"node"`
	Generation uint64 `json:"generation"`
	// Complete is only used beside a data directory that is being built: it may be
	// put in place.
	Complete bool `json:"complete,omitempty"`
	// Follows is the term whose primary the directory was rewound for.
	Follows uint64 `json:"follows,omitempty"`
	// FollowsState and FollowsCheckpoint are what the control file said then: a server
	// that ran on it as a primary since has left others.
	FollowsState      string `json:"follows_state,omitempty"`
	FollowsCheckpoint pg.LSN `json:"follows_checkpoint,omitempty"`
	// Restored is how the recovery of a restored directory went.
	Restored *Recovered `json:"restored,omitempty"`
	// Removed says why and when a data directory was set aside.
	Removed string `json:"removed,omitempty"`
}

// readMarker reads a directory's marker; false when it has none. One that is
// damaged counts as none: the generation is then unknown, which is the safe side.
func readMarker(dir string) (marker, bool, error) {
	text, there, err := readFile(filepath.Join(dir, markerFile))
	if err != nil || !there {
		return marker{}, false, err
	}
	var m marker
	if json.Unmarshal(text, &m) != nil {
		return marker{}, false, nil
	}
	return m, true, nil
}

func (i *Instance) writeMarker(dir string, m marker) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := i.user.writeFile(filepath.Join(dir, markerFile), append(text, '\n')); err != nil {
		return fmt.Errorf("mark %s: %w", dir, err)
	}
	return nil
}
