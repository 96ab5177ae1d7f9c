package pg

import (
	"fmt"
	"strconv"
)

// Timeline numbers a branch of a cluster's WAL history; each promotion begins a
// new one. The zero Timeline is unknown.
type Timeline uint32

// SystemID is the identifier that initdb gives a cluster and that every copy of
// it keeps. The zero SystemID is unknown. In JSON it is a decimal string,
// since it does not fit the numbers of every reader.
type SystemID uint64

// ParseSystemID reads the decimal form that PostgreSQL prints.
func ParseSystemID(s string) (SystemID, error) {
	if s == "" {
		return 0, nil
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("system identifier %q is not a number", s)
	}
	return SystemID(v), nil
}

// String is the decimal form.
func (id SystemID) String() string { return strconv.FormatUint(uint64(id), 10) }

// MarshalText encodes the identifier in decimal, and the unknown one as nothing.
func (id SystemID) MarshalText() ([]byte, error) {
	if id == 0 {
		return nil, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText decodes what ParseSystemID accepts.
func (id *SystemID) UnmarshalText(text []byte) error {
	v, err := ParseSystemID(string(text))
	if err != nil {
		return err
	}
	*id = v
	return nil
}
