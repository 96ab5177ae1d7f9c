package backup

import (
	"errors"
	"fmt"
)

// What callers tell apart, through errors.Is. Every error that carries one of
// them also says which object or repository it is about.
var (
	// ErrNotFound: there is no such object, backup or owner. The repository itself
	// has answered.
	ErrNotFound = errors.New("not found")
	// ErrExists: what was to be created is there already.
	ErrExists = errors.New("exists already")
	// ErrForeign: the repository belongs to another cluster.
	ErrForeign = errors.New("the repository belongs to another cluster")
	// ErrKey: the key is missing, cannot be used, or does not open the object.
	ErrKey = errors.New("no key opens it")
	// ErrDamaged: the object is not what was once written: cut off, or changed.
	ErrDamaged = errors.New("damaged")
	// ErrFormat: a newer version of ram wrote it.
	ErrFormat = errors.New("written by a newer version of ram")
	// ErrUnavailable: the repository could not be asked, or refused the request:
	// nothing is known of the object. Trying again later can help.
	ErrUnavailable = errors.New("repository unavailable")
)

// errNoDirectory: a directory of backups is not there: never made, or not mounted.
var errNoDirectory = fmt.Errorf("%w: the directory is not there; is its file system mounted?", ErrUnavailable)
