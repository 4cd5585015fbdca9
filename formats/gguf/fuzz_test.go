package gguf

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"modelpress/formats"
)

// FuzzOpen: whatever the bytes, there is an error that names the file, or a header that is written again as it was, with all data in the
// file; and little memory is taken.
func FuzzOpen(f *testing.F) {
	for _, c := range hostileFiles() {
		f.Add(c.data)
	}
	paths, err := filepath.Glob("testdata/*.gguf")
	if err != nil || len(paths) == 0 {
		f.Fatal(paths, err)
	}
	for _, path := range paths {
		p, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
		for _, n := range []int{len(p) - 1, len(p) / 2, 64} {
			f.Add(p[:n])
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var h *header
		var err error
		spent := allocated(func() {
			h, err = parseHeader(bytes.NewReader(data), "f", int64(len(data)), MaxHeaderBytes, map[string]int{})
		})
		keys, tensors := len(data)/14, len(data)/25 // as many as there is room for
		if h != nil {
			keys, tensors = len(h.kv), len(h.tensors)
		}
		if limit := 3*len(data) + 200*keys + 300*tensors + 64<<10; spent > uint64(limit) {
			t.Errorf("%d bytes were allocated for %d", spent, len(data))
		}
		if err != nil {
			var e *formats.Error
			if !errors.As(err, &e) || e.File != "f" {
				t.Errorf("%T: %v", err, err)
			}
			return
		}
		checkHeader(t, h, data)
	})
}

// checkHeader checks what was read from a file against its bytes.
func checkHeader(t *testing.T, h *header, data []byte) {
	t.Helper()
	tensors := make([]Tensor, len(h.tensors))
	for i, x := range h.tensors {
		tensors[i] = x.Tensor
		if n, err := x.Bytes(); err != nil || n != x.size || x.offset < 0 || h.start+x.offset+x.size > int64(len(data)) {
			t.Errorf("tensor %q of %d bytes at %d+%d: %d, %v", x.Name, x.size, h.start, x.offset, n, err)
		}
	}
	alignment := uint32(defaultAlignment)
	if v, ok := h.lookup(keyAlignment); ok {
		alignment = v.Data.(uint32)
	}
	if p, err := h.part(); err == nil {
		_, _ = p.first("m-00001-of-00003.gguf")
	}
	if alignment < minAlignment {
		return // is read, and not written
	}
	again, err := Header(h.kv, tensors, alignment)
	if err != nil {
		t.Fatal(err)
	}
	again[4] = data[4] // the version
	if !bytes.Equal(again[:h.read], data[:h.read]) {
		t.Errorf("written again as %q", again[:h.read])
	}
	if padded := int64(len(again)); padded != h.start && h.start != int64(len(data)) {
		t.Errorf("the data start at %d, not %d", h.start, padded)
	}
}
