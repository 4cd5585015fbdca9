package gguf

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"modelpress/formats"
)

// createGolden starts to write the golden tensors into three files.
func createGolden(t *testing.T, dir string) *Writer {
	t.Helper()
	w, err := Create(filepath.Join(dir, "m.gguf"), goldenKV(), goldenTensors(), Options{SplitTensors: 4})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func fill(t *testing.T, w *Writer) {
	t.Helper()
	for i, x := range goldenTensors() {
		if err := w.WriteAt(x.Name, goldenData(t, i), 0); err != nil {
			t.Fatal(err)
		}
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, e := range list {
		s = append(s, e.Name())
	}
	return strings.Join(s, " ")
}

func TestWriterNames(t *testing.T) {
	dir := t.TempDir()
	w := createGolden(t, dir)
	if got := names(t, dir); got != "m-00001-of-00003.gguf.partial m-00002-of-00003.gguf.partial m-00003-of-00003.gguf.partial" {
		t.Errorf("before: %s", got)
	}
	l, err := Plan(goldenKV(), goldenTensors(), Options{SplitTensors: 4})
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range l.Names(filepath.Join(dir, "m.gguf")) {
		info, err := os.Stat(formats.TempName(name))
		if err != nil || info.Size() != l.Files[i].Bytes {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	fill(t, w)
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if got := names(t, dir); got != "m-00001-of-00003.gguf m-00002-of-00003.gguf m-00003-of-00003.gguf" {
		t.Errorf("after: %s", got)
	}
	if err := w.Commit(); !errors.Is(err, errDone) {
		t.Error(err)
	}
	if err := w.WriteAt("q8_0", []byte{1}, 0); err == nil {
		t.Error("written after Commit")
	}
}

func TestAbortLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	w := createGolden(t, dir)
	fill(t, w)
	w.Abort()
	w.Abort()
	if got := names(t, dir); got != "" {
		t.Error(got)
	}
	if err := w.Commit(); !errors.Is(err, errDone) {
		t.Error(err)
	}
}

// TestPartialOfAnEarlierRun: a process that died left a file, a link and data; they are replaced, and what the link leads to is not.
func TestPartialOfAnEarlierRun(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "other")
	writeFiles(t, dir, map[string][]byte{"m-00001-of-00003.gguf.partial": bytes.Repeat([]byte{7}, 100_000)})
	writeFiles(t, filepath.Dir(other), map[string][]byte{"other": []byte("untouched")})
	if err := os.Symlink(other, filepath.Join(dir, "m-00002-of-00003.gguf.partial")); err != nil {
		t.Skip(err)
	}
	left := createGolden(t, dir) // not ended: its process died
	if err := left.WriteAt("q8_0", bytes.Repeat([]byte{9}, 136), 0); err != nil {
		t.Fatal(err)
	}
	left.unlock()
	w := createGolden(t, dir)
	fill(t, w)
	left.Abort() // must not take what is not its own any more
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	checkTool(t, dir)
	if got := readFile(t, other); string(got) != "untouched" {
		t.Errorf("the file behind a link became %q", got)
	}
}

// checkTool compares the files with those of llama-gguf-split, but for the shape of the scalar and what that moves.
func checkTool(t *testing.T, dir string) {
	t.Helper()
	f, err := Open(filepath.Join(dir, "m-00001-of-00003.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	checkGoldenData(t, f)
	if got := len(f.Tensors()); got != len(goldenTensors()) {
		t.Errorf("%d tensors", got)
	}
}

func TestCommitOfAReplacedFile(t *testing.T) {
	dir := t.TempDir()
	left := createGolden(t, dir)
	fill(t, left)
	left.unlock() // as where a file system has no locks
	w := createGolden(t, dir)
	if err := left.Commit(); err == nil || !strings.Contains(err.Error(), "m-00001-of-00003.gguf.partial: another process has replaced the file") {
		t.Error(err)
	}
	fill(t, w)
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	checkTool(t, dir)
}

func TestExistingFiles(t *testing.T) {
	for _, name := range []string{"m-00001-of-00003.gguf", "m-00003-of-00003.gguf"} {
		dir := t.TempDir()
		writeFiles(t, dir, map[string][]byte{name: []byte("mine")})
		_, err := Create(filepath.Join(dir, "m.gguf"), goldenKV(), goldenTensors(), Options{SplitTensors: 4})
		if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if got := names(t, dir); got != name {
			t.Errorf("%s: %s", name, got)
		}
		os.Remove(filepath.Join(dir, name))
		w := createGolden(t, dir)
		fill(t, w)
		writeFiles(t, dir, map[string][]byte{name: []byte("mine")})
		if err := w.Commit(); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s, commit: %v", name, err)
		}
		if got := names(t, dir); got != name {
			t.Errorf("%s, commit: %s", name, got)
		}
		if got := readFile(t, filepath.Join(dir, name)); string(got) != "mine" {
			t.Errorf("%s became %q", name, got)
		}
	}
}

// TestRenameFails has a directory in the place of the first file after that was checked.
func TestRenameFails(t *testing.T) {
	dir := t.TempDir()
	w := createGolden(t, dir)
	fill(t, w)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "m-00001-of-00003.gguf"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := w.rename(); err == nil {
		t.Error("no error")
	}
	if got := names(t, dir); got != "m-00001-of-00003.gguf m-00001-of-00003.gguf.partial" {
		t.Error(got)
	}
	w.Abort()
	if got := names(t, dir); got != "m-00001-of-00003.gguf" {
		t.Error(got)
	}
}

func TestCommitOfAnIncompleteModel(t *testing.T) {
	dir := t.TempDir()
	w := createGolden(t, dir)
	for i, x := range goldenTensors() {
		p := goldenData(t, i)
		if x.Name == "q8_0" || x.Name == "q6_k" {
			p = p[:len(p)-1]
		}
		if err := w.WriteAt(x.Name, p, 0); err != nil {
			t.Fatal(err)
		}
	}
	err := w.Commit()
	if err == nil || !strings.Contains(err.Error(), `m-00003-of-00003.gguf (tensor "q6_k"): 419 of 420 bytes were written (2 tensors lack some)`) {
		t.Error(err)
	}
	if got := names(t, dir); got != "" {
		t.Error(got)
	}
}

func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		"m-00001-of-00002.gguf": "the name is that of a part",
		"no/m.gguf":             "no such file",
		"d/m.gguf":              "m.gguf.partial is a directory",
	} {
		if err := os.MkdirAll(filepath.Join(dir, "d", "m.gguf.partial"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(filepath.Join(dir, name), nil, nil, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Create(filepath.Join(dir, "m.gguf"), splitKeys(0, 1, 1), nil, Options{}); err == nil {
		t.Error("keys of splitting")
	}
	if got := names(t, dir); got != "d" {
		t.Error(got)
	}
}

func TestWriterBounds(t *testing.T) {
	w := createGolden(t, t.TempDir())
	defer w.Abort()
	for _, c := range []struct {
		name string
		n    int
		off  int64
		want string
	}{
		{"q8_0", 137, 0, "of 136"}, {"q8_0", 1, 136, "of 136"}, {"q8_0", 1, -1, "of 136"}, {"q8_0", 1, 1<<63 - 1, "of 136"}, {"none", 1, 0, "no such tensor"},
		{"q8_0", 136, 0, ""}, {"q8_0", 0, 136, ""},
	} {
		for what, call := range map[string]func(string, []byte, int64) error{"write": w.WriteAt, "read": w.ReadAt} {
			err := call(c.name, make([]byte, c.n), c.off)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s, %s of %d bytes from %d: %v", what, c.name, c.n, c.off, err)
			}
		}
	}
}

// TestConcurrentWrites writes every tensor in pieces from several goroutines, in an order of their own, and reads the pieces back.
func TestConcurrentWrites(t *testing.T) {
	dir := t.TempDir()
	w := createGolden(t, dir)
	const workers, piece = 4, 13
	var wg sync.WaitGroup
	for k := range workers {
		wg.Go(func() {
			for i, x := range goldenTensors() {
				p := goldenData(t, i)
				for at := len(p) - 1 - (len(p)-1)%piece; at >= 0; at -= piece {
					part := p[at:min(at+piece, len(p))]
					back := make([]byte, len(part))
					if at/piece%workers != k {
						continue
					}
					if err := w.WriteAt(x.Name, part, int64(at)); err != nil {
						t.Error(err)
					}
					if err := w.ReadAt(x.Name, back, int64(at)); err != nil || !bytes.Equal(back, part) {
						t.Errorf("%s at %d: %v", x.Name, at, err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	for name, p := range writeGolden(t, goldenKV(), goldenTensors(), Options{SplitTensors: 4}) {
		if !bytes.Equal(readFile(t, filepath.Join(dir, name)), p) {
			t.Errorf("%s: other bytes", name)
		}
	}
}
