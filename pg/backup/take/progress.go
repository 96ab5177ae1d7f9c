package take

import (
	"io"
	"time"

	"github.com/ramhq/ram/pg"
)

// progressEvery is how often, at most, progress is told.
const progressEvery = 200 * time.Millisecond

// progress counts what is read through it and tells it from time to time.
type progress struct {
	from  io.Reader
	tell  func(done, total pg.Bytes) // nil: nobody listens
	now   func() time.Time
	done  pg.Bytes
	total pg.Bytes
	told  time.Time
}

// Read counts and passes on.
func (p *progress) Read(b []byte) (int, error) {
	n, err := p.from.Read(b)
	p.done += pg.Bytes(n)
	if p.tell != nil {
		if now := p.now(); p.told.IsZero() || now.Sub(p.told) >= progressEvery {
			p.told = now
			// The server's estimate knows nothing of WAL, nor of files that grow.
			p.tell(p.done, max(p.done, p.total))
		}
	}
	return n, err
}
