package gguf

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func openGolden(t *testing.T) (f *File, path string) {
	t.Helper()
	dir := t.TempDir()
	for i := range 3 {
		name := partName("tool", i, 3)
		writeFiles(t, dir, map[string][]byte{name: readFile(t, "testdata/"+name)})
	}
	path = filepath.Join(dir, partName("tool", 0, 3))
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, path
}

func TestLookupAndFind(t *testing.T) {
	f, _ := openGolden(t)
	if v, ok := f.Lookup("many.int16"); !ok || !Equal(v, Int16s([]int16{-32768, 1, 32767})) {
		t.Errorf("%v %v", v, ok)
	}
	if _, ok := f.Lookup(keySplitCount); ok {
		t.Error("a key of splitting is there")
	}
	if x, ok := f.Find("q8_0"); !ok || x.Name != "q8_0" || len(x.Shape) != 2 {
		t.Errorf("%v %v", x, ok)
	}
	if _, ok := f.Find("q8_1"); ok {
		t.Error("a tensor that does not exist")
	}
	f.Prefetch([]string{"q8_0", "none"})
}

func TestReadAtBounds(t *testing.T) {
	f, _ := openGolden(t)
	for _, c := range []struct {
		name string
		n    int
		off  int64
		want string
	}{
		{"q8_0", 136, 0, ""}, {"q8_0", 0, 136, ""}, {"q8_0", 1, 135, ""},
		{"q8_0", 137, 0, "bytes [0, 0+137) of 136"}, {"q8_0", 1, 136, "of 136"}, {"q8_0", 1, -1, "of 136"},
		{"q8_0", 0, 137, "of 136"}, {"q8_0", 1, 1<<63 - 1, "of 136"}, {"none", 1, 0, "no such tensor"},
	} {
		err := f.ReadAt(c.name, make([]byte, c.n), c.off)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %d bytes from %d: %v", c.name, c.n, c.off, err)
		}
	}
}

func TestFileThatBecomesShorter(t *testing.T) {
	f, path := openGolden(t)
	third := filepath.Join(filepath.Dir(path), partName("tool", 2, 3))
	if err := f.CheckUnchanged(); err != nil {
		t.Error(err)
	}
	if err := os.Truncate(third, 300); err != nil {
		t.Fatal(err)
	}
	err := f.ReadAt("q6_k", make([]byte, 420), 0)
	if err == nil || !strings.Contains(err.Error(), `tool-00003-of-00003.gguf (tensor "q6_k"): the file has become shorter`) {
		t.Error(err)
	}
	if err := f.CheckUnchanged(); err == nil || !strings.Contains(err.Error(), "tool-00003-of-00003.gguf: the file was changed") {
		t.Error(err)
	}
}

func TestCheckUnchanged(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"touched":  func(p string) error { return os.Chtimes(p, time.Time{}, time.Unix(1, 0)) },
		"removed":  os.Remove,
		"replaced": func(p string) error { return replace(p) },
	} {
		f, path := openGolden(t)
		if err := change(path); err != nil {
			t.Fatal(err)
		}
		if err := f.CheckUnchanged(); err == nil || !strings.HasPrefix(err.Error(), "tool-00001-of-00003.gguf: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// replace puts another file with the same content and time in the place of one.
func replace(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	p, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", p, 0o600); err != nil {
		return err
	}
	if err := os.Chtimes(path+".new", time.Time{}, info.ModTime()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func TestConcurrentReads(t *testing.T) {
	f, _ := openGolden(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i, x := range f.Tensors() {
				want := goldenData(t, i)
				got := make([]byte, len(want))
				if err := f.ReadAt(x.Name, got, 0); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %v", x.Name, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestOpenWhatIsNoFile(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none.gguf")); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "none.gguf: ") {
		t.Error(err)
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
}

// TestLinksOfParts: the first file may be a link, the others may lead to files of the directory.
func TestLinksOfParts(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege")
	}
	second := partName("m", 1, 3)
	for _, c := range []struct {
		name string
		dir  string // of the links
		blob string // where the files are
		want string
	}{
		{"beside", "model", "model", ""},
		{"outside", "model", "elsewhere", "symbolic link out of the model's directory"},
		{"cache", "models--a--b/snapshots/1f", "models--a--b/blobs", ""},
		{"below cache", "models--a--b/snapshots/1f/Q4/x", "models--a--b/blobs", ""},
		{"outside cache", "models--a--b/snapshots/1f", "elsewhere", "symbolic link out of the model's directory"},
		{"no cache", "models--a--b/snapshots/1f", "models--a--b/other", "symbolic link out of the model's directory"},
	} {
		root := t.TempDir()
		dir, blobs := filepath.Join(root, c.dir), filepath.Join(root, c.blob)
		for _, d := range []string{dir, blobs} {
			if err := os.MkdirAll(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for name, p := range splitModel(t) {
			writeFiles(t, blobs, map[string][]byte{"blob-" + name: p})
			rel, err := filepath.Rel(dir, filepath.Join(blobs, "blob-"+name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(rel, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		f, err := Open(filepath.Join(dir, partName("m", 0, 3)))
		if err == nil {
			if err := f.CheckUnchanged(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			f.Close()
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), second+": "+c.want)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
