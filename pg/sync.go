package pg

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// SyncNames is a value of synchronous_standby_names: a commit waits until K of
// the members have it. The zero SyncNames waits for nobody.
type SyncNames struct {
	K       int
	Members []string // application names, in any order
}

// String renders ANY k ("a","b"), members sorted, each once and quoted; and
// nothing when K is not positive or there are no members. Equal sets have equal
// texts.
func (s SyncNames) String() string {
	if s.K < 1 || len(s.Members) == 0 {
		return ""
	}
	members := slices.Clone(s.Members)
	slices.Sort(members)
	size := 16
	for _, member := range members {
		size += len(member) + 3
	}
	text := fmt.Appendf(make([]byte, 0, size), "ANY %d (", s.K)
	for i, member := range slices.Compact(members) {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, '"')
		text = append(text, strings.ReplaceAll(member, `"`, `""`)...)
		text = append(text, '"')
	}
	return string(append(text, ')'))
}

// ParseSyncNames reads the quorum form of synchronous_standby_names, however
// it is spelled, and gives the members sorted, each once. Other forms that
// PostgreSQL knows (FIRST k, a bare list, *) are errors: ram never writes them.
func ParseSyncNames(text string) (SyncNames, error) {
	words, err := syncWords(text)
	if err != nil || len(words) == 0 {
		return SyncNames{}, err
	}
	malformed := fmt.Errorf("synchronous_standby_names %q is not of the form ANY k (names)", text)
	if len(words) < 5 || !strings.EqualFold(words[0], "any") || words[2] != "(" || words[len(words)-1] != ")" {
		return SyncNames{}, malformed
	}
	k, err := strconv.Atoi(words[1])
	if err != nil || k < 1 {
		return SyncNames{}, malformed
	}
	names := SyncNames{K: k}
	for i, word := range words[3 : len(words)-1] {
		if i%2 == 1 && word == "," {
			continue
		}
		name, ok := syncName(word)
		if i%2 == 1 || !ok {
			return SyncNames{}, malformed
		}
		names.Members = append(names.Members, name)
	}
	if words[len(words)-2] == "," {
		return SyncNames{}, malformed
	}
	slices.Sort(names.Members)
	names.Members = slices.Compact(names.Members)
	return names, nil
}

// syncWords cuts the text into names, quoted or not, numbers and punctuation.
func syncWords(text string) ([]string, error) {
	var words []string
	for {
		text = strings.TrimLeft(text, cSpace)
		if text == "" {
			return words, nil
		}
		length := 1
		switch {
		case text[0] == '"':
			if length = doubleQuotedLength(text); length == 0 {
				return nil, errors.New("synchronous_standby_names has a quoted name that does not end")
			}
		case identByte(text[0]):
			for length < len(text) && identByte(text[length]) {
				length++
			}
		}
		words = append(words, text[:length])
		text = text[length:]
	}
}

func identByte(c byte) bool { return confLetter(c) || decimalDigit(c) || c == '$' }

func doubleQuotedLength(text string) int {
	for i := 1; i < len(text); i++ {
		if text[i] != '"' {
			continue
		}
		if i+1 == len(text) || text[i+1] != '"' {
			return i + 1
		}
		i++
	}
	return 0
}

// syncName is the name that a word stands for. A bare * stands for everybody, and a
// bare number for itself.
func syncName(word string) (string, bool) {
	if word[0] == '"' {
		name := strings.ReplaceAll(word[1:len(word)-1], `""`, `"`)
		return name, name != ""
	}
	if digitsLength(word) > 0 {
		return word, digitsLength(word) == len(word)
	}
	return word, identByte(word[0]) && word[0] != '$'
}
