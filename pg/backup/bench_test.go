package backup

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ramhq/ram/pg/backup/ident"
)

// pgbenchPages are pages as pgbench_accounts has them: 61 rows of 97 bytes, most of
// which are blanks.
func pgbenchPages(n int) []byte {
	const page, rows, row = 8192, 61, 128
	random := rand.New(rand.NewPCG(1, 2))
	pages := make([]byte, n*page)
	for p := range n {
		b := pages[p*page : (p+1)*page]
		binary.LittleEndian.PutUint64(b, uint64(p)*7919)
		binary.LittleEndian.PutUint16(b[8:], uint16(random.Uint32())) // checksum
		for i := range rows {
			at := page - (i+1)*row
			binary.LittleEndian.PutUint32(b[24+4*i:], uint32(at)|1<<15|121<<17)
			tuple := b[at:]
			binary.LittleEndian.PutUint32(tuple, 750+uint32(random.IntN(1000)))
			binary.LittleEndian.PutUint32(tuple[24:], uint32(p*rows+i+1))
			binary.LittleEndian.PutUint32(tuple[28:], uint32(p*rows/100000+1))
			binary.LittleEndian.PutUint32(tuple[32:], uint32(random.IntN(10000)))
			for j := 36; j < 120; j++ {
				tuple[j] = ' '
			}
		}
	}
	return pages
}

func benchRepository(b *testing.B, compression string, encrypted bool) *Repository {
	b.Helper()
	c := Config{URL: "file://" + b.TempDir(), Compression: compression}
	if encrypted {
		text, err := ident.GenerateKey()
		if err != nil {
			b.Fatal(err)
		}
		c.KeyFile = filepath.Join(b.TempDir(), "key")
		if err := os.WriteFile(c.KeyFile, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	r, err := Open(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.Close() })
	return r
}

func benchCreate(b *testing.B, r *Repository, workers int, content []byte) Stored {
	b.Helper()
	w, err := r.Create(b.Context(), "backups/x", CreateOptions{Workers: workers})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		b.Fatal(err)
	}
	stored, err := w.Commit()
	if err != nil {
		b.Fatal(err)
	}
	return stored
}

func BenchmarkCreate(b *testing.B) {
	content := pgbenchPages(8192)
	for _, compression := range compressions {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/workers=%d", compression, workers), func(b *testing.B) {
				r := benchRepository(b, compression, false)
				b.SetBytes(int64(len(content)))
				var stored Stored
				for b.Loop() {
					stored = benchCreate(b, r, workers, content)
				}
				b.ReportMetric(float64(stored.Plain)/float64(stored.Size), "ratio")
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	content := pgbenchPages(8192)
	for _, compression := range compressions {
		for _, encrypted := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/encrypted=%t", compression, encrypted), func(b *testing.B) {
				r := benchRepository(b, compression, encrypted)
				benchCreate(b, r, 2, content)
				b.SetBytes(int64(len(content)))
				for b.Loop() {
					f, err := r.Read(b.Context(), "backups/x")
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, f); err != nil {
						b.Fatal(err)
					}
					f.Close()
				}
			})
		}
	}
}
