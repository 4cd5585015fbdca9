package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/internal/testmodel"
)

// A partial directory is a conversion's at every moment of it, so that a killed one does not stand in the way of the next; that of another
// command, and what a user has there, is not touched.
func TestOutputDirOfAKilledRun(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := testmodel.Named("llama-gqa").Write(src, 0); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		left string // in the directory; names with a slash at the end are directories
		ours bool
	}{
		{"", true}, {"work/", true}, {"work/lock", true}, {"work/lock work/conversion.partial", true}, {"work/lock work/conversion", true},
		{"work/conversion", true}, {"work/lock work/conversion model.safetensors config.json.partial", true},
		{"work/lock model.safetensors", false}, {"model.safetensors", false}, {"work/lock work/journal", false}, {"notes.txt", false}, {"work/lock work/x", false},
	} {
		out := filepath.Join(t.TempDir(), "out")
		if err := os.Mkdir(out+partialSuffix, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range strings.Fields(c.left) {
			path := filepath.Join(out+partialSuffix, name)
			err := os.MkdirAll(filepath.Dir(path), 0o755)
			if err == nil && strings.HasSuffix(name, "/") {
				err = os.MkdirAll(path, 0o755)
			} else if err == nil {
				err = os.WriteFile(path, nil, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		d, err := CreateOutputDir(src, out)
		if (err == nil) != c.ours || err != nil && KindOf(err) != KindExists {
			t.Errorf("%q: %v", c.left, err)
		}
		if err != nil {
			for _, name := range strings.Fields(c.left) {
				if _, err := os.Stat(filepath.Join(out+partialSuffix, name)); err != nil {
					t.Errorf("%q: %v", c.left, err)
				}
			}
			continue
		}
		if list, _ := os.ReadDir(d.Dir()); len(list) != 1 {
			t.Errorf("%q: %v is there", c.left, list)
		}
		if err := d.Discard(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(d.Dir()); !os.IsNotExist(err) {
			t.Errorf("%q: still there: %v", c.left, err)
		}
	}
}
