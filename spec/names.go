package spec

import (
	"fmt"
	"regexp"
	"strings"
)

// maxNameLength leaves room for a prefix within PostgreSQL's 63 bytes for names
// of replication slots and applications.
const maxNameLength = 50

var namePattern = regexp.MustCompile(`^[a-z]([a-z0-9-]*[a-z0-9])?$`)

// nameProblem says what is wrong with the name of a cluster, node, repository or
// backup, and is empty when nothing is. A name is a DNS label in lower case
// that begins with a letter, so that it serves as host name, application_name and
// file name as it is, and as slot name by pg.SlotName, which keeps different
// names different since they have no underscore.
func nameProblem(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case len(name) > maxNameLength:
		return fmt.Sprintf("it has %d characters, more than %d", len(name), maxNameLength)
	case !namePattern.MatchString(name):
		return "only lower-case letters, digits and inner hyphens are allowed, beginning with a letter"
	}
	return ""
}

const nameDetail = `use lower-case letters, digits and hyphens, beginning with a letter, such as "db-1"`

// suggestName is the valid name nearest to one that is not, or empty.
func suggestName(name string) string {
	mapped := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r == '_', r == '.', r == ' ':
			return '-'
		}
		return -1
	}, strings.ToLower(name))
	mapped = strings.Trim(mapped, "-")
	if nameProblem(mapped) != "" {
		return ""
	}
	return mapped
}

// SecretName reports whether a parameter or attribute of this name is likely to
// hold a secret, which a spec must not spell out and a plan must not print.
func SecretName(name string) bool {
	lower := strings.ToLower(name)
	if strings.HasSuffix(lower, "_file") || lower == "password_encryption" || strings.HasPrefix(lower, "ssl_passphrase_command") {
		return false
	}
	for _, word := range []string{"password", "passwd", "passphrase", "secret", "token", "credential", "private_key", "access_key", "api_key", "apikey"} {
		if strings.Contains(lower, word) {
			return true
		}
	}
	return false
}
