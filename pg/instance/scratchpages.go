package instance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// badPages collects what pg_checksums complains of. It names the file and, below 1 GB
// of each file, the block.
type badPages struct {
	dir      string
	progress func(RecoveryProgress)
	found    []string
	count    int
}

// maxNamed is how many damaged things an error names.
const maxNamed = 10

var (
	badPage       = regexp.MustCompile(`checksum verification failed in file "([^"]+)", block (\d+)`)
	pagesScanned  = regexp.MustCompile(`(?m)^Blocks scanned:\s+(\d+)`)
	filesScanned  = regexp.MustCompile(`(?m)^Files scanned:\s+(\d+)`)
	pagesProgress = regexp.MustCompile(`^\s*(\d+)/(\d+) MB`)
)

func (b *badPages) line(text string) bool {
	if match := pagesProgress.FindStringSubmatch(text); match != nil {
		done, _ := strconv.ParseInt(match[1], 10, 64)
		total, _ := strconv.ParseInt(match[2], 10, 64)
		if b.progress != nil {
			b.progress(RecoveryProgress{Phase: PhasePages, Done: done << 20, Total: total << 20})
		}
		return false
	}
	match := badPage.FindStringSubmatch(text)
	if match == nil {
		return true
	}
	if b.count++; b.count <= maxNamed {
		b.found = append(b.found, strings.TrimPrefix(match[1], b.dir+"/")+" block "+match[2])
	}
	return false
}

// checkPages looks at every page checksum of a directory whose server is cleanly
// stopped.
func (i *Instance) checkPages(ctx context.Context, dir string, progress func(RecoveryProgress), checked *Checked) error {
	control, err := i.privateControl(ctx, dir)
	if err != nil {
		return err
	}
	if checked.Checksums = control.ChecksumVersion != 0; !checked.Checksums {
		i.logger.Warn().Msg("data checksums are off: the pages of the backup cannot be checked; turn them on with pg_checksums --enable")
		return nil
	}
	if _, err := os.Stat(i.binaries.path("pg_checksums")); err != nil {
		return fmt.Errorf("%s has no pg_checksums, which belongs to PostgreSQL's server package; install it", filepath.Clean(i.binaries.Dir))
	}
	tell(progress, PhasePages)
	var out bytes.Buffer
	bad := &badPages{dir: dir, progress: progress}
	err = i.run(ctx, child{
		program: "pg_checksums", args: []string{"--check", "--progress", "-D", dir}, stdout: &out, line: bad.line,
	})
	if bad.count > 0 {
		more := ""
		if bad.count > len(bad.found) {
			more = fmt.Sprintf(" and %d more", bad.count-len(bad.found))
		}
		return fmt.Errorf("%w: %d pages have wrong checksums: %s%s", ErrCorrupt, bad.count, strings.Join(bad.found, ", "), more)
	}
	if err != nil {
		return err
	}
	pages, files := pagesScanned.FindStringSubmatch(out.String()), filesScanned.FindStringSubmatch(out.String())
	if pages == nil || files == nil {
		return errors.New("pg_checksums does not say how many pages it has looked at")
	}
	checked.Pages, _ = strconv.ParseInt(pages[1], 10, 64)
	checked.Files, _ = strconv.ParseInt(files[1], 10, 64)
	return nil
}
