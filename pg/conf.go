package pg

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ConfEntry is one line of a configuration file that says something.
type ConfEntry struct {
	Name  string // as written; PostgreSQL compares names without case
	Value string // without quotes and escapes
	Line  int    // from 1
}

// Include reports whether the entry is a directive that reads another file
// (include, include_if_exists) or directory (include_dir); its value is the path.
func (e ConfEntry) Include() bool {
	switch strings.ToLower(e.Name) {
	case "include", "include_if_exists", "include_dir":
		return true
	}
	return false
}

// RenderConf is a configuration file that sets the given settings: the header as
// comment lines, then one line for each name in alphabetical order, every value
// quoted. Names and values must have passed LookupSetting and Setting.Check: a
// file cannot hold a NUL byte, nor a name that is not a parameter's.
func RenderConf(header string, settings map[string]string) string {
	var text strings.Builder
	for line := range strings.Lines(header) {
		text.WriteString(strings.TrimRight("# "+strings.TrimRight(line, "\r\n"), " ") + "\n")
	}
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
	})
	for _, name := range names {
		fmt.Fprintf(&text, "%s = %s\n", name, quoteConf(settings[name]))
	}
	return text.String()
}

// quoteConf writes a value in quotes. A quoted value may not run over the end of a
// line, so line ends are escaped.
func quoteConf(value string) string {
	if !strings.ContainsAny(value, "'\\\n\r") {
		return "'" + value + "'"
	}
	return "'" + strings.NewReplacer(`'`, `''`, `\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(value) + "'"
}

// ParseConf reads a configuration file as PostgreSQL does: comments, an optional
// equals sign, words and numbers without quotes, ” and backslash escapes within
// quotes. Entries come in the order of the file, repeated names included, and
// include directives as entries that are not followed. As in PostgreSQL, one bad
// line spoils the file: the error then names every bad line, and the entries
// are those of the others.
func ParseConf(text string) ([]ConfEntry, error) {
	var entries []ConfEntry
	var problems []error
	number := 0
	for line := range strings.Lines(text) {
		number++
		name, value, err := parseConfLine(strings.TrimSuffix(line, "\n"))
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("line %d: %w", number, err))
		case name != "":
			entries = append(entries, ConfEntry{Name: name, Value: value, Line: number})
		}
	}
	return entries, errors.Join(problems...)
}

// EffectiveConf is what a file's entries come to: of several lines with one name
// the last counts. Names are in lower case; include directives are left out.
func EffectiveConf(entries []ConfEntry) map[string]string {
	values := make(map[string]string, len(entries))
	for _, entry := range entries {
		if !entry.Include() {
			values[strings.ToLower(entry.Name)] = entry.Value
		}
	}
	return values
}

// parseConfLine gives an empty name for a line that says nothing.
func parseConfLine(line string) (name, value string, err error) {
	words, err := confWords(line)
	if err != nil || len(words) == 0 {
		return "", "", err
	}
	if words[0].kind != confName && words[0].kind != confQualified {
		return "", "", fmt.Errorf("%s is not a parameter name", words[0].text)
	}
	name = words[0].text
	rest := words[1:]
	if len(rest) > 0 && rest[0].kind == confEquals {
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return "", "", fmt.Errorf("%s has no value", name)
	}
	switch rest[0].kind {
	case confEquals:
		return "", "", fmt.Errorf("%s has two equals signs", name)
	case confQualified:
		// The scanner takes a.b for a name, and a name with a dot for no value.
		return "", "", fmt.Errorf("write the value %s in single quotes", rest[0].text)
	}
	if len(rest) > 1 {
		return "", "", fmt.Errorf("unexpected %s after the value of %s; write the value in single quotes", rest[1].text, name)
	}
	return name, rest[0].value(), nil
}

type confKind int

const (
	confName      confKind = iota // work_mem
	confQualified                 // plpgsql.extra_warnings
	confEquals                    // =
	confQuoted                    // '...'
	confPlain                     // a number with or without a unit, or a word like 127.0.0.1/8 that begins with a letter
)

type confWord struct {
	kind confKind
	text string
}

func (w confWord) value() string {
	if w.kind == confQuoted {
		return unquoteConf(w.text)
	}
	return w.text
}

// confWords cuts a line into words; at each place the longest possible word.
func confWords(line string) ([]confWord, error) {
	var words []confWord
	for line != "" {
		switch c := line[0]; {
		case c == ' ' || c == '\t' || c == '\r':
			line = line[1:]
			continue
		case c == '#':
			return words, nil
		}
		word := scanConfWord(line)
		if word.text == "" {
			if line[0] == '\'' {
				return nil, errors.New("a quoted value does not end")
			}
			return nil, fmt.Errorf("syntax error near %q; write the value in single quotes", line)
		}
		words = append(words, word)
		line = line[len(word.text):]
	}
	return words, nil
}

func scanConfWord(line string) confWord {
	switch c := line[0]; {
	case c == '=':
		return confWord{confEquals, "="}
	case c == '\'':
		return confWord{confQuoted, line[:quotedLength(line)]}
	case confLetter(c):
		return scanConfName(line)
	}
	return confWord{confPlain, line[:max(integerLength(line), realLength(line))]}
}

// scanConfName takes the longest of name, name.name and a bare word, which also
// has - . _ : and / in it; of equally long ones, the first.
func scanConfName(line string) confWord {
	name := nameLength(line)
	if name < len(line) && line[name] == '.' {
		if second := nameLength(line[name+1:]); second > 0 {
			name += 1 + second
		}
	}
	word := 0
	for word < len(line) && (confLetter(line[word]) || decimalDigit(line[word]) || strings.IndexByte("-./:", line[word]) >= 0) {
		word++
	}
	switch {
	case word > name:
		return confWord{confPlain, line[:word]}
	case strings.Contains(line[:name], "."):
		return confWord{confQualified, line[:name]}
	}
	return confWord{confName, line[:name]}
}

func nameLength(text string) int {
	n := 0
	for n < len(text) && (confLetter(text[n]) || n > 0 && decimalDigit(text[n])) {
		n++
	}
	return n
}

func confLetter(c byte) bool {
	return c == '_' || c >= 0x80 || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// quotedLength is the length of the quoted text at the beginning of a line, and
// zero when it does not end.
func quotedLength(line string) int {
	for i := 1; i < len(line); i++ {
		switch {
		case line[i] == '\\':
			i++
		case line[i] == '\'' && i+1 < len(line) && line[i+1] == '\'':
			i++
		case line[i] == '\'':
			return i + 1
		}
	}
	return 0
}

// integerLength covers whole numbers, decimal and hexadecimal, with the letters of
// a unit.
func integerLength(line string) int {
	start := signLength(line)
	n := start
	if strings.HasPrefix(line[start:], "0x") && len(line) > start+2 && hexDigit(line[start+2]) {
		n += 2
		for n < len(line) && hexDigit(line[n]) {
			n++
		}
	} else {
		n += digitsLength(line[n:])
	}
	if n == start {
		return 0
	}
	for n < len(line) && 'a' <= line[n]|0x20 && line[n]|0x20 <= 'z' {
		n++
	}
	return n
}

// realLength covers numbers with a point; they take no unit without quotes.
func realLength(line string) int {
	n := signLength(line)
	n += digitsLength(line[n:])
	if n >= len(line) || line[n] != '.' {
		return 0
	}
	n++
	n += digitsLength(line[n:])
	end, _ := scanExponent(line, n, 'e')
	return end
}

func digitsLength(text string) int {
	n := 0
	for n < len(text) && decimalDigit(text[n]) {
		n++
	}
	return n
}

// unquoteConf undoes the escapes that C knows, with up to three octal digits for
// a byte; any other escaped character stands for itself.
func unquoteConf(quoted string) string {
	inner := quoted[1 : len(quoted)-1]
	var value strings.Builder
	for i := 0; i < len(inner); i++ {
		c := inner[i]
		switch {
		case c == '\'':
			i++
		case c == '\\':
			i++
			if octal := octalLength(inner[i:]); octal > 0 {
				c = octalByte(inner[i : i+octal])
				i += octal - 1
				break
			}
			c = escapedByte(inner[i])
		}
		value.WriteByte(c)
	}
	return value.String()
}

func octalLength(text string) int {
	n := 0
	for n < len(text) && n < 3 && '0' <= text[n] && text[n] <= '7' {
		n++
	}
	return n
}

func octalByte(digits string) byte {
	var b byte
	for _, c := range []byte(digits) {
		b = b<<3 | c - '0'
	}
	return b
}

func escapedByte(c byte) byte {
	if i := strings.IndexByte("bfnrt", c); i >= 0 {
		return "\b\f\n\r\t"[i]
	}
	return c
}
