package pg

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is an amount of data. In text and in JSON it is written as PostgreSQL
// writes memory sizes: a whole number and one of B, kB, MB, GB, TB, each 1024
// of the one before.
type Bytes int64

const (
	KB Bytes = 1 << 10
	MB Bytes = 1 << 20
	GB Bytes = 1 << 30
	TB Bytes = 1 << 40
)

var byteUnits = []struct {
	name string
	size Bytes
}{{"TB", TB}, {"GB", GB}, {"MB", MB}, {"kB", KB}, {"B", 1}}

// ParseBytes reads a size such as "16MB". A bare number counts bytes; units are
// exact in case, as in PostgreSQL. A negative size is an error.
func ParseBytes(s string) (Bytes, error) {
	text := strings.TrimSpace(s)
	for _, unit := range byteUnits {
		number, found := strings.CutSuffix(text, unit.name)
		if !found {
			continue
		}
		return scaleBytes(s, strings.TrimSpace(number), unit.size)
	}
	return scaleBytes(s, text, 1)
}

func scaleBytes(whole, number string, unit Bytes) (Bytes, error) {
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("size %q is not a whole number with a unit of B, kB, MB, GB or TB", whole)
	}
	if n < 0 {
		return 0, fmt.Errorf("size %q is negative", whole)
	}
	if n > int64(1<<63-1)/int64(unit) {
		return 0, fmt.Errorf("size %q is too large", whole)
	}
	return Bytes(n) * unit, nil
}

// String is the shortest exact form: 16MB, 1536kB, 0B.
func (b Bytes) String() string {
	for _, unit := range byteUnits {
		if b != 0 && b%unit.size == 0 {
			return strconv.FormatInt(int64(b/unit.size), 10) + unit.name
		}
	}
	return "0B"
}

// Human is an approximate form for people: 412 MB, 1.2 GB.
func (b Bytes) Human() string {
	for _, unit := range byteUnits {
		if b < unit.size || unit.size == 1 {
			continue
		}
		v := float64(b) / float64(unit.size)
		if v < 10 {
			return fmt.Sprintf("%.1f %s", v, unit.name)
		}
		return fmt.Sprintf("%.0f %s", v, unit.name)
	}
	return fmt.Sprintf("%d B", int64(b))
}

// MarshalText encodes the size as String does.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText decodes what ParseBytes accepts.
func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = v
	return nil
}

// About is the amount for people to read: at most three digits, 4.3 MB, 61 MB, 1.2 GB.
func (b Bytes) About() string {
	for _, unit := range byteUnits {
		if b < unit.size || unit.size == 1 {
			continue
		}
		digits := 0
		if value := float64(b) / float64(unit.size); value < 9.95 {
			digits = 1
		}
		return strconv.FormatFloat(float64(b)/float64(unit.size), 'f', digits, 64) + " " + unit.name
	}
	return strconv.FormatInt(int64(b), 10) + " B"
}
