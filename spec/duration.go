package spec

import (
	"fmt"
	"time"
)

// Duration is a time.Duration that is written as "1s" in specs and in JSON.
type Duration time.Duration

// ParseDuration reads Go's notation: "300ms", "1s", "1m30s".
func ParseDuration(s string) (Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("duration %q is not a number with a unit such as \"300ms\", \"1s\" or \"5m\"", s)
	}
	return Duration(d), nil
}

// Std is d as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String is Go's notation.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText encodes the duration as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText decodes what ParseDuration accepts.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = v
	return nil
}
