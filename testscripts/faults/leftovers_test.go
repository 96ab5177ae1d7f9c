package faults

import (
	"bufio"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// leaver says that this process is a test run that will be killed.
const leaver = "RAM_FAULTS_LEAVER"

func TestLeftoversOfAKilledRunAreCleared(t *testing.T) {
	Need(t)
	if os.Getenv(leaver) != "" {
		leave(t)
	}
	run := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	run.Env = append(os.Environ(), leaver+"=1")
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("the other run says nothing: %v", run.Wait())
	}
	dir := lines.Text()

	clearLeftovers()
	if len(leftIn(dir)) == 0 {
		t.Error("what belongs to a run that goes on was cleared")
	}

	_ = run.Process.Kill()
	_ = run.Wait()
	if len(leftIn(dir)) != 2 {
		t.Fatalf("the killed run left the processes %v, and two were meant", leftIn(dir))
	}
	clearLeftovers()
	if left := leftIn(dir); len(left) > 0 {
		t.Errorf("the processes %v are left", left)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is left", dir)
	}
}

// leave starts two processes on a host, of which one shows nothing of the test's
// directory, prints that directory and waits for its end.
func leave(t *testing.T) {
	dir, _, err := makeDir("")
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewHost(NewNet(), "a", netip.AddrFrom4([4]byte{10, 77, 1, 1}))
	if err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{"a", ".."} {
		cmd := exec.Command("sleep", "1000")
		cmd.Dir = filepath.Join(dir, where)
		if err := os.MkdirAll(cmd.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := h.Start(cmd); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = os.Stdout.WriteString(dir + "\n")
	time.Sleep(time.Minute)
}
