package take

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/ramhq/ram/pg"
)

// newestManifest is the newest version of the manifest's format that is known; 2
// came with PostgreSQL 17.
const newestManifest = 2

// listed is one file in the server's manifest. A path that is not UTF-8 comes
// encoded.
type listed struct {
	Path        string
	EncodedPath string `json:"Encoded-Path"`
	Size        int64
	Algorithm   string `json:"Checksum-Algorithm"`
	Checksum    string
}

// walRange is the WAL of one timeline that the backup needs.
type walRange struct {
	Timeline pg.Timeline
	Start    pg.LSN `json:"Start-LSN"`
	End      pg.LSN `json:"End-LSN"`
}

// manifest is what the server's manifest says apart from its files.
type manifest struct {
	systemID  pg.SystemID // zero in the first version of the format
	walRanges []walRange
}

// readManifest reads the server's manifest to its end, hands each file to check in
// the manifest's order, and holds the whole against its own checksum. It keeps no
// more of it in memory than a line.
func readManifest(from io.Reader, check func(listed) error) (manifest, error) {
	sum := &selfSum{hash: sha256.New()}
	text := io.TeeReader(from, sum)
	p := &manifestParser{json: json.NewDecoder(text), check: check}
	if err := p.object(); err != nil {
		return manifest{}, fmt.Errorf("the server's manifest: %w", err)
	}
	if _, err := io.Copy(io.Discard, text); err != nil {
		return manifest{}, err
	}
	if err := p.complete(); err != nil {
		return manifest{}, fmt.Errorf("the server's manifest: %w", err)
	}
	if got := hex.EncodeToString(sum.hash.Sum(nil)); got != p.checksum {
		return manifest{}, fmt.Errorf("the server's manifest has checksum %s, it should be %s: it was damaged on the way; take another backup", got, p.checksum)
	}
	return p.found, nil
}

// manifestParser goes through the manifest value by value.
type manifestParser struct {
	json  *json.Decoder
	check func(listed) error

	version  int
	files    bool
	checksum string
	found    manifest
}

func (p *manifestParser) object() error {
	if err := p.delimiter('{'); err != nil {
		return err
	}
	for p.json.More() {
		key, err := p.json.Token()
		if err != nil {
			return err
		}
		if err := p.value(key); err != nil {
			return err
		}
	}
	return p.delimiter('}')
}

// value reads the value of one key. Keys of later versions are skipped here and
// refused by version.
func (p *manifestParser) value(key json.Token) error {
	switch key {
	case "PostgreSQL-Backup-Manifest-Version":
		return p.json.Decode(&p.version)
	case "System-Identifier":
		var id uint64
		err := p.json.Decode(&id)
		p.found.systemID = pg.SystemID(id)
		return err
	case "Files":
		return p.fileList()
	case "WAL-Ranges":
		return p.json.Decode(&p.found.walRanges)
	case "Manifest-Checksum":
		return p.json.Decode(&p.checksum)
	}
	var other json.RawMessage
	return p.json.Decode(&other)
}

func (p *manifestParser) fileList() error {
	if err := p.delimiter('['); err != nil {
		return err
	}
	p.files = true
	for p.json.More() {
		var f listed
		if err := p.json.Decode(&f); err != nil {
			return err
		}
		if f.EncodedPath != "" {
			path, err := hex.DecodeString(f.EncodedPath)
			if err != nil {
				return fmt.Errorf("encoded path %q: %w", f.EncodedPath, err)
			}
			f.Path = string(path)
		}
		if err := p.check(f); err != nil {
			return err
		}
	}
	return p.delimiter(']')
}

func (p *manifestParser) delimiter(want json.Delim) error {
	token, err := p.json.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("%v where %s was due", token, want)
	}
	return nil
}

func (p *manifestParser) complete() error {
	switch {
	case p.version < 1 || p.version > newestManifest:
		return fmt.Errorf("it is of version %d, known are 1 to %d; update ram", p.version, newestManifest)
	case !p.files:
		return errors.New("it lists no files")
	case p.checksum == "":
		return errors.New("it has no checksum of itself")
	}
	return nil
}

// crc32c reads a checksum as PostgreSQL writes it: the four bytes as they lie in
// the memory of the server.
func (f listed) crc32c() (uint32, error) {
	sum, err := hex.DecodeString(f.Checksum)
	if err != nil || len(sum) != 4 || f.Algorithm != "CRC32C" {
		return 0, fmt.Errorf("%q has checksum %q of kind %q instead of CRC32C", f.Path, f.Checksum, f.Algorithm)
	}
	return binary.LittleEndian.Uint32(sum), nil
}

// selfSum hashes all that is written to it except the last line, which is where the
// manifest holds that hash.
type selfSum struct {
	hash hash.Hash
	held []byte // from the beginning of the last line, or of what may become it
}

// Write never fails.
func (s *selfSum) Write(p []byte) (int, error) {
	s.held = append(s.held, p...)
	if last := bytes.LastIndexByte(s.held, '\n'); last >= 0 {
		// The last line may be complete already.
		before := bytes.LastIndexByte(s.held[:last], '\n') + 1
		s.hash.Write(s.held[:before])
		s.held = append(s.held[:0], s.held[before:]...)
	}
	return len(p), nil
}
