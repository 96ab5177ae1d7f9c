package backup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ramhq/ram/testscripts/s3server"
)

// TestBucket runs against a real S3 server.
func TestBucket(t *testing.T) {
	server := s3server.Start(t)
	server.Setenv(t)
	var places atomic.Int64
	newPlace := func(*testing.T) Config { return Config{URL: server.URL(fmt.Sprintf("place/%d", places.Add(1)))} }
	t.Run("repository", func(t *testing.T) { testRepository(t, newPlace) })
	t.Run("a large object goes in parts", func(t *testing.T) { testLargeObject(t, newPlace(t)) })
	t.Run("server without conditional requests", func(t *testing.T) { testNoConditions(t, server) })
	t.Run("a bucket that is not there is unavailable", func(t *testing.T) {
		r := repository(t, Config{URL: strings.Replace(server.URL("x"), "s3://"+s3server.Bucket, "s3://nowhere", 1)})
		_, err := r.Read(t.Context(), "wal/x")
		wantError(t, "Read", err, ErrUnavailable)
		_, err = r.Backups(t.Context())
		wantError(t, "Backups", err, ErrUnavailable)
		_, err = r.Create(t.Context(), "wal/x", CreateOptions{})
		wantError(t, "Create", err, ErrUnavailable)
	})
	t.Run("wrong credentials are unavailable, and said", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
		r := repository(t, newPlace(t))
		_, err := r.Read(t.Context(), "wal/x")
		wantError(t, "Read", err, ErrUnavailable)
		_, err = r.Owner(t.Context())
		wantError(t, "Owner", err, ErrUnavailable)
	})
}

func testLargeObject(t *testing.T, c Config) {
	c.Compression = "none"
	r := repository(t, c)
	content := sample(3*uploadPart + 12345)
	stored := put(t, r, "wal/large", content)
	if got, err := get(r, "wal/large"); err != nil || string(got) != string(content) {
		t.Errorf("reads %d bytes, %v", len(got), err)
	}
	checkStored(t, r, stored, int64(len(content)))
}

// testNoConditions puts a proxy in front of the server that refuses conditional
// writes as servers do that do not know them.
func testNoConditions(t *testing.T, server s3server.Server) {
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}
	old := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotImplemented)
			fmt.Fprint(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>NotImplemented</Code><Message>A header you provided implies functionality that is not implemented</Message></Error>`)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	c := Config{URL: strings.Replace(server.URL("conditions"), server.Endpoint, old, 1)}
	r := repository(t, c)
	if err := r.Claim(t.Context(), Owner{ClusterID: "1", SystemID: 1}); err != nil {
		t.Fatal(err)
	}
	e := exampleEntry(t, exampleStart)
	if err := r.Publish(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	wantError(t, "a second Publish", r.Publish(t.Context(), e), ErrExists)
	wantError(t, "another's claim", r.Claim(t.Context(), Owner{ClusterID: "2", SystemID: 1}), ErrForeign)
	// A repository that has not learned it yet says so once, and then knows.
	fresh := repository(t, c)
	err = createAbsent(t, fresh, "wal/x")
	wantError(t, "the first attempt", err, ErrUnavailable)
	if err := createAbsent(t, fresh, "wal/x"); err != nil {
		t.Errorf("the second attempt: %v", err)
	}
	wantError(t, "the third attempt", createAbsent(t, fresh, "wal/x"), ErrExists)
}

func createAbsent(t *testing.T, r *Repository, name string) error {
	t.Helper()
	w, err := r.Create(t.Context(), name, CreateOptions{IfAbsent: true})
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_, err = w.Commit()
	return err
}

// listen serves requests until the test ends, and returns its URL.
func listen(t *testing.T, handler http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func withCredentials(t *testing.T) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "nobody")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "nothing")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func TestBucketWithoutAServerIsUnavailable(t *testing.T) {
	withCredentials(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	l.Close()
	// Once is enough: the client tries three times, with pauses.
	r := repository(t, Config{URL: "s3://b/p?region=x&use_path_style=true&endpoint=" + nobody})
	_, err = r.Owner(t.Context())
	wantError(t, "Owner", err, ErrUnavailable)
}

// TestBucketWhoseServerHangsIsUnavailable: it takes requests and never answers.
func TestBucketWhoseServerHangsIsUnavailable(t *testing.T) {
	withCredentials(t)
	release := make(chan struct{})
	hanging := listen(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(release) })
	r := repository(t, Config{URL: "s3://b/p?region=x&use_path_style=true&endpoint=" + hanging})
	r.store.(*bucket).patience = patience{request: 300 * time.Millisecond, upload: 300 * time.Millisecond}
	checkUnavailable(t, r)
}

// TestBucketThatVanishesInTheMiddleIsNotDamage: the connection ends before the object
// does, which is no reason to distrust the backup.
func TestBucketThatVanishesInTheMiddleIsNotDamage(t *testing.T) {
	withCredentials(t)
	c := inDirectory(t)
	content := sample(20 * testChunk)
	whole := put(t, repository(t, c), "wal/x", content)
	bytes, err := os.ReadFile(filepath.Join(directoryOf(c), whole.Object))
	if err != nil {
		t.Fatal(err)
	}
	vanishing := listen(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(bytes)))
		w.Header().Set("Last-Modified", exampleStart.Format(http.TimeFormat))
		w.Write(bytes[:len(bytes)/2])
		panic(http.ErrAbortHandler)
	}))
	r := repository(t, Config{URL: "s3://b/p?region=x&use_path_style=true&endpoint=" + vanishing})
	got, err := get(r, "wal/x")
	wantError(t, "Read", err, ErrUnavailable)
	if errors.Is(err, ErrDamaged) || !strings.HasPrefix(string(content), string(got)) {
		t.Errorf("after %d bytes: %v", len(got), err)
	}
}

func checkUnavailable(t *testing.T, r *Repository) {
	t.Helper()
	ctx := t.Context()
	_, err := r.Read(ctx, "wal/x")
	wantError(t, "Read", err, ErrUnavailable)
	_, err = r.Backups(ctx)
	wantError(t, "Backups", err, ErrUnavailable)
	wantError(t, "Delete", r.Delete(ctx, "wal/x.zst"), ErrUnavailable)
	wantError(t, "Claim", r.Claim(ctx, Owner{ClusterID: "1", SystemID: 1}), ErrUnavailable)
	wantError(t, "Publish", r.Publish(ctx, exampleEntry(t, exampleStart)), ErrUnavailable)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = r.Read(cancelled, "wal/x")
	wantError(t, "Read without time", err, context.Canceled)
}
