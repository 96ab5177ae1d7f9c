package take

import (
	"archive/tar"
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

// mostParts is how many parts there are at once: one that is being written, and one
// whose upload is being completed.
const mostParts = 2

// parts cuts what it is given at the boundaries of files into tar archives of about
// the same size and puts each into the repository. One goroutine writes; commits
// run beside it.
type parts struct {
	repository *backup.Repository
	id         string
	size       int64 // bytes of content after which a part is cut
	workers    int

	ctx     context.Context // ends with the first commit that fails, which is its cause
	cancel  context.CancelFunc
	commits *errgroup.Group
	free    chan struct{} // holds a token for each part that may be begun

	current *part
	all     []*backup.Part // complete after wait
}

// part is the archive that is being written.
type part struct {
	*tar.Writer
	object  *backup.Writer
	entry   *backup.Part
	content int64 // bytes of files and their headers
}

// newParts begins nothing yet. Either wait or abort ends it.
func newParts(ctx context.Context, o Options) *parts {
	ctx, cancel := context.WithCancel(ctx)
	commits, ctx := errgroup.WithContext(ctx)
	p := &parts{
		repository: o.Repository, id: o.ID, size: int64(o.PartSize), workers: o.Workers,
		ctx: ctx, cancel: cancel, commits: commits, free: make(chan struct{}, mostParts),
	}
	for range mostParts {
		p.free <- struct{}{}
	}
	return p
}

// header begins an entry of a tablespace, in a new part where the current one is
// full or another tablespace's. A file that is larger than a part has one of its own.
func (p *parts) header(tablespace uint32, h *tar.Header) error {
	const overhead = 512 // of one entry, at least
	if c := p.current; c != nil && (c.entry.Tablespace != tablespace || c.content > 0 && c.content+overhead+h.Size > p.size) {
		if err := p.cut(); err != nil {
			return err
		}
	}
	if p.current == nil {
		if err := p.begin(tablespace); err != nil {
			return err
		}
	}
	p.current.content += overhead + h.Size
	if h.Typeflag == tar.TypeReg {
		p.current.entry.Files++
	}
	return p.current.WriteHeader(h)
}

// Write writes content of the current entry.
func (p *parts) Write(content []byte) (int, error) { return p.current.Write(content) }

// begin waits until fewer than mostParts are under way.
func (p *parts) begin(tablespace uint32) error {
	select {
	case <-p.free:
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
	n := len(p.all) + 1
	// Whoever stores the first part owns the ID. The others must not fail when a store
	// finds what it has written itself, in an attempt whose answer was lost.
	object, err := p.repository.Create(p.ctx, backup.PartName(p.id, n), backup.CreateOptions{IfAbsent: n == 1, Workers: p.workers})
	if err != nil {
		return fmt.Errorf("begin part %d: %w", n, err)
	}
	entry := &backup.Part{Tablespace: tablespace}
	p.all = append(p.all, entry)
	p.current = &part{Writer: tar.NewWriter(object), object: object, entry: entry}
	return nil
}

// cut ends the current part, if there is one, and lets its commit run on.
func (p *parts) cut() error {
	c, n := p.current, len(p.all)
	if c == nil {
		return nil
	}
	if err := c.Close(); err != nil {
		return fmt.Errorf("write part %d: %w", n, err)
	}
	p.current = nil
	p.commits.Go(func() error {
		stored, err := c.object.Commit()
		if err != nil {
			return fmt.Errorf("write part %d: %w", n, err)
		}
		c.entry.Stored = stored
		p.free <- struct{}{}
		return nil
	})
	return nil
}

// wait returns when every part is committed, or with the error of the first commit
// that failed. The last part has been cut.
func (p *parts) wait() error {
	defer p.cancel()
	return p.commits.Wait()
}

// abort gives up what is under way, and returns when nothing is any more.
func (p *parts) abort() {
	p.cancel()
	if p.current != nil {
		p.current.object.Abort()
		p.current = nil
	}
	_ = p.commits.Wait() // why it is aborted is known already
}

// entries are the parts as the catalog lists them, and their sizes.
func (p *parts) entries() (list []backup.Part, plain, stored pg.Bytes) {
	for _, entry := range p.all {
		list = append(list, *entry)
		plain += pg.Bytes(entry.Plain)
		stored += pg.Bytes(entry.Size)
	}
	return list, plain, stored
}
