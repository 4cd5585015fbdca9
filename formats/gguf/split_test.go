package gguf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/ggml"
)

// partFile returns a file with one tensor and the given keys.
func partFile(t *testing.T, tensor string, kv ...KV) []byte {
	t.Helper()
	h, err := Header(kv, []Tensor{{tensor, ggml.F32, []int64{8}}}, 32)
	if err != nil {
		t.Fatal(err)
	}
	return append(h, make([]byte, 32)...)
}

func splitKeys(no, count uint16, tensors int32) []KV {
	return []KV{{keySplitNo, Uint16(no)}, {keySplitTensors, Int32(tensors)}, {keySplitCount, Uint16(count)}}
}

// splitModel returns the files of a model m of three parts.
func splitModel(t *testing.T) map[string][]byte {
	files := map[string][]byte{}
	for i := range 3 {
		files[partName("m", i, 3)] = partFile(t, fmt.Sprintf("t%d", i), splitKeys(uint16(i), 3, 3)...)
	}
	return files
}

func writeFiles(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, p := range files {
		if err := os.WriteFile(filepath.Join(dir, name), p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenHostileParts(t *testing.T) {
	first, second, third := partName("m", 0, 3), partName("m", 1, 3), partName("m", 2, 3)
	without := func(key string, kv []KV) []KV {
		return slices.DeleteFunc(kv, func(e KV) bool { return e.Key == key })
	}
	with := func(e KV, kv []KV) []KV { return append(without(e.Key, kv), e) }
	for _, c := range []struct {
		name string
		open string
		edit func(map[string][]byte)
		file string // that the error names
		want string
	}{
		{"good", first, func(m map[string][]byte) {}, "", ""},
		{"second", second, func(m map[string][]byte) {}, second, "this is part 2 of 3 of a model that was split: open the first, m-00001-of-00003.gguf"},
		{"second, renamed", "x.gguf", func(m map[string][]byte) { m["x.gguf"] = m[second] }, "x.gguf", "this is part 2 of 3 of a model that was split: open the first"},
		{"first, renamed", "x.gguf", func(m map[string][]byte) { m["x.gguf"] = m[first] }, "x.gguf", "must be called x-00001-of-00003.gguf"},
		{"first, called second", second, func(m map[string][]byte) { m[second] = m[first] }, second, "must be called m-00001-of-00003.gguf"},
		{"first of another count", partName("m", 0, 4), func(m map[string][]byte) { m[partName("m", 0, 4)] = m[first] }, partName("m", 0, 4), "must be called m-00001-of-00003.gguf"},
		{"missing", first, func(m map[string][]byte) { delete(m, third) }, third, "a part of the model is missing"},
		{"garbage", first, func(m map[string][]byte) { m[second] = []byte("GGUFGGUF") }, second, "version"},
		{"truncated", first, func(m map[string][]byte) { m[third] = m[third][:len(m[third])-1] }, third, "truncated"},
		{"exchanged", first, func(m map[string][]byte) { m[second], m[third] = m[third], m[second] }, second,
			"it says to be part 3 of 3 with 3 tensors in all, where part 2 of 3 with 3 is needed"},
		{"first again", first, func(m map[string][]byte) { m[second] = partFile(t, "x", splitKeys(0, 3, 3)...) }, second, "part 1 of 3"},
		{"another count", first, func(m map[string][]byte) { m[second] = partFile(t, "x", splitKeys(1, 4, 3)...) }, second, "part 2 of 4"},
		{"another total", first, func(m map[string][]byte) { m[second] = partFile(t, "x", splitKeys(1, 3, 4)...) }, second, "with 4 tensors in all"},
		{"no keys", first, func(m map[string][]byte) { m[second] = partFile(t, "x") }, second, "part 1 of 0"},
		{"wrong total", first, func(m map[string][]byte) {
			for i := range 3 {
				m[partName("m", i, 3)] = partFile(t, fmt.Sprintf("t%d", i), splitKeys(uint16(i), 3, 4)...)
			}
		}, first, `key "split.tensors.count": 4 tensors, and there are 3`},
		{"tensor twice", first, func(m map[string][]byte) { m[third] = partFile(t, "t0", splitKeys(2, 3, 3)...) }, third, "was there before"},
		{"number missing", first, func(m map[string][]byte) { m[first] = partFile(t, "t0", without(keySplitNo, splitKeys(0, 3, 3))...) }, first, `key "split.no" is missing`},
		{"total missing", first, func(m map[string][]byte) {
			m[first] = partFile(t, "t0", without(keySplitTensors, splitKeys(0, 3, 3))...)
		}, first, `key "split.tensors.count" is missing`},
		{"count missing", first, func(m map[string][]byte) {
			m[first] = partFile(t, "t0", without(keySplitCount, splitKeys(0, 3, 3))...)
		}, first, "the name says that this is part 1 of 3, and the metadata does not"},
		{"count a string", first, func(m map[string][]byte) {
			m[first] = partFile(t, "t0", with(KV{keySplitCount, String("3")}, splitKeys(0, 3, 3))...)
		}, first, `key "split.count": a whole number`},
		{"count negative", first, func(m map[string][]byte) {
			m[first] = partFile(t, "t0", with(KV{keySplitCount, Int32(-1)}, splitKeys(0, 3, 3))...)
		}, first, `key "split.count": a whole number`},
		{"count huge", first, func(m map[string][]byte) {
			m[first] = partFile(t, "t0", with(KV{keySplitCount, Uint64(1 << 63)}, splitKeys(0, 3, 3))...)
		}, first, "files are over the limit of 1000"},
		{"number past the count", first, func(m map[string][]byte) { m[first] = partFile(t, "t0", splitKeys(3, 3, 3)...) }, first, `key "split.no": 3, in a model of 3 files`},
		{"total negative", first, func(m map[string][]byte) { m[first] = partFile(t, "t0", splitKeys(0, 3, -1)...) }, first, `key "split.tensors.count": a whole number`},
		{"only part, of whatever name", "x.gguf", func(m map[string][]byte) { m["x.gguf"] = partFile(t, "t0", splitKeys(0, 1, 1)...) }, "", ""},
		{"only part with another total", "x.gguf", func(m map[string][]byte) { m["x.gguf"] = partFile(t, "t0", splitKeys(0, 1, 2)...) }, "x.gguf", "2 tensors, and there are 1"},
		{"merged", "x.gguf", func(m map[string][]byte) { m["x.gguf"] = partFile(t, "t0", splitKeys(0, 0, 1)...) }, "", ""},
	} {
		dir := t.TempDir()
		files := splitModel(t)
		c.edit(files)
		writeFiles(t, dir, files)
		f, err := Open(filepath.Join(dir, c.open))
		if err == nil {
			for _, e := range f.Metadata() {
				if strings.HasPrefix(e.Key, "split.") {
					t.Errorf("%s: key %s", c.name, e.Key)
				}
			}
			f.Close()
		}
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var e *formats.Error
		if !errors.As(err, &e) || e.File != c.file || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestPartNames(t *testing.T) {
	for _, c := range []struct {
		name   string
		prefix string
		i, n   int
		ok     bool
	}{
		{"m-00001-of-00003.gguf", "m", 0, 3, true},
		{"a-00001-of-00002-00003-of-00010.gguf", "a-00001-of-00002", 2, 10, true},
		{"m-1-of-3.gguf", "", 0, 0, false},
		{"m-00001-of-00003.gguf.partial", "", 0, 0, false},
		{"-00001-of-00003.gguf", "", 0, 0, false},
		{"m.gguf", "", 0, 0, false},
	} {
		prefix, i, n, ok := parsePart(c.name)
		if prefix != c.prefix || i != c.i || n != c.n || ok != c.ok {
			t.Errorf("%s: %q %d %d %v", c.name, prefix, i, n, ok)
		}
		if ok && partName(prefix, i, n) != c.name {
			t.Errorf("%s became %s", c.name, partName(prefix, i, n))
		}
	}
}
