package faults

import (
	"fmt"
	"os"
	"testing"
)

// Need skips a test where hosts cannot be made. On CI (CI=true) root has to be able
// to make them: the test fails instead.
func Need(t testing.TB) {
	t.Helper()
	err := possible()
	switch {
	case err == nil:
	case os.Geteuid() == 0 && os.Getenv("CI") == "true":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// thorough skips a test that runs only when all are asked for: with RAM_FAULTS_ALL=1,
// which make faults sets.
func thorough(t testing.TB) {
	t.Helper()
	if os.Getenv("RAM_FAULTS_ALL") != "1" {
		t.Skip("not one of the short ones: RAM_FAULTS_ALL=1, or make faults")
	}
}

// possible says why there cannot be hosts; nil when there can.
func possible() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("hosts are network namespaces, which only root can make: run these tests as root")
	}
	space, err := newNamespace()
	if err != nil {
		return err
	}
	space.close()
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("hosts are connected by TUN devices: %w; load the module tun, or pass the device to the container", err)
	}
	return nil
}
