package safetensors

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// contents returns every file of a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

// TestWriterResumes writes the sample in pieces, backwards, over several openings, and compares with one straight run.
func TestWriterResumes(t *testing.T) {
	for _, limit := range []int64{0, 40, 1} {
		straight, l := writeSample(t, limit)
		dir := t.TempDir()
		for round := 0; ; round++ {
			w, err := Create(dir, l, map[string]string{"made": "here"})
			if err != nil {
				t.Fatal(err)
			}
			if w.Fresh() != (round == 0) {
				t.Errorf("round %d: fresh is %v", round, w.Fresh())
			}
			if round == len(sample) {
				w.Close()
				break
			}
			ti := sample[len(sample)-1-round]
			n, _ := ti.Bytes()
			data := sampleData(ti.Name, n)
			for off := n - 1; off >= 0; off-- {
				if err := w.WriteAt(ti.Name, data[off:off+1], off); err != nil {
					t.Fatal(err)
				}
			}
			back := make([]byte, n)
			if err := w.ReadAt(ti.Name, back, 0); err != nil || !bytes.Equal(back, data) {
				t.Errorf("read back %v, %v", back, err)
			}
			if err := errors.Join(w.Sync(), w.Close()); err != nil {
				t.Fatal(err)
			}
		}
		got, want := contents(t, dir), contents(t, straight)
		if fmt.Sprint(got) != fmt.Sprint(want) || len(got) != len(l.Shards) {
			t.Errorf("limit %d: files differ", limit)
		}
	}
}

func TestWriterAfterBrokenCreate(t *testing.T) {
	dir, l := writeSample(t, 40)
	want := contents(t, dir)
	again := t.TempDir()
	// What a crash while a shard is made leaves behind: a temporary file, and shards that are not there.
	if err := os.WriteFile(filepath.Join(again, l.Shards[0].Name+".partial"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := Create(again, l, map[string]string{"made": "here"})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	got := contents(t, again)
	if len(got) != len(want) {
		t.Errorf("files left: %d, want %d", len(got), len(want))
	}
}

func TestWriterRefusesForeignFiles(t *testing.T) {
	dir, l := writeSample(t, 40)
	meta := map[string]string{"made": "here"}
	last := filepath.Join(dir, l.Shards[len(l.Shards)-1].Name)
	whole, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(whole)
	other[10] ^= 1
	for name, data := range map[string][]byte{"empty": {}, "short": whole[:len(whole)-1], "long": append(bytes.Clone(whole), 0), "header": other} {
		if err := os.WriteFile(last, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(dir, l, meta); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(last); !bytes.Equal(got, data) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	os.Remove(last)
	if err := os.Symlink(l.Shards[0].Name, last); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir, l, meta); !errors.Is(err, ErrForeign) {
		t.Errorf("link: %v", err)
	}
	os.Remove(last)
	// A failed Create leaves nothing of its own.
	first := filepath.Join(dir, l.Shards[0].Name)
	os.Remove(first)
	if err := os.WriteFile(last, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir, l, meta); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
	if _, err := os.Stat(first); !errors.Is(err, os.ErrNotExist) {
		t.Error("the first shard stayed")
	}
}

func TestWriterBounds(t *testing.T) {
	dir := t.TempDir()
	l, err := PlanLayout(sample, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Create(dir, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	before := contents(t, dir)["model.safetensors"]
	for _, c := range []struct {
		tensor string
		n      int
		off    int64
	}{{"none", 1, 0}, {"w", 25, 0}, {"w", 1, 24}, {"w", 1, -1}, {"w", 0, 25}, {"empty", 1, 0}, {"scalar", 9, 0}, {"w", 1, 1 << 62}} {
		if err := w.WriteAt(c.tensor, bytes.Repeat([]byte{0xff}, c.n), c.off); err == nil {
			t.Errorf("write of %v accepted", c)
		}
		if err := w.ReadAt(c.tensor, make([]byte, c.n), c.off); err == nil {
			t.Errorf("read of %v accepted", c)
		}
	}
	if contents(t, dir)["model.safetensors"] != before {
		t.Error("a refused write changed the file")
	}
	if w.Shard("w") != "model.safetensors" || w.Shard("none") != "" {
		t.Error("shard names")
	}
	if _, err := Create(dir, l, map[string]string{"x": "\xff"}); err == nil {
		t.Error("metadata of invalid UTF-8 accepted")
	}
}

func TestCreateInMissingDirectory(t *testing.T) {
	l, _ := PlanLayout(nil, 0)
	if _, err := Create(filepath.Join(t.TempDir(), "none"), l, nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
