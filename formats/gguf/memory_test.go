package gguf

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestOpenMemory opens files that take the most memory for their size and compares with what the comment of Open says.
func TestOpenMemory(t *testing.T) {
	const n = 20_000
	head := func(elem Kind) raw { return rawFile(0, 1).str("k").u32(uint32(KindArray)).u32(uint32(elem)).u64(n) }
	strings0, strings1, strings9 := head(KindString), head(KindString), head(KindString)
	keys, tensors := rawFile(0, n), rawFile(n, 0)
	for i := range n {
		strings0, strings1, strings9 = strings0.str(""), strings1.str("x"), strings9.str("123456789")
		keys = keys.str(fmt.Sprintf("%04x", i)).u32(uint32(KindUint64)).u64(1 << 40)
		tensors = tensors.tensor(fmt.Sprintf("%04x", i), f32, uint64(i*32), 1, 1, 1, 1)
	}
	for _, c := range []struct {
		name          string
		data          raw
		keys, tensors int
	}{
		{"empty strings", strings0, 1, 0}, {"strings of 1", strings1, 1, 0}, {"strings of 9", strings9, 1, 0},
		{"bytes", head(KindUint8).bytes(n), 1, 0}, {"floats", head(KindFloat64).bytes(8 * n), 1, 0},
		{"a string", rawFile(0, 1).str("k").u32(uint32(KindString)).u64(n).bytes(n), 1, 0},
		{"keys", keys, n, 0},
		{"tensors", tensors.pad(32).bytes(32 * n), 0, n},
	} {
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		var f *File
		var err error
		spent := allocated(func() { f, err = Open(path) })
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		f.Close()
		header := len(c.data) - 32*c.tensors
		if limit := 3*header + 200*c.keys + 300*c.tensors + 64<<10; spent > uint64(limit) {
			t.Errorf("%s: %d bytes were allocated, at most %d may", c.name, spent, limit)
		}
	}
}
