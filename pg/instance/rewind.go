package instance

import (
	"context"
	"errors"

	"github.com/ramhq/ram/pg"
)

// RewindOptions says what a data directory is made to follow.
type RewindOptions struct {
	// Source is how to reach the primary: host, port and a superuser, and whatever
	// else libpq knows but for the password.
	Source   pg.Conninfo
	Password string
	// Generation marks the data directory, as it did before.
	Generation uint64
	// Term is the primaryship that the directory is made fit for. It is shown as
	// pg.DataDirectory.Follows, and a directory that was rewound for it already is
	// left alone. Zero is not kept.
	Term uint64
	// Progress is called now and then with the bytes copied and all; it may be nil.
	Progress func(done, total pg.Bytes) `json:"-"`
}

// ErrRewindImpossible is returned when a data directory cannot be rewound: only a new
// copy helps.
var ErrRewindImpossible = errors.New("the data directory cannot be rewound; it has to be cloned anew")

// Rewind makes a stopped data directory one that can follow a primary whose history
// it has left.
func (i *Instance) Rewind(ctx context.Context, o RewindOptions) error {
	return errors.New("rewind is being built")
}
