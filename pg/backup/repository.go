package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Repository is a place where backups and WAL are kept. It is safe for concurrent
// use, also by several processes and hosts.
type Repository struct {
	place string // for errors
	store store
	codec *codec
	ext   string // of the objects it writes
	key   keyring

	decoders decoders
}

// Object is what is stored under a name.
type Object struct {
	Name   string    // without the extensions of the encoding
	Stored string    // the full name
	Size   int64     // bytes as stored
	At     time.Time // when it was last written, by the clock of the store
}

// Open prepares the use of a repository. It reads the key file; it does not write,
// and does not ask an object store anything: whether that can be reached shows
// with the first use. Close releases it.
func Open(ctx context.Context, c Config) (*Repository, error) {
	l, err := parseLocation(c.URL)
	if err != nil {
		return nil, err
	}
	codec, err := newCodec(c.Compression)
	if err != nil {
		return nil, err
	}
	key, err := readKey(c.KeyFile)
	if err != nil {
		return nil, err
	}
	s, err := openStore(ctx, l)
	if err != nil {
		return nil, err
	}
	r := &Repository{place: l.String(), store: s, codec: codec, ext: codec.ext, key: key}
	if key.recipient != nil {
		r.ext += ageExt
	}
	return r, nil
}

func openStore(ctx context.Context, l location) (store, error) {
	if l.scheme == "file" {
		return newDirectory(l.path), nil
	}
	return openBucket(ctx, l)
}

// Close releases connections. Readers and writers must be done.
func (r *Repository) Close() error { return r.store.close() }

// ReadStored returns an object's bytes as they are stored, by its full name. They
// are not checked.
func (r *Repository) ReadStored(ctx context.Context, object string) (io.ReadCloser, error) {
	if err := validObject(object); err != nil {
		return nil, err
	}
	return r.store.open(ctx, object)
}

// Stat finds an object by its name without the extensions. When several encodings
// of it are there it is the one that Read reads.
func (r *Repository) Stat(ctx context.Context, name string) (Object, error) {
	versions, err := r.versions(ctx, name)
	if err != nil {
		return Object{}, err
	}
	if len(versions) == 0 {
		return Object{}, fmt.Errorf("object %s: %w", name, ErrNotFound)
	}
	return versions[0], nil
}

// versions are the encodings in which an object is there, the one to read first:
// that of this configuration, or else the newest.
func (r *Repository) versions(ctx context.Context, name string) ([]Object, error) {
	if err := validObject(name); err != nil {
		return nil, err
	}
	objects, err := r.List(ctx, name)
	if err != nil {
		return nil, err
	}
	objects = slices.DeleteFunc(objects, func(o Object) bool { return o.Name != name })
	slices.SortStableFunc(objects, func(a, b Object) int {
		own := name + r.ext
		if (a.Stored == own) != (b.Stored == own) {
			if a.Stored == own {
				return -1
			}
			return 1
		}
		return b.At.Compare(a.At)
	})
	return objects, nil
}

// List returns the objects whose full names begin with a prefix, sorted by Name.
// Objects that are still being written are not among them.
func (r *Repository) List(ctx context.Context, prefix string) ([]Object, error) {
	if err := validPrefix(prefix); err != nil {
		return nil, err
	}
	stored, err := r.store.list(ctx, prefix)
	if err != nil {
		return nil, err
	}
	objects := make([]Object, 0, len(stored))
	for _, o := range stored {
		if validObject(o.name) == nil {
			objects = append(objects, Object{Name: plainName(o.name), Stored: o.name, Size: o.size, At: o.at})
		}
	}
	slices.SortFunc(objects, func(a, b Object) int {
		if order := strings.Compare(a.Name, b.Name); order != 0 {
			return order
		}
		return strings.Compare(a.Stored, b.Stored)
	})
	return objects, nil
}

// Delete removes an object by its full name. That it is not there is no error.
func (r *Repository) Delete(ctx context.Context, object string) error {
	if err := validObject(object); err != nil {
		return err
	}
	return r.store.remove(ctx, object)
}

// Create begins a sealed object. The context governs it until Commit or Abort, one
// of which must be called.
func (r *Repository) Create(ctx context.Context, name string, o CreateOptions) (*Writer, error) {
	if err := validObject(name); err != nil {
		return nil, err
	}
	if plainName(name) != name {
		return nil, fmt.Errorf("object %s: name it without the extensions of an encoding", name)
	}
	others, err := r.versions(ctx, name)
	if err != nil && !errors.Is(err, errNoDirectory) {
		return nil, err
	}
	if o.IfAbsent && len(others) > 0 {
		return nil, fmt.Errorf("object %s: %w", others[0].Stored, ErrExists)
	}
	return newWriter(ctx, r, name+r.ext, others, o)
}

// Read returns an object's plain bytes, by its name without the extensions,
// whatever its compression and encryption. Its Read returns io.EOF only after all
// checksums held, an error that wraps ErrDamaged when the object is not what was
// written, ErrKey when no key opens it, and ErrUnavailable when it could not be
// read to its end. The context governs it until Close.
func (r *Repository) Read(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := validObject(name); err != nil {
		return nil, err
	}
	object := name + r.ext
	stored, err := r.store.open(ctx, object)
	if errors.Is(err, ErrNotFound) {
		var found Object
		if found, err = r.Stat(ctx, name); err != nil {
			return nil, err
		}
		object = found.Stored
		stored, err = r.store.open(ctx, object)
	}
	if err != nil {
		return nil, err
	}
	reader, err := newReader(r, stored, object)
	if err != nil {
		stored.Close()
		return nil, err
	}
	return reader, nil
}
