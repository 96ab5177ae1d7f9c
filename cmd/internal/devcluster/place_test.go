package devcluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnlyADirectoryThatCarriesItsOwnMarkIsADevCluster(t *testing.T) {
	root, err := resolved(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(root, "made")
	if _, err := create(made, memory{Cluster: "demo", Spec: "/srv/c.hcl"}); err != nil {
		t.Fatal(err)
	}
	mark, err := os.ReadFile(memoryPath(made))
	if err != nil {
		t.Fatal(err)
	}
	fill := func(name, file string, text []byte) string {
		dir := filepath.Join(root, name)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, file), text, 0o644)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	if err := os.Mkdir(filepath.Join(root, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		rule, dir string
		want      string // part of the error; empty for none
	}{
		{"one that was made", made, ""},
		{"one that is not there", filepath.Join(root, "absent"), "no dev cluster in"},
		{"one that is empty", filepath.Join(root, "empty"), "no dev cluster in"},
		{"one with files and no mark", fill("files", "notes", nil), "was not made by ramctrl dev"},
		{"one with a damaged mark", fill("damaged", "dev.json", []byte("{")), "was not made by ramctrl dev"},
		{"one with a mark that was copied", fill("copied", "dev.json", mark), "was not made by ramctrl dev"},
		{"one of a newer ramctrl", fill("newer", "dev.json", []byte(`{"format":99,"dir":"`+filepath.Join(root, "newer")+`"}`)), "newer ramctrl"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			p, err := open(test.dir)
			if test.want == "" {
				if err != nil || p.Cluster != "demo" {
					t.Errorf("got %+v, %v", p, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if absent := strings.HasPrefix(test.want, "no dev"); absent != errors.Is(err, errNone) {
				t.Errorf("errNone is %t for %v", !absent, err)
			}
		})
	}
}

func TestTwoCommandsDoNotWorkOnOneDevClusterAtOnce(t *testing.T) {
	p, err := create(filepath.Join(t.TempDir(), "dev"), memory{})
	if err != nil {
		t.Fatal(err)
	}
	release, err := p.claim()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.claim(); err == nil || !strings.Contains(err.Error(), "at work on "+p.dir) {
		t.Errorf("second claim: %v", err)
	}
	release()
	release, err = p.claim()
	if err != nil {
		t.Fatalf("claim after release: %v", err)
	}
	release()
}
