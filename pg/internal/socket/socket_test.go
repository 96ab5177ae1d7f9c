package socket_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ramhq/ram/pg/internal/socket"
)

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := socket.Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v (%v), want mode 0600", info.Mode(), err)
	}
	if _, err := socket.Listen(path, -1); !errors.Is(err, socket.ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("a second one is refused with %v", err)
	}
	first.SetUnlinkOnClose(false) // as if its process had been killed
	first.Close()
	second, err := socket.Listen(path, -1)
	if err != nil {
		t.Fatalf("a socket that nobody answers is not replaced: %v", err)
	}
	second.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end there is still something: %v", err)
	}
}

func TestListenLeavesWhatIsNoSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := socket.Listen(path, -1); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("it says %v", err)
	}
	if text, err := os.ReadFile(path); string(text) != "mine" {
		t.Errorf("the file is %q (%v)", text, err)
	}
}
