// Package ident makes and checks the names, identifiers and keys of backups. It
// reaches no repository, so that ramctrl needs no object store's client for them.
package ident

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"filippo.io/age"
)

// idTime is how an ID begins: UTC, to the second, sorted by time.
const idTime = "20060102T150405Z"

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,40}$`)

// NewID is the identifier of a backup that was begun at a moment under a name:
// the schedule's, or the operator's.
func NewID(at time.Time, name string) (string, error) {
	if err := ValidName(name); err != nil {
		return "", err
	}
	return at.UTC().Format(idTime) + "-" + name, nil
}

// ValidName reports what is wrong with the name of a backup, if anything is.
func ValidName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("backup name %q cannot be used: write 1 to 41 of a-z, 0-9 and -, beginning with a letter or digit", name)
	}
	return nil
}

// ValidID reports whether text has the form of a backup's identifier. No such text
// leads out of the repository.
func ValidID(id string) error {
	if _, name, ok := split(id); !ok || !namePattern.MatchString(name) {
		return fmt.Errorf("%q is not the identifier of a backup, such as 20260102T020000Z-nightly; `ramctrl backup list` shows them", id)
	}
	return nil
}

// Started is when the backup of a valid identifier was begun; zero for any other text.
func Started(id string) time.Time {
	at, _, _ := split(id)
	return at
}

func split(id string) (at time.Time, name string, ok bool) {
	text, name, found := strings.Cut(id, "-")
	at, err := time.Parse(idTime, text)
	if !found || err != nil || at.Format(idTime) != text {
		return time.Time{}, "", false
	}
	return at, name, true
}

// GenerateKey returns the text of a new key file: one X25519 identity, with its
// public key in a comment, as age-keygen writes it. Whoever loses it loses every
// backup that it sealed.
func GenerateKey() (string, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("# public key: %s\n%s\n", identity.Recipient(), identity), nil
}
