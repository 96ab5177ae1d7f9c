package backup

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

const (
	ownerObject   = "ram.json"
	backupsPrefix = "backups/"
	walPrefix     = "wal/"

	entryFile = "backup.json"
	proofFile = "proof.json"

	// idTime is how an ID begins: UTC, to the second, sorted by time.
	idTime = "20060102T150405Z"
)

var (
	namePattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,40}$`)
	objectPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`)
	// walPattern: a segment, one that a promotion left incomplete, or the note that
	// PostgreSQL archives at a backup's end.
	walPattern     = regexp.MustCompile(`^[0-9A-F]{24}(\.partial|\.[0-9A-F]{8}\.backup)?$`)
	historyPattern = regexp.MustCompile(`^[0-9A-F]{8}\.history$`)
)

// maxObjectName keeps names below the limits of file systems and object stores,
// with room for the URL's prefix.
const maxObjectName = 400

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
	at, name, found := strings.Cut(id, "-")
	if found && namePattern.MatchString(name) {
		if t, err := time.Parse(idTime, at); err == nil && t.Format(idTime) == at {
			return nil
		}
	}
	return fmt.Errorf("%q is not the identifier of a backup, such as 20260102T020000Z-nightly; `ramctrl backup list` shows them", id)
}

// PartName is the object that holds the n-th part of a backup's files, from 1.
func PartName(id string, n int) string {
	return fmt.Sprintf("%s%s/part-%05d.tar", backupsPrefix, id, n)
}

// ManifestName is the object that holds PostgreSQL's manifest of a backup.
func ManifestName(id string) string { return backupsPrefix + id + "/manifest" }

func entryName(id string) string { return backupsPrefix + id + "/" + entryFile }
func proofName(id string) string { return backupsPrefix + id + "/" + proofFile }

// WALName is the object for a file that PostgreSQL archives: a segment, a partial
// segment, a timeline history or a backup history file. Anything else is an error.
func WALName(file string) (string, error) {
	switch {
	case historyPattern.MatchString(file):
		return walPrefix + "history/" + file, nil
	case walPattern.MatchString(file):
		return walPrefix + file[:8] + "/" + file[:16] + "/" + file, nil
	}
	return "", fmt.Errorf("%q is not the name of a WAL file", file)
}

// validObject refuses every name that could lead out of the repository, is hidden,
// or would be read differently by another store.
func validObject(name string) error {
	if len(name) > maxObjectName || !objectPattern.MatchString(name) {
		return fmt.Errorf("%q is not the name of an object in a repository", name)
	}
	return nil
}

// validPrefix accepts what a valid name may begin with, and the empty prefix.
func validPrefix(prefix string) error {
	if trimmed := strings.TrimSuffix(prefix, "/"); trimmed != "" && validObject(trimmed) != nil {
		return fmt.Errorf("%q is not the prefix of objects in a repository", prefix)
	}
	return nil
}
