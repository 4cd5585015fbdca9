package imatrix

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"modelpress/formats"
)

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzLegacy: whatever the bytes, there is an error that names the file, or a matrix that is written again as it was; and little memory is taken.
func FuzzLegacy(f *testing.F) {
	for _, c := range hostileLegacy() {
		f.Add(c.data)
	}
	for _, path := range goldens(f, "*.dat") {
		p, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, n := range []int{len(p), len(p) - 1, len(p) / 2, 100} {
			f.Add(p[:n])
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var m *Matrix
		var err error
		spent := allocated(func() {
			if m, err = parseLegacy(bytes.NewReader(data), "f", int64(len(data))); err == nil {
				err = m.Check()
			}
		})
		if limit := len(data) + 500*(len(data)/leastEntry) + 160<<10; spent > uint64(limit) {
			t.Errorf("%d bytes were allocated for %d", spent, len(data))
		}
		if err != nil {
			var e *formats.Error
			if !errors.As(err, &e) || e.File != "f" {
				t.Errorf("%T: %v", err, err)
			}
			return
		}
		size := 0
		for i := range m.Entries {
			e := &m.Entries[i]
			size += 4 + len(e.Tensor) + 8 + 4*len(e.Sums)
			for _, v := range e.Mean() {
				if !valid(v) {
					t.Errorf("%s has the mean %v", e.Tensor, v)
				}
			}
		}
		if end := len(data) - 4 - size; end != 0 && end < 8 {
			t.Errorf("%d bytes behind the entries were passed over", end)
		}
	})
}

// FuzzRead: whatever the bytes of a file of either form, there is an error that names it, or a matrix that is the same when it was written and
// read again.
func FuzzRead(f *testing.F) {
	for _, path := range append(goldens(f, "*.gguf"), goldens(f, "*.dat")...) {
		p, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
		f.Add(p[:len(p)-4])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := Read(path)
		if err != nil {
			var e *formats.Error
			if !errors.As(err, &e) || e.File != "f" {
				t.Errorf("%T: %v", err, err)
			}
			return
		}
		again := filepath.Join(t.TempDir(), "again")
		if Write(again, m) != nil { // a name that ggml does not take with an ending
			return
		}
		b, err := Read(again)
		if err != nil {
			t.Fatal(err)
		}
		same := func(a, b Entry) bool {
			return a.Tensor == b.Tensor && slices.Equal(a.Sums, b.Sums) && slices.Equal(a.Counts, b.Counts)
		}
		if m.Chunks != b.Chunks || m.ChunkSize != b.ChunkSize || !slices.EqualFunc(m.Entries, b.Entries, same) {
			t.Errorf("%+v was read again as %+v", m, b)
		}
	})
}

func goldens(f *testing.F, pattern string) []string {
	paths, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(paths) == 0 {
		f.Fatal(paths, err)
	}
	return paths
}
