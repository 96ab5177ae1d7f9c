package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/ramhq/ram/pg/backup"
)

// manifestFile is one file in PostgreSQL's backup manifest. A path that is not UTF-8
// is in hexadecimal.
type manifestFile struct {
	Path        string `json:"Path"`
	EncodedPath string `json:"Encoded-Path"`
	Size        int64  `json:"Size"`
	Algorithm   string `json:"Checksum-Algorithm"`
	Checksum    string `json:"Checksum"`
}

// readLedger reads the manifest of a backup into a ledger.
func readLedger(ctx context.Context, r *backup.Repository, e backup.Entry) (*ledger, error) {
	name := backup.ManifestName(e.ID)
	object, err := r.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	defer object.Close()
	from := &watched{from: object}
	files := newLedger()
	if err := parseManifest(from, files); err != nil {
		return nil, from.blame(name, err)
	}
	return files, nil
}

// parseManifest goes through the manifest value by value: as a whole it may be large.
// Its last line holds the SHA-256 of all lines before.
func parseManifest(from io.Reader, files *ledger) error {
	sum := &manifestSum{hash: sha256.New()}
	text := io.TeeReader(from, sum)
	values := json.NewDecoder(text)
	var version int
	var checksum string
	listed := false
	if err := delimiter(values, '{'); err != nil {
		return err
	}
	for values.More() {
		key, err := values.Token()
		if err != nil {
			return err
		}
		switch key {
		case "PostgreSQL-Backup-Manifest-Version":
			err = values.Decode(&version)
		case "Files":
			listed, err = true, parseFiles(values, files)
		case "Manifest-Checksum":
			err = values.Decode(&checksum)
		default:
			var other json.RawMessage
			err = values.Decode(&other)
		}
		if err != nil {
			return err
		}
	}
	if err := delimiter(values, '}'); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, text); err != nil {
		return err
	}
	switch {
	case version < 1 || version > 2: // 2 came with PostgreSQL 17
		return fmt.Errorf("the manifest is of version %d, known are 1 and 2; update ram", version)
	case !listed:
		return errors.New("the manifest lists no files")
	case checksum != hex.EncodeToString(sum.hash.Sum(nil)):
		return errors.New("the manifest does not have its own checksum")
	}
	return nil
}

func parseFiles(values *json.Decoder, files *ledger) error {
	if err := delimiter(values, '['); err != nil {
		return err
	}
	for values.More() {
		var f manifestFile
		if err := values.Decode(&f); err != nil {
			return err
		}
		if f.EncodedPath != "" {
			path, err := hex.DecodeString(f.EncodedPath)
			if err != nil {
				return fmt.Errorf("encoded path %q: %w", f.EncodedPath, err)
			}
			f.Path = string(path)
		}
		// PostgreSQL writes the four bytes as its host has them in memory, which is little-endian
		// on every machine that ram is built for.
		sum, err := hex.DecodeString(f.Checksum)
		if err != nil || len(sum) != 4 || f.Algorithm != "CRC32C" {
			return fmt.Errorf("the manifest has checksum %q of kind %q for %q instead of CRC32C", f.Checksum, f.Algorithm, f.Path)
		}
		if err := files.expect(f.Path, f.Size, binary.LittleEndian.Uint32(sum)); err != nil {
			return err
		}
	}
	return delimiter(values, ']')
}

func delimiter(values *json.Decoder, want json.Delim) error {
	token, err := values.Token()
	if err == nil && token != want {
		err = fmt.Errorf("the manifest has %v where %s was due", token, want)
	}
	return err
}

// manifestSum hashes what is written to it but for the last line.
type manifestSum struct {
	hash hash.Hash
	last []byte // the line that may be the last, with its end if it has come
}

// Write never fails.
func (s *manifestSum) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if n := len(s.last); n > 0 && s.last[n-1] == '\n' {
			s.hash.Write(s.last)
			s.last = s.last[:0]
		}
		line := rest
		if end := bytes.IndexByte(rest, '\n'); end >= 0 {
			line = rest[:end+1]
		}
		s.last, rest = append(s.last, line...), rest[len(line):]
	}
	return len(p), nil
}

// watched remembers whether reading failed, so that such an error is not taken for
// wrong content.
type watched struct {
	from io.Reader
	err  error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// blame is what to say of an error that the content of an object has led to. An error
// of reading names the object itself.
func (w *watched) blame(object string, err error) error {
	if w.err != nil {
		return w.err
	}
	return fmt.Errorf("object %s: %w: %w", object, backup.ErrDamaged, err)
}
