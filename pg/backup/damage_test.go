package backup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// encodings are all that a sealed object may be written in.
func encodings(t *testing.T) (list []Config) {
	key := writeKey(t)
	for _, compression := range compressions {
		for _, keyFile := range []string{"", key} {
			list = append(list, Config{Compression: compression, KeyFile: keyFile})
		}
	}
	return list
}

func (c Config) label() string {
	if c.KeyFile != "" {
		return c.Compression + ".age"
	}
	return c.Compression
}

// stored is a stored object that tests change.
type stored struct {
	t    *testing.T
	r    *Repository
	path string
	good []byte
}

func storeSample(t *testing.T, c Config, content []byte) stored {
	t.Helper()
	c.URL = "file://" + t.TempDir()
	r := repository(t, c)
	object := put(t, r, "wal/x", content).Object
	path := filepath.Join(directoryOf(c), object)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return stored{t: t, r: r, path: path, good: good}
}

// reads stores the bytes and tells what reading them gives.
func (s stored) reads(bytes []byte) ([]byte, error) {
	s.t.Helper()
	if err := os.WriteFile(s.path, bytes, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return get(s.r, "wal/x")
}

func TestDamageOfAnyByteOrLengthIsFound(t *testing.T) {
	content := bytes.Repeat([]byte("ram "), 20)
	for _, c := range encodings(t) {
		if c.KeyFile != "" && c.Compression != "zstd" {
			continue // age is the same around each, and slow
		}
		t.Run(c.label(), func(t *testing.T) {
			t.Parallel()
			s := storeSample(t, c, content)
			for i := range s.good {
				damaged := bytes.Clone(s.good)
				damaged[i] ^= 0x10
				if _, err := s.reads(damaged); !damageOf(c, err) {
					t.Errorf("byte %d of %d changed: %v", i, len(s.good), err)
				}
				if _, err := s.reads(s.good[:i]); !damageOf(c, err) {
					t.Errorf("cut off after %d bytes of %d: %v", i, len(s.good), err)
				}
			}
			for _, tail := range [][]byte{{0}, s.good} {
				if _, err := s.reads(append(bytes.Clone(s.good), tail...)); !damageOf(c, err) {
					t.Errorf("%d bytes added: %v", len(tail), err)
				}
			}
			if got, err := s.reads(s.good); err != nil || !bytes.Equal(got, content) {
				t.Errorf("the object as it was written: %d bytes, %v", len(got), err)
			}
		})
	}
}

// damageOf: where age keeps the key, damage and another key look the same.
func damageOf(c Config, err error) bool {
	return errors.Is(err, ErrDamaged) || c.KeyFile != "" && errors.Is(err, ErrKey)
}

// TestDamageTable damages objects of many frames. What is read before the error
// must be what was written.
func TestDamageTable(t *testing.T) {
	content := sample(5*testChunk + 100)
	for _, c := range encodings(t) {
		t.Run(c.label(), func(t *testing.T) {
			t.Parallel()
			s := storeSample(t, c, content)
			n := len(s.good)
			flip := func(at int) []byte {
				damaged := bytes.Clone(s.good)
				damaged[at] ^= 1
				return damaged
			}
			cases := []struct {
				rule    string
				damaged []byte
			}{
				{"an empty object", nil},
				{"cut off before the end mark", s.good[:n-markSize(s.r.codec.ext)]},
				{"cut off inside the end mark", s.good[:n-1]},
				{"cut off in the middle", s.good[:n/2]},
				{"first byte changed", flip(0)},
				{"byte in the middle changed", flip(n / 2)},
				{"last byte changed", flip(n - 1)},
				{"zeros at the end, as a file system leaves them", append(bytes.Clone(s.good[:n/2]), make([]byte, n-n/2)...)},
			}
			for i, end := range s.boundaries(content) {
				cases = append(cases, struct {
					rule    string
					damaged []byte
				}{fmt.Sprintf("cut off after frame %d", i+1), s.good[:end]})
			}
			for _, k := range cases {
				got, err := s.reads(k.damaged)
				if !errors.Is(err, ErrDamaged) {
					t.Errorf("%s: %v", k.rule, err)
				}
				if !bytes.HasPrefix(content, got) {
					t.Errorf("%s: %d bytes are read that were never written", k.rule, len(got))
				}
			}
		})
	}
}

// boundaries are where the frames end: of the compression, or of age's stream.
func (s stored) boundaries(content []byte) (ends []int) {
	if s.r.key.recipient != nil {
		const ageChunk = 64<<10 + 16
		for end := bytes.Index(s.good, []byte("\n---")) + 49 + 16 + ageChunk; end < len(s.good); end += ageChunk {
			ends = append(ends, end)
		}
		return ends
	}
	end := 0
	for ; len(content) > 0; content = content[min(testChunk, len(content)):] {
		var frame bytes.Buffer
		if err := s.r.codec.compress(s.r.codec, &frame, content[:min(testChunk, len(content))]); err != nil {
			s.t.Fatal(err)
		}
		end += frame.Len()
		ends = append(ends, end)
	}
	if end+markSize(s.r.codec.ext) != len(s.good) {
		s.t.Fatalf("frames end at %d of %d, which leaves no mark", end, len(s.good))
	}
	return ends
}

func TestDamageLostOrExchangedFramesAreFound(t *testing.T) {
	content := sample(4 * testChunk)
	for _, compression := range compressions {
		t.Run(compression, func(t *testing.T) {
			t.Parallel()
			s := storeSample(t, Config{Compression: compression}, content)
			ends := s.boundaries(content)
			first, second, rest := s.good[:ends[0]], s.good[ends[0]:ends[1]], s.good[ends[1]:]
			for rule, damaged := range map[string][]byte{
				"the first frame is lost":   bytes.Join([][]byte{second, rest}, nil),
				"a frame is there twice":    bytes.Join([][]byte{first, first, second, rest}, nil),
				"two frames are exchanged":  bytes.Join([][]byte{second, first, rest}, nil),
				"only the end mark is left": s.good[ends[3]:],
			} {
				if _, err := s.reads(damaged); !errors.Is(err, ErrDamaged) {
					t.Errorf("%s: %v", rule, err)
				}
			}
		})
	}
}

func TestKeyWrongOrMissingIsSaid(t *testing.T) {
	for _, compression := range compressions {
		c := Config{URL: "file://" + t.TempDir(), Compression: compression, KeyFile: writeKey(t)}
		put(t, repository(t, c), "wal/x", []byte("x"))
		for rule, keyFile := range map[string]string{"wrong": writeKey(t), "missing": ""} {
			c.KeyFile = keyFile
			_, err := get(repository(t, c), "wal/x")
			wantError(t, rule+" key", err, ErrKey)
			if err == nil || !bytes.Contains([]byte(err.Error()), []byte("wal/x")) {
				t.Errorf("%s key: the error does not name the object: %v", rule, err)
			}
		}
	}
}

func TestDamagedRecordsAreFound(t *testing.T) {
	c := inDirectory(t)
	r := repository(t, c)
	e := exampleEntry(t, exampleStart)
	if err := r.Publish(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := r.Prove(t.Context(), e.ID, Proof{OK: true}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(directoryOf(c), entryName(e.ID))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		damaged := bytes.Clone(good)
		damaged[i] ^= 1
		for what, text := range map[string][]byte{"changed": damaged, "cut off": good[:i]} {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Backup(t.Context(), e.ID); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s at byte %d: %v", what, i, err)
			}
		}
	}
	entries, err := r.Backups(t.Context())
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	if got := entries[0]; got.Damaged == "" || got.ID != e.ID || !got.Started.Equal(e.Started) || got.Proof == nil {
		t.Errorf("the catalog has %+v; want it damaged, with its ID, start and proof", got)
	}
	if err := r.DeleteBackup(t.Context(), e.ID); err != nil {
		t.Errorf("a damaged backup cannot be deleted: %v", err)
	}
}

func TestRecordOfANewerFormatIsNotRead(t *testing.T) {
	c := inDirectory(t)
	r := repository(t, c)
	if err := r.writeRecord(t.Context(), ownerObject, true, Owner{Format: formatVersion + 1, ClusterID: "1", SystemID: 1}); err != nil {
		t.Fatal(err)
	}
	_, err := r.Owner(t.Context())
	wantError(t, "Owner", err, ErrFormat)
	wantError(t, "Claim", r.Claim(t.Context(), Owner{ClusterID: "1", SystemID: 1}), ErrFormat)
}

func TestRecordOfANewerVersionInThisFormatIsRead(t *testing.T) {
	type newer struct {
		Owner
		Added string `json:"added"`
	}
	text, err := encodeRecord(newer{Owner{Format: formatVersion, ClusterID: "1"}, "x"})
	if err != nil {
		t.Fatal(err)
	}
	var o Owner
	if err := decodeRecord(text, &o); err != nil || o.ClusterID != "1" {
		t.Errorf("%+v, %v", o, err)
	}
}
