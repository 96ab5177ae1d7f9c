package s3server

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Bucket is the bucket that a new server has.
const Bucket = "ram"

const (
	access       = "ram-test"
	startTimeout = 30 * time.Second
)

// Server is a running S3 server with one empty bucket.
type Server struct {
	// Endpoint is where it listens, such as http://127.0.0.1:40123.
	Endpoint string
	// Env is what a client needs in its environment: credentials for this server
	// only, and nothing of the machine's own.
	Env map[string]string
	// Dir is where it keeps its objects, as files: Dir/Bucket/key.
	Dir string
}

// URL is a repository under a prefix of the bucket, as a spec writes it.
func (s Server) URL(prefix string) string {
	return fmt.Sprintf("s3://%s/%s?region=us-east-1&endpoint=%s&use_path_style=true", Bucket, prefix, s.Endpoint)
}

// Setenv gives the test's own process the server's credentials. As t.Setenv it
// cannot be called by tests that run in parallel with others.
func (s Server) Setenv(t testing.TB) {
	t.Helper()
	for name, value := range s.Env {
		t.Setenv(name, value)
	}
}

// Start starts a server, which ends with the test. It skips the test when
// RAM_TEST_S3 is off, and fails it when the server cannot be built or started.
func Start(t testing.TB) Server {
	t.Helper()
	if os.Getenv("RAM_TEST_S3") == "off" {
		t.Skip("RAM_TEST_S3 is off")
	}
	path, err := program(t.Context())
	if err != nil {
		t.Fatalf("S3 server: %v\nRAM_TEST_S3=off skips the tests that need it", err)
	}
	secret := rand.Text()
	s := Server{Dir: t.TempDir(), Env: map[string]string{
		"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	}}
	if err := os.Mkdir(filepath.Join(s.Dir, Bucket), 0o700); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	s.Endpoint = "http://" + address
	// Metadata in files beside the objects: not every file system has attributes.
	gateway := exec.Command(path, "--port", address, "--quiet", "posix", "--sidecar", t.TempDir(), s.Dir)
	gateway.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+access, "ROOT_SECRET_KEY="+secret)
	run(t, gateway)
	awaitAnswer(t, s.Endpoint)
	return s
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// run starts a process that ends with the test, or, should the test be killed, with
// the thread that started it; so that thread is kept.
func run(t testing.TB, command *exec.Cmd) {
	t.Helper()
	output := &lockedBuffer{}
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			command.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("S3 server:\n%s", output.String())
		}
	})
}

func awaitAnswer(t testing.TB, endpoint string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			answer.Body.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("S3 server: no answer at %s after %v", endpoint, startTimeout)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lockedBuffer collects output that is read while the process may still write.
type lockedBuffer struct {
	mu     sync.Mutex // guards buffer
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
