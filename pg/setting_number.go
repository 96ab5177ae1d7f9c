package pg

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// unit is one word that may follow a number, with its size in the smallest
// word of its family: bytes for memory, microseconds for time.
type unit struct {
	name string
	size float64
}

// Largest first: a value is shown in the first unit that holds it exactly, and
// a fraction is rounded to the unit that follows.
var (
	memoryUnits = []unit{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}
	timeUnits   = []unit{{"d", 86400e6}, {"h", 3600e6}, {"min", 60e6}, {"s", 1e6}, {"ms", 1e3}, {"us", 1}}
)

// unitFamily gives the units that a setting counted in base accepts, and the
// size of base among them; nothing for a setting without a unit.
func unitFamily(base string) (units []unit, size float64) {
	if base == "8kB" {
		return memoryUnits, 8 << 10
	}
	for _, family := range [][]unit{memoryUnits, timeUnits} {
		for _, u := range family {
			if u.name == base {
				return family, u.size
			}
		}
	}
	return nil, 1
}

// unitNames lists what a person may write after a number.
func unitNames(base string) string {
	units, _ := unitFamily(base)
	names := make([]string, 0, len(units))
	for _, u := range units {
		names = append([]string{u.name}, names...)
	}
	return strings.Join(names, ", ")
}

// cSpace is what C calls white space.
const cSpace = " \t\n\v\f\r"

// number reads a value as PostgreSQL does: a number as C writes it (so that 010
// is eight and 0x10 sixteen), an optional unit, and white space around both.
// The result counts the setting's own unit.
func (s Setting) number(value string) (float64, error) {
	scan := scanFloat
	if s.Type == SettingInteger {
		scan = scanInteger
	}
	v, rest, err := scan(value)
	if err != nil {
		return 0, s.numberError(value)
	}
	rest = strings.Trim(rest, cSpace)
	if rest != "" {
		if v, err = s.convert(v, rest); err != nil {
			return 0, err
		}
	}
	if s.Type == SettingInteger {
		v = math.RoundToEven(v)
		if v > math.MaxInt32 || v < math.MinInt32 {
			return 0, fmt.Errorf("%s = %q is out of range; use %s", s.Name, value, s.rangeText())
		}
	}
	return v, nil
}

func (s Setting) numberError(value string) error {
	kind := "a number"
	if s.Type == SettingInteger {
		kind = "a whole number"
	}
	if s.Unit != "" {
		return fmt.Errorf("%s = %q is not %s with an optional unit of %s", s.Name, value, kind, unitNames(s.Unit))
	}
	return fmt.Errorf("%s = %q is not %s", s.Name, value, kind)
}

func (s Setting) convert(v float64, word string) (float64, error) {
	units, base := unitFamily(s.Unit)
	for i, u := range units {
		if u.name != word {
			continue
		}
		v *= u.size / base
		if i+1 < len(units) {
			// 30.1GB is meant as a whole number of MB, not of kB.
			step := units[i+1].size / base
			v = math.RoundToEven(v/step) * step
		}
		return v, nil
	}
	if units == nil {
		return 0, fmt.Errorf("%s has no unit; leave out %q", s.Name, word)
	}
	return 0, fmt.Errorf("%s has no unit %q; use one of %s (upper and lower case matter)", s.Name, word, unitNames(s.Unit))
}

func (s Setting) rangeText() string {
	with := ""
	if s.Unit != "" {
		with = ", counted in " + s.Unit
	}
	return fmt.Sprintf("%s to %s%s", s.Min, s.Max, with)
}

// scanInteger reads what C's strtol reads with base 0, and what strtod reads when
// a fraction or an exponent follows or the number is too long.
func scanInteger(value string) (v float64, rest string, err error) {
	if strings.HasPrefix(value, ".") {
		return scanFloat(value)
	}
	text := strings.TrimLeft(value, cSpace)
	end := signLength(text)
	base := 10
	switch digits := text[end:]; {
	case len(digits) > 2 && digits[0] == '0' && digits[1]|0x20 == 'x' && digitValue(digits[2]) < 16:
		base, end = 16, end+2
	case len(digits) > 0 && digits[0] == '0':
		base = 8
	}
	start := end
	for end < len(text) && digitValue(text[end]) < base {
		end++
	}
	if start == end {
		return 0, "", strconv.ErrSyntax
	}
	if end < len(text) && strings.IndexByte(".eE", text[end]) >= 0 {
		return scanFloat(text)
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(text[:signLength(text)], "+")+text[start:end], base, 64)
	if err != nil {
		return scanFloat(text)
	}
	return float64(n), text[end:], nil
}

// scanFloat reads what C's strtod reads, without infinities and NaN, which no
// setting takes.
func scanFloat(value string) (v float64, rest string, err error) {
	text := strings.TrimLeft(value, cSpace)
	end := signLength(text)
	isDigit, exponent, hex := decimalDigit, byte('e'), false
	if digits := text[end:]; len(digits) > 2 && digits[0] == '0' && digits[1]|0x20 == 'x' && startsMantissa(digits[2:]) {
		isDigit, exponent, hex = hexDigit, 'p', true
		end += 2
	}
	end, found := scanMantissa(text, end, isDigit)
	if !found {
		return 0, "", strconv.ErrSyntax
	}
	whole, hasExponent := scanExponent(text, end, exponent)
	number := text[:whole]
	if hex && !hasExponent {
		number += "p0"
	}
	v, err = strconv.ParseFloat(number, 64)
	if v == 0 && strings.ContainsFunc(text[:end], func(c rune) bool { return '1' <= c && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }) {
		err = strconv.ErrRange // too small to tell from zero
	}
	return v, text[whole:], err
}

func startsMantissa(text string) bool {
	return hexDigit(text[0]) || len(text) > 1 && text[0] == '.' && hexDigit(text[1])
}

func scanMantissa(text string, from int, isDigit func(byte) bool) (end int, found bool) {
	point := false
	for end = from; end < len(text); end++ {
		switch {
		case isDigit(text[end]):
			found = true
		case text[end] == '.' && !point:
			point = true
		default:
			return end, found
		}
	}
	return end, found
}

// scanExponent takes an exponent only when digits follow the letter.
func scanExponent(text string, from int, letter byte) (end int, found bool) {
	if from >= len(text) || text[from]|0x20 != letter {
		return from, false
	}
	start := from + 1 + signLength(text[from+1:])
	end = start
	for end < len(text) && decimalDigit(text[end]) {
		end++
	}
	if end == start {
		return from, false
	}
	return end, true
}

func signLength(text string) int {
	if text != "" && (text[0] == '+' || text[0] == '-') {
		return 1
	}
	return 0
}

func decimalDigit(c byte) bool { return '0' <= c && c <= '9' }

func hexDigit(c byte) bool { return digitValue(c) < 16 }

// digitValue is c as a digit of a base up to 16, and 16 for anything else.
func digitValue(c byte) int {
	switch {
	case decimalDigit(c):
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return 16
}

// numberText is the form in which SHOW prints a number of this setting.
func (s Setting) numberText(v float64) string {
	if s.octal() {
		return fmt.Sprintf("%04o", int64(v))
	}
	word := ""
	if units, base := unitFamily(s.Unit); units != nil && v > 0 {
		for _, u := range units {
			scaled := v * base / u.size
			word = u.name
			if s.fits(scaled) || u.size <= base && s.Type == SettingInteger || u.size == 1 {
				v = scaled
				break
			}
		}
	}
	return s.digits(v) + word
}

// fits reports whether a number in some unit is whole, but for the noise of
// floating point in settings of type real.
func (s Setting) fits(v float64) bool {
	if s.Type == SettingInteger {
		return v == math.Trunc(v)
	}
	return math.Abs(math.RoundToEven(v)/v-1) <= 1e-8
}

// digits writes a number of this setting as SHOW does: a whole one in full,
// another with C's %g.
func (s Setting) digits(v float64) string {
	if s.Type == SettingInteger {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}

// octal reports whether PostgreSQL shows this number as file permissions.
func (s Setting) octal() bool {
	return s.Name == "data_directory_mode" || s.Name == "log_file_mode" || s.Name == "unix_socket_permissions"
}
