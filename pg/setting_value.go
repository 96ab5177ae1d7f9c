package pg

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Check reports why PostgreSQL would refuse the value, if it would. Settings of
// type string have rules of their own in the server (DateStyle,
// log_destination, ...) that only the server knows; here any text passes. The
// error names the setting and says what to write instead.
func (s Setting) Check(value string) error {
	if s.Context == ContextInternal {
		return fmt.Errorf("%s is reported by PostgreSQL and cannot be set; remove it", s.Name)
	}
	switch s.Type {
	case SettingBool:
		if _, ok := parseBool(value); !ok {
			return fmt.Errorf("%s = %q is not a boolean; use on or off", s.Name, value)
		}
	case SettingInteger, SettingReal:
		return s.checkNumber(value)
	case SettingEnum:
		if _, ok := s.enum(value); !ok {
			return fmt.Errorf("%s = %q is not one of its values; use one of %s", s.Name, value, s.enumText())
		}
	}
	if strings.ContainsRune(value, 0) {
		return fmt.Errorf("%s contains a NUL byte; remove it", s.Name)
	}
	return nil
}

func (s Setting) checkNumber(value string) error {
	v, err := s.number(value)
	if err != nil {
		return err
	}
	low, lowErr := strconv.ParseFloat(s.Min, 64)
	high, highErr := strconv.ParseFloat(s.Max, 64)
	if lowErr == nil && v < low || highErr == nil && v > high {
		return fmt.Errorf("%s = %q is out of range; use %s", s.Name, value, s.rangeText())
	}
	return nil
}

func (s Setting) enumText() string {
	shown := make([]string, len(s.Enum))
	for i, value := range s.Enum {
		shown[i] = value
		if value == "" {
			shown[i] = `""`
		}
	}
	return strings.Join(shown, ", ")
}

// Normalize is the value as SHOW would print it: on and off for booleans, the
// largest unit that holds a number exactly, an enum's own spelling. Text of
// type string, and a value that Check refuses, are returned as they are.
func (s Setting) Normalize(value string) string {
	switch s.Type {
	case SettingBool:
		if v, ok := parseBool(value); ok {
			return boolText(v)
		}
	case SettingInteger, SettingReal:
		if v, err := s.number(value); err == nil {
			return s.numberText(v)
		}
	case SettingEnum:
		if v, ok := s.enum(value); ok {
			return v
		}
	}
	return value
}

// Equal reports whether two spellings mean the same value, so that 256MB equals
// 262144kB. Numbers of type real are compared to the six digits that SHOW
// prints, since a server tells no more. Values that Check refuses equal only
// themselves.
func (s Setting) Equal(a, b string) bool {
	if a == b {
		return true
	}
	if s.Type == SettingString {
		fold := s.folding()
		return fold != nil && fold(a) == fold(b)
	}
	return s.Normalize(a) == s.Normalize(b)
}

// ServerChosen reports whether the server replaces this value by one of its own
// when it starts, so that SHOW tells another value and rightly so: wal_buffers
// = -1 is shown as what a share of shared_buffers came to.
func (s Setting) ServerChosen(value string) bool {
	switch s.Name {
	case "wal_buffers", "io_max_concurrency":
		return s.Equal(value, "-1")
	case "commit_timestamp_buffers", "subtransaction_buffers", "transaction_buffers":
		return s.Equal(value, "0")
	}
	return false
}

// folding gives the comparison for the few texts that the server rewrites in a
// spelling of its own.
func (s Setting) folding() func(string) string {
	switch s.Name {
	case "TimeZone", "log_timezone":
		return strings.ToLower
	case "DateStyle":
		return foldDateStyle
	case "client_encoding":
		return func(v string) string { return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(v)) }
	}
	return nil
}

func foldDateStyle(value string) string {
	words := strings.Split(strings.ToLower(value), ",")
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	slices.Sort(words)
	return strings.Join(words, ",")
}

// enum finds the spelling that SHOW would print.
func (s Setting) enum(value string) (string, bool) {
	for _, known := range s.Enum {
		if strings.EqualFold(known, value) {
			return known, true
		}
	}
	known, ok := s.synonyms[strings.ToLower(value)]
	return known, ok
}

// parseBool takes the words on, off, true, false, yes, no, and their
// beginnings as far as they are unambiguous, and 1 and 0.
func parseBool(value string) (v, ok bool) {
	if value == "1" || value == "0" {
		return value == "1", true
	}
	word := strings.ToLower(value)
	if word == "" || word == "o" {
		return false, false
	}
	for _, known := range []string{"true", "yes", "on"} {
		if strings.HasPrefix(known, word) {
			return true, true
		}
	}
	for _, known := range []string{"false", "no", "off"} {
		if strings.HasPrefix(known, word) {
			return false, true
		}
	}
	return false, false
}

func boolText(v bool) string {
	if v {
		return "on"
	}
	return "off"
}
