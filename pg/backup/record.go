package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// formatVersion is the format of all that this package writes.
const formatVersion = 1

// maxRecord is far more than a record has: a backup of 100,000 parts has 30 MB.
const maxRecord = 64 << 20

// sumLine begins the last member of a record. It holds the SHA-256 of all bytes
// before it, so that `head -n -2 backup.json | sha256sum` checks a record by hand.
const sumLine = `  "sha256": "`

// encodeRecord is a value, which must become a JSON object with members, as text for
// people and programs, with its checksum as the last member.
func encodeRecord(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	text = append(bytes.TrimSuffix(text, []byte("\n}")), ",\n"...)
	sum := sha256.Sum256(text)
	return append(text, (sumLine + hex.EncodeToString(sum[:]) + "\"\n}\n")...), nil
}

// decodeRecord reads what encodeRecord wrote. Its error wraps ErrDamaged, or
// ErrFormat when a newer version wrote it.
func decodeRecord(text []byte, v any) error {
	at := bytes.LastIndex(text, []byte(sumLine))
	if at < 0 {
		return fmt.Errorf("%w: it is cut off, or has been changed", ErrDamaged)
	}
	sum := sha256.Sum256(text[:at])
	if string(text[at:]) != sumLine+hex.EncodeToString(sum[:])+"\"\n}\n" {
		return fmt.Errorf("%w: its checksum does not match", ErrDamaged)
	}
	var head struct{ Format int }
	if err := json.Unmarshal(text, &head); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if head.Format > formatVersion {
		return fmt.Errorf("%w: it has format %d, and this version knows %d; use a newer one", ErrFormat, head.Format, formatVersion)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// recordAttempts is how often a record is written when another creates it at the
// same moment, or the server turns out to know no conditions.
const recordAttempts = 5

// writeRecord creates or replaces a record.
func (r *Repository) writeRecord(ctx context.Context, name string, ifAbsent bool, v any) error {
	text, err := encodeRecord(v)
	if err != nil {
		return err
	}
	for range recordAttempts {
		err = r.putRecord(ctx, name, ifAbsent, text)
		if !errors.Is(err, errConflict) && !errors.Is(err, errNoConditions) {
			return err
		}
	}
	return err
}

func (r *Repository) putRecord(ctx context.Context, name string, ifAbsent bool, text []byte) error {
	u, err := r.store.create(ctx, name, ifAbsent)
	if err != nil {
		return err
	}
	defer u.abort()
	if _, err := u.Write(text); err != nil {
		return err
	}
	return u.commit()
}

// readRecord reads a record as a whole.
func (r *Repository) readRecord(ctx context.Context, name string, v any) error {
	f, err := r.store.open(ctx, name)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return err
	}
	if err := decodeRecord(text, v); err != nil {
		return fmt.Errorf("object %s in %s: %w", name, r.place, err)
	}
	return nil
}

// unreadable reports whether a record is there, but is not what this version can read.
func unreadable(err error) bool { return errors.Is(err, ErrDamaged) || errors.Is(err, ErrFormat) }
