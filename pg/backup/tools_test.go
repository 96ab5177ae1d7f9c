package backup

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"

	"filippo.io/age"
)

// TestStandardToolsReadWhatIsStored is the promise of README.md: no part of ram is
// needed to get at the data.
func TestStandardToolsReadWhatIsStored(t *testing.T) {
	commands := map[string]string{"zstd": "zstd -dc", "lz4": "lz4 -dc", "gzip": "gzip -dc", "none": "gzip -dc"}
	for _, c := range encodings(t) {
		command := strings.Fields(commands[c.Compression])
		if _, err := exec.LookPath(command[0]); err != nil {
			t.Logf("without %s: %v", command[0], err)
			continue
		}
		for _, content := range [][]byte{nil, []byte("x"), sample(3*testChunk + 1)} {
			s := storeSample(t, c, content)
			var compressed io.Reader = bytes.NewReader(s.good)
			if c.KeyFile != "" {
				var err error
				if compressed, err = age.Decrypt(compressed, s.r.key.identities...); err != nil {
					t.Fatal(err)
				}
			}
			var stdout, stderr bytes.Buffer
			tool := exec.Command(command[0], command[1:]...)
			tool.Stdin, tool.Stdout, tool.Stderr = compressed, &stdout, &stderr
			if err := tool.Run(); err != nil || stderr.Len() > 0 || !bytes.Equal(stdout.Bytes(), content) {
				t.Errorf("%s of %s with %d bytes gives %d: %v %s", command[0], c.label(), len(content), stdout.Len(), err, stderr.Bytes())
			}
		}
	}
}

// TestStandardToolsCheckARecord is the other half.
func TestStandardToolsCheckARecord(t *testing.T) {
	text, err := encodeRecord(exampleEntry(t, exampleStart))
	if err != nil {
		t.Fatal(err)
	}
	tool := exec.Command("sh", "-c", "head -n -2 | sha256sum")
	tool.Stdin = bytes.NewReader(text)
	sum, err := tool.Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Fields(string(sum))[0]; !strings.HasSuffix(string(text), sumLine+want+"\"\n}\n") {
		t.Errorf("sha256sum says %s; the record ends in %s", want, text[len(text)-90:])
	}
}
