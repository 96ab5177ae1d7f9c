package backup

import (
	"fmt"
	"net/url"
	"path"
	"strings"
)

// Config says where a repository is and how objects are written to it: the
// repository block of a spec.
type Config struct {
	// URL is file:///srv/backups, s3://bucket/prefix?region=..., gs://bucket/prefix or
	// azblob://container/prefix. Credentials never are in it: they come from the
	// environment, from files or from the platform. For S3 these parameters may
	// follow: region, endpoint, use_path_style (or s3ForcePathStyle), profile, role,
	// ssetype, kmskeyid and the others of gocloud.dev/blob/s3blob.
	URL string
	// Compression is zstd, lz4, gzip or none; empty is zstd. It is how objects are
	// written; those written otherwise are read all the same.
	Compression string
	// KeyFile holds age identities, one in a line, as age-keygen writes them. The
	// first encrypts; all decrypt. Empty: objects are not encrypted.
	KeyFile string
}

// location is a parsed Config.URL.
type location struct {
	scheme string
	bucket string // of an object store
	path   string // the directory, or the prefix in the bucket without slashes at its ends
	query  url.Values
}

// parseLocation reads a repository's URL. As validation of a spec does, it never
// repeats more of a bad URL than its scheme.
func parseLocation(text string) (location, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return location{}, fmt.Errorf(`repository: this is not a URL; write "file:///srv/backups" or "s3://bucket/prefix?region=eu-north-1"`)
	}
	if u.User != nil {
		return location{}, fmt.Errorf("repository: a URL must not hold credentials; they come from the environment, from files or from the platform")
	}
	l := location{scheme: u.Scheme, bucket: u.Host, path: path.Clean("/" + u.Path), query: u.Query()}
	switch u.Scheme {
	case "file":
		if u.Host != "" || !path.IsAbs(u.Path) || l.path == "/" {
			return location{}, fmt.Errorf(`repository: a file URL names an absolute path; write three slashes: "file:///srv/backups"`)
		}
	case "s3", "gs", "azblob":
		if u.Host == "" {
			return location{}, fmt.Errorf("repository: this %s URL names no bucket", u.Scheme)
		}
		l.path = strings.Trim(l.path, "/")
	default:
		return location{}, fmt.Errorf("repository: no repository can be reached by %q; use file, s3, gs or azblob", u.Scheme)
	}
	return l, nil
}

// String is the place without its parameters, for errors.
func (l location) String() string {
	if l.scheme == "file" {
		return l.path
	}
	return strings.TrimSuffix(l.scheme+"://"+l.bucket+"/"+l.path, "/")
}
