package take

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestManifestChecksumHoldsHoweverItIsCut(t *testing.T) {
	text := good().manifestText()
	for _, size := range []int{1, 2, 7, 100, len(text) - 1, len(text)} {
		count := 0
		_, err := readManifest(&pieces{text, size}, func(listed) error { count++; return nil })
		if err != nil || count != 6 {
			t.Errorf("in pieces of %d: %d files, %v", size, count, err)
		}
	}
	t.Run("paths that are not UTF-8", func(t *testing.T) {
		encoded := resum(strings.Replace(text, `"Path": "base/1/empty"`, `"Encoded-Path": "62ff"`, 1))
		var found bool
		_, err := readManifest(strings.NewReader(encoded), func(f listed) error { found = found || f.Path == "b\xff"; return nil })
		if err != nil || !found {
			t.Errorf("found %v, %v", found, err)
		}
	})
	t.Run("an error of the check ends it", func(t *testing.T) {
		stop := errors.New("stop")
		_, err := readManifest(strings.NewReader(text), func(listed) error { return stop })
		wantError(t, err, stop)
	})
}

// pieces hands out text in pieces of a size.
type pieces struct {
	text string
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	n := copy(b, p.text[:min(p.size, len(p.text))])
	p.text = p.text[n:]
	return n, nil
}
