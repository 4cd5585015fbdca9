package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"modelpress/formats"
)

// sample is a small set of tensors of several types, one of them empty, with data that differs from byte to byte.
var sample = []formats.TensorInfo{
	{Name: "w", DType: formats.BF16, Shape: []int64{3, 4}},
	{Name: "norm", DType: formats.F32, Shape: []int64{4}},
	{Name: "empty", DType: formats.F16, Shape: []int64{0, 7}},
	{Name: "scalar", DType: formats.I64, Shape: []int64{}},
	{Name: "codes", DType: formats.I32, Shape: []int64{2, 2}},
}

func sampleData(name string, n int64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)*7 + name[0]
	}
	return b
}

// writeSample writes sample with a Writer and returns the directory.
func writeSample(t testing.TB, limit int64) (string, Layout) {
	t.Helper()
	dir := t.TempDir()
	l, err := PlanLayout(sample, limit)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Create(dir, l, map[string]string{"made": "here"})
	if err != nil {
		t.Fatal(err)
	}
	for _, ti := range sample {
		n, _ := ti.Bytes()
		if err := w.WriteAt(ti.Name, sampleData(ti.Name, n), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Sync(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return dir, l
}

func TestFileReadsWhatWriterWrote(t *testing.T) {
	dir, l := writeSample(t, 0)
	f, err := Open(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names := []string{}
	for _, ti := range f.Tensors() {
		names = append(names, ti.Name)
	}
	if !slices.Equal(names, []string{"codes", "empty", "norm", "scalar", "w"}) {
		t.Errorf("names %v are not sorted", names)
	}
	for i, ti := range f.DataOrder() {
		if p := l.Shards[0].Tensors[i]; ti.Name != p.Name || ti.DType != p.DType || !slices.Equal(ti.Shape, p.Shape) {
			t.Errorf("tensor %d is %v, planned %v", i, ti, p)
		}
	}
	if m := f.Metadata(); len(m) != 2 || m["format"] != "pt" || m["made"] != "here" {
		t.Errorf("metadata %v", m)
	}
	for _, ti := range sample {
		n, _ := ti.Bytes()
		want := sampleData(ti.Name, n)
		for _, r := range [][2]int64{{0, n}, {n, 0}, {n / 2, n - n/2}, {n / 3, n / 3}} {
			p := make([]byte, r[1])
			if err := f.ReadAt(ti.Name, p, r[0]); err != nil || !bytes.Equal(p, want[r[0]:r[0]+r[1]]) {
				t.Errorf("%s %v: %v, %v", ti.Name, r, p, err)
			}
		}
		for _, r := range [][2]int64{{0, n + 1}, {n, 1}, {-1, 1}, {n + 1, 0}, {1 << 62, 0}} {
			if err := f.ReadAt(ti.Name, make([]byte, r[1]), r[0]); err == nil {
				t.Errorf("%s: read of %v accepted", ti.Name, r)
			}
		}
	}
	if err := f.ReadAt("none", nil, 0); err == nil {
		t.Error("missing tensor read")
	}
	if _, ok := f.Lookup("none"); ok {
		t.Error("missing tensor found")
	}
}

func TestFileConcurrentReads(t *testing.T) {
	dir, _ := writeSample(t, 0)
	f, err := Open(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				p := make([]byte, 24)
				if err := f.ReadAt("w", p, 0); err != nil || !bytes.Equal(p, sampleData("w", 24)) {
					t.Error(p, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestFileChangedInUse(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"shorter": func(path string) error { return os.Truncate(path, 100) },
		"longer": func(path string) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.Write([]byte("x"))
			return errors.Join(err, f.Close())
		},
		"touched": func(path string) error { return os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)) },
	} {
		dir, _ := writeSample(t, 0)
		path := filepath.Join(dir, "model.safetensors")
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.CheckUnchanged(); err != nil {
			t.Errorf("%s: changed before it was: %v", name, err)
		}
		if err := change(path); err != nil {
			t.Fatal(err)
		}
		if err := f.CheckUnchanged(); err == nil {
			t.Errorf("%s: not noticed", name)
		}
		if name == "shorter" {
			if err := f.ReadAt("w", make([]byte, 24), 0); err == nil || !strings.Contains(err.Error(), "shorter") {
				t.Errorf("read past the new end: %v", err)
			}
		}
		f.Close()
		if err := f.ReadAt("w", make([]byte, 1), 0); err == nil {
			t.Error("read after Close")
		}
	}
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("directory: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "none.safetensors")); !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), dir) {
		t.Errorf("missing file: %v", err)
	}
}

func TestHeaderDigestIsOfTheHeader(t *testing.T) {
	digest := func(data []byte) string {
		f, err := Open(writeTemp(t, data))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return f.HeaderDigest()
	}
	a := build("{"+tensorA+"}", 8)
	b := bytes.Clone(a)
	b[len(b)-1] = 1
	if digest(a) != digest(b) {
		t.Error("data changes the digest")
	}
	if digest(a) == digest(build("{"+tensorA+"} ", 8)) {
		t.Error("padding does not change the digest")
	}
	if n := binary.LittleEndian.Uint64(a); n != uint64(len(a)-16) {
		t.Errorf("test file has length %d", n)
	}
}
