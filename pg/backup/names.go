package backup

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	ownerObject   = "ram.json"
	backupsPrefix = "backups/"
	walPrefix     = "wal/"

	entryFile = "backup.json"
	proofFile = "proof.json"
)

var (
	objectPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`)
	// walPattern: a segment, one that a promotion left incomplete, or the note that
	// PostgreSQL archives at a backup's end.
	walPattern     = regexp.MustCompile(`^[0-9A-F]{24}(\.partial|\.[0-9A-F]{8}\.backup)?$`)
	historyPattern = regexp.MustCompile(`^[0-9A-F]{8}\.history$`)
)

// maxObjectName keeps names below the limits of file systems and object stores,
// with room for the URL's prefix.
const maxObjectName = 400

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
