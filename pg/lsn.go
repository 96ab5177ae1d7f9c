package pg

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a byte position in the write-ahead log. The zero LSN is invalid: it
// stands for a position that is not known. In text, and in JSON, it is
// PostgreSQL's own form, such as 16/B374D848.
type LSN uint64

// ParseLSN reads PostgreSQL's textual form. The empty string is the zero LSN.
func ParseLSN(s string) (LSN, error) {
	if s == "" {
		return 0, nil
	}
	high, low, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("LSN %q is not of the form 0/16B3748", s)
	}
	h, err := strconv.ParseUint(high, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("LSN %q is not of the form 0/16B3748", s)
	}
	l, err := strconv.ParseUint(low, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("LSN %q is not of the form 0/16B3748", s)
	}
	return LSN(h<<32 | l), nil
}

// String is PostgreSQL's textual form; the zero LSN prints as 0/0.
func (l LSN) String() string {
	return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l))
}

// Behind is how many bytes l trails other, and zero when it does not.
func (l LSN) Behind(other LSN) Bytes {
	if l >= other {
		return 0
	}
	return Bytes(other - l)
}

// MarshalText encodes the LSN as String does, and the zero LSN as nothing.
func (l LSN) MarshalText() ([]byte, error) {
	if l == 0 {
		return nil, nil
	}
	return []byte(l.String()), nil
}

// UnmarshalText decodes what ParseLSN accepts.
func (l *LSN) UnmarshalText(text []byte) error {
	v, err := ParseLSN(string(text))
	if err != nil {
		return err
	}
	*l = v
	return nil
}
