package wal

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

// serviceOf answers pushes and fetches with functions.
func serviceOf(t *testing.T, push func(context.Context, string) error, get func(context.Context, string) (*os.File, error)) string {
	t.Helper()
	socket := filepath.Join(place(t), "s")
	s, err := Listen(ServiceConfig{Socket: socket, UID: -1, Push: push, Fetch: get, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Serve)
	return socket
}

func TestExitCodesOfPush(t *testing.T) {
	for _, c := range []struct {
		rule string
		err  error
		code int
		says string
	}{
		{"archived", nil, 0, ""},
		{"failed", errors.New("the disk is full"), 1, "ramd wal push: " + nth(1) + ": the disk is full\n"},
		{"not yet", ErrNotYet, 1, "the primary has not archived it yet"},
		{"stopping", ErrStopping, 255, "the server is stopping"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			socket := serviceOf(t, func(_ context.Context, file string) error {
				if file != nth(1) {
					t.Errorf("asked for %q", file)
				}
				return c.err
			}, nil)
			var stderr bytes.Buffer
			if code := PushVia(socket, nth(1), &stderr); code != c.code || !strings.Contains(stderr.String(), c.says) || strings.Count(stderr.String(), "\n") > 1 {
				t.Errorf("%d: %s", code, stderr.String())
			}
		})
	}
}

func TestExitCodesOfFetch(t *testing.T) {
	content := func(context.Context, string) (*os.File, error) {
		path := filepath.Join(place(t), "content")
		if err := os.WriteFile(path, []byte("WAL"), 0o600); err != nil {
			t.Fatal(err)
		}
		return os.Open(path)
	}
	for _, c := range []struct {
		rule     string
		get      func(context.Context, string) (*os.File, error)
		code     int
		says     string
		mustKnow bool
	}{
		{"fetched", content, 0, "", false},
		{"fetched by one that must know", content, 0, "", true},
		{"missing says nothing", func(context.Context, string) (*os.File, error) { return nil, ErrNotFound }, 1, "", false},
		{"missing is an answer for one that must know", func(context.Context, string) (*os.File, error) { return nil, ErrNotFound }, 1, "", true},
		{"unknown", func(context.Context, string) (*os.File, error) { return nil, errors.New("no route to host") }, 1, "no route to host", false},
	} {
		t.Run(c.rule, func(t *testing.T) {
			socket := serviceOf(t, nil, c.get)
			to := filepath.Join(place(t), "RECOVERYXLOG")
			var stderr bytes.Buffer
			code := FetchVia(socket, nth(1), to, c.mustKnow, &stderr)
			if code != c.code || c.says == "" && stderr.Len() > 0 || !strings.Contains(stderr.String(), c.says) {
				t.Errorf("%d: %s", code, stderr.String())
			}
			got, err := os.ReadFile(to)
			if c.code == 0 && string(got) != "WAL" || c.code != 0 && err == nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestWithoutRamd(t *testing.T) {
	var stderr bytes.Buffer
	if code := PushVia(filepath.Join(place(t), "none"), nth(1), &stderr); code != 1 || !strings.Contains(stderr.String(), "is it running?") {
		t.Errorf("%d: %s", code, stderr.String())
	}
	if code := FetchVia(filepath.Join(place(t), "none"), nth(1), "x", false, &stderr); code != 1 {
		t.Error(code)
	}
}

func TestALongPushIsWaitedFor(t *testing.T) {
	if testing.Short() {
		t.Skip("takes longer than the service is silent")
	}
	socket := serviceOf(t, func(context.Context, string) error {
		time.Sleep(waitEvery + 500*time.Millisecond)
		return nil
	}, nil)
	if code := PushVia(socket, nth(1), os.Stderr); code != 0 {
		t.Error(code)
	}
}

func TestAClientThatGoesEndsItsPush(t *testing.T) {
	ended := make(chan struct{})
	socket := serviceOf(t, func(ctx context.Context, _ string) error {
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}, nil)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := send(conn, request{V: 1, Op: opPush, File: nth(1)}); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	socket := serviceOf(t, func(context.Context, string) error { return nil }, nil)
	for _, text := range []string{"\n", "GET / HTTP/1.1\n", `{"v":2,"op":"push"}` + "\n", `{"v":1,"op":"delete"}` + "\n", strings.Repeat("x", 5000)} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(text))
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		answer := make([]byte, 1000)
		n, _ := conn.Read(answer)
		conn.Close()
		if !strings.Contains(string(answer[:n]), `"refused"`) {
			t.Errorf("%.40q: %s", text, answer[:n])
		}
	}
}

func TestTheSocketIsForRamdAndPostgreSQLOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	socket := filepath.Join(place(t), "s")
	uid := postgres(t).uid
	s, err := Listen(ServiceConfig{Socket: socket, UID: uid, Push: func(context.Context, string) error { return nil }, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Serve)
	push := func(uid int) int {
		cmd := account{uid, uid}.command(program(t), "wal", "push", "--socket", socket, nth(1))
		_ = cmd.Run()
		return cmd.ProcessState.ExitCode()
	}
	if got := []int{push(0), push(uid), push(65534)}; !cmp.Equal(got, []int{0, 0, 1}) {
		t.Error(got)
	}
	// Not by the mode of the file alone.
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if code := push(65534); code != 1 {
		t.Error("let in by the mode of the file")
	}
}

func TestTheSocketsPath(t *testing.T) {
	listen := func(path string) error {
		s, err := Listen(ServiceConfig{Socket: path, UID: -1, Logger: zerolog.Nop()})
		if err == nil {
			s.listener.Close()
		}
		return err
	}
	dir := place(t)
	wantError(t, listen(filepath.Join(dir, strings.Repeat("x", 108-len(dir)-1))), nil, "107 are possible", "--data-dir")
	if err := listen(filepath.Join(dir, strings.Repeat("x", 107-len(dir)-1))); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, listen(file), nil, "not a socket")
	wantError(t, listen(serviceOf(t, nil, nil)), nil, "another ramd answers")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "left"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	if err := listen(filepath.Join(dir, "left")); err != nil {
		t.Error("a dead ramd's socket:", err)
	}
}

func TestCommandsSurviveTheShellAndPostgreSQL(t *testing.T) {
	dir := filepath.Join(place(t), `it's "100%" $HOME \ here`)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// A ramd that writes down how it was called.
	ramd, called := filepath.Join(dir, "ramd %f"), filepath.Join(place(t), "called")
	script := "#!/bin/sh\nfor a; do printf '%s\\n' \"$a\"; done >" + called + "\n"
	if err := os.WriteFile(ramd, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	socket, flag := filepath.Join(dir, "sock%p"), filepath.Join(dir, "flag")
	call := func(command string) (string, int) {
		t.Helper()
		_ = os.Remove(called)
		// As PostgreSQL replaces it.
		command = strings.NewReplacer("%%", "%", "%f", nth(1), "%p", "pg_wal/RECOVERYXLOG").Replace(command)
		cmd := exec.Command("sh", "-c", command)
		out, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || len(out) > 0 {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		args, _ := os.ReadFile(called)
		return strings.Join(strings.Fields(strings.ReplaceAll(string(args), dir, "DIR")), " "), cmd.ProcessState.ExitCode()
	}
	check := func(command, want string, code int) {
		t.Helper()
		if got, c := call(command); got != want || c != code {
			t.Errorf("%s: called with %q, exit code %d", command, got, c)
		}
	}
	const asked = "wal fetch --socket DIR/sock%p " + "000000010000000000000001 pg_wal/RECOVERYXLOG"
	check(RestoreCommand(ramd, socket, ""), asked, 0)
	check(RestoreCommand(ramd, socket, flag), asked, 0)
	check(RecoveryCommand(ramd, socket), "wal fetch --must-know --socket DIR/sock%p 000000010000000000000001 pg_wal/RECOVERYXLOG", 0)
	gate := NewGate(flag)
	for range 2 {
		if err := gate.Shut(); err != nil || !gate.IsShut() {
			t.Fatal(err)
		}
	}
	check(RestoreCommand(ramd, socket, flag), "", 1)
	for range 2 {
		if err := gate.Open(); err != nil || gate.IsShut() {
			t.Fatal(err)
		}
	}
	check(RestoreCommand(ramd, socket, flag), asked, 0)

	const push = "wal push --socket DIR/sock%p 000000010000000000000001"
	check(ArchiveCommand(ramd, socket, ""), push, 0)
	check(ArchiveCommand(ramd, socket, dir), push, 0)
	if err := os.WriteFile(filepath.Join(dir, nth(1)), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	check(ArchiveCommand(ramd, socket, dir), "", 0)
}

func TestASilentRamdIsGivenUp(t *testing.T) {
	socket := filepath.Join(place(t), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = visit{socket, 100 * time.Millisecond}.exchange(request{V: 1, Op: opPush, File: nth(1)}, nil)
	wantError(t, err, os.ErrDeadlineExceeded, "hangs")
}
