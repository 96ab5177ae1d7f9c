package pg

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// PostmasterPID is what a server writes to postmaster.pid. The file grows while
// the server starts: whatever follows PID may still be missing, and is then zero.
type PostmasterPID struct {
	PID int
	// Standalone is set for a single-user server, which takes no connections.
	Standalone bool
	DataDir    string
	StartedAt  time.Time // to the second
	Port       int
	SocketDir  string // of the first socket; empty when there is none
	ListenAddr string // the first address, with * for all; empty when there is none
	// SharedMemoryKey is the key and the id of the System V block that keeps
	// a second server away, as written; empty when there is none.
	SharedMemoryKey string
	// Status is "starting", "stopping", "ready" or "standby".
	Status string
}

// ParsePostmasterPID reads the text of a postmaster.pid. An empty text is an
// error: a server has made the file but not yet written to it.
func ParsePostmasterPID(text string) (PostmasterPID, error) {
	lines := strings.Split(text, "\n")
	line := func(n int) string {
		if n < len(lines) {
			return strings.TrimSpace(lines[n])
		}
		return ""
	}
	pid, err := strconv.ParseInt(line(0), 10, 32)
	if err != nil || pid == 0 || pid == -1<<31 {
		return PostmasterPID{}, fmt.Errorf("postmaster.pid begins with %q, which is no process id", line(0))
	}
	p := PostmasterPID{
		PID:             int(max(pid, -pid)),
		Standalone:      pid < 0,
		DataDir:         line(1),
		SocketDir:       line(4),
		ListenAddr:      line(5),
		SharedMemoryKey: strings.Join(strings.Fields(line(6)), " "),
		Status:          line(7),
	}
	if text := line(2); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return PostmasterPID{}, fmt.Errorf("postmaster.pid: start time %q is not a number", text)
		}
		p.StartedAt = time.Unix(seconds, 0).UTC()
	}
	if text := line(3); text != "" {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return PostmasterPID{}, fmt.Errorf("postmaster.pid: port %q is not a port", text)
		}
		p.Port = int(port)
	}
	return p, nil
}
