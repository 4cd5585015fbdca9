package gguf

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/ggml"
)

// raw builds files that no writer would.
type raw []byte

func rawFile(tensors, keys uint64) raw {
	return raw(magic).u32(3).u64(tensors).u64(keys)
}

func (r raw) u32(v uint32) raw   { return little.AppendUint32(r, v) }
func (r raw) u64(v uint64) raw   { return little.AppendUint64(r, v) }
func (r raw) str(s string) raw   { return appendString(r, s) }
func (r raw) bytes(n int) raw    { return append(r, make([]byte, n)...) }
func (r raw) pad(n int) raw      { return r.bytes((n - len(r)%n) % n) }
func (r raw) key(k string) raw   { return r.str(k).u32(uint32(KindUint8)).bytes(1) }
func (r raw) align(a uint32) raw { return r.str(keyAlignment).u32(uint32(KindUint32)).u32(a) }

// tensor appends the entry of a tensor, with its dimensions in the order of the file.
func (r raw) tensor(name string, kind uint32, off uint64, ne ...uint64) raw {
	r = r.str(name).u32(uint32(len(ne)))
	for _, d := range ne {
		r = r.u64(d)
	}
	return r.u32(kind).u64(off)
}

// whole is a good file of two tensors to take parts of.
func whole() raw {
	return rawFile(2, 1).key("k").tensor("a", 0, 0, 3).tensor("b", 0, 32, 8).pad(32).bytes(32).bytes(32)
}

type hostile struct {
	name   string
	data   []byte
	tensor string // that the error names
	want   string // in the text of the error; "" where the file is good
}

const f32, q8 = uint32(ggml.F32), uint32(ggml.Q8_0)

func hostileFiles() []hostile {
	return slices.Concat(hostileStart(), hostileKeys(), hostileInfos(), hostileLayouts())
}

func hostileStart() []hostile {
	return []hostile{
		{"empty", nil, "", "past the end of the file (0 bytes)"},
		{"short magic", []byte("GGU"), "", "past the end"},
		{"magic", raw("GGJT").u32(3).bytes(100), "", `not a GGUF file: it starts with "GGJT"`},
		{"no version", raw("GGUF"), "", "past the end"},
		{"version 0", raw("GGUF").u32(0).bytes(100), "", "big-endian"},
		{"version 1", raw("GGUF").u32(1).bytes(100), "", "version 1"},
		{"version 4", raw("GGUF").u32(4).bytes(100), "", "version 4 of the format is not supported"},
		{"big-endian", raw("GGUF\x00\x00\x00\x03").bytes(100), "", "big-endian"},
		{"no counts", raw("GGUF").u32(3), "", "past the end"},
		{"tensors past any", rawFile(math.MaxUint64, 0).bytes(100), "", "18446744073709551615 tensors are over the limit"},
		{"tensors negative", rawFile(1<<63, 0).bytes(100), "", "tensors are over the limit"},
		{"tensors past the file", rawFile(1000, 0).bytes(100), "", "tensors: 1000 of at least 25 bytes each"},
		{"keys past any", rawFile(0, math.MaxUint64).bytes(100), "", "keys are over the limit"},
		{"keys past the file", rawFile(0, 1000).bytes(100), "", "keys: 1000 of at least 14 bytes each"},
		{"fewer keys than said", rawFile(0, 2).key("k").bytes(6), "", "past the end"},
		{"nothing", rawFile(0, 0), "", ""},
		{"nothing, padded", rawFile(0, 0).pad(32), "", ""},
		{"nothing, padded too much", rawFile(0, 0).pad(32).bytes(1), "", "1 bytes after the last tensor"},
	}
}

func hostileKeys() []hostile {
	at := func(k Kind) raw { return rawFile(0, 1).str("k").u32(uint32(k)) }
	list := func(elem Kind, n uint64) raw { return at(KindArray).u32(uint32(elem)).u64(n) }
	return []hostile{
		{"key past any", rawFile(0, 1).u64(math.MaxUint64).bytes(100), "", "over the limit of 65535"},
		{"key too long", rawFile(0, 1).str(strings.Repeat("k", 1<<16)).bytes(100), "", "over the limit of 65535"},
		{"key past the file", rawFile(0, 1).u64(1000).bytes(100), "", "past the end"},
		{"key empty", rawFile(0, 1).key("").bytes(1), "", "name is empty"},
		{"key no UTF-8", rawFile(0, 1).key("\xff"), "", "not valid UTF-8"},
		{"key with a zero", rawFile(0, 1).key("a\x00b"), "", "control character"},
		{"key twice", rawFile(0, 2).key("a.b").key("a.b"), "", `key "a.b" is there twice`},
		{"kind unknown", at(13).bytes(8), "", `key "k": values of kind 13 do not exist`},
		{"kind negative", at(math.MaxUint32).bytes(8), "", "kind 4294967295"},
		{"no value", rawFile(0, 1).str("k").u32(uint32(KindUint64)).bytes(7), "", `key "k"`},
		{"bool of 2", append(at(KindBool), 2), "", "byte 0x02 is no bool"},
		{"bools with 255", append(list(KindBool, 2), 1, 255), "", "byte 0xff is no bool"},
		{"string past any", at(KindString).u64(math.MaxUint64).bytes(100), "", "over the limit of 134217728"},
		{"string past the file", at(KindString).u64(101).bytes(100), "", `key "k": 101 of at least 1 bytes each`},
		{"array of arrays", list(KindArray, 1).u32(4).u64(1).bytes(4), "", `key "k": arrays of array are not supported`},
		{"array of nothing known", list(99, 1).bytes(8), "", "arrays of kind 99"},
		{"array past any", list(KindUint8, math.MaxUint64).bytes(8), "", "elements of an array: 18446744073709551615"},
		{"array that overflows", list(KindFloat64, 1<<61).bytes(8), "", "elements of an array"},
		{"array past the file", list(KindUint32, 3).bytes(11), "", "elements of an array: 3 of at least 4 bytes each"},
		{"strings past the file", list(KindString, 3).bytes(23), "", "elements of an array: 3 of at least 8 bytes each"},
		{"a string past the file", list(KindString, 2).u64(0).u64(1).bytes(0), "", "element 1"},
		{"array of none", list(KindString, 0), "", ""},
		{"alignment 0", rawFile(0, 1).align(0), "", `key "general.alignment": 0 is no power of two`},
		{"alignment 3", rawFile(0, 1).align(3), "", "3 is no power of two"},
		{"alignment 48", rawFile(0, 1).align(48), "", "48 is no power of two"},
		{"alignment 2^17", rawFile(0, 1).align(1 << 17), "", "131072 is over the limit of 65536"},
		{"alignment 2^31", rawFile(0, 1).align(1 << 31), "", "over the limit"},
		{"alignment uint64", rawFile(0, 1).str(keyAlignment).u32(uint32(KindUint64)).u64(32), "", "a uint32 is needed"},
		{"alignment in a list", rawFile(0, 1).str(keyAlignment).u32(uint32(KindArray)).u32(uint32(KindUint32)).u64(1).u32(32), "", "a uint32 is needed"},
		{"alignment 1", rawFile(0, 1).align(1), "", ""},
	}
}

func hostileInfos() []hostile {
	one := func(name string, kind uint32, ne ...uint64) raw {
		return rawFile(1, 0).tensor(name, kind, 0, ne...).pad(32).bytes(4096)
	}
	long := strings.Repeat("n", 64)
	return []hostile{
		{"name past any", rawFile(1, 0).u64(math.MaxUint64).bytes(100), "", "name of tensor 0: a string of 18446744073709551615 bytes"},
		{"name of 64 bytes", one(long, f32, 1), "", "over the limit of 63"},
		{"name of 63 bytes", rawFile(1, 0).tensor(long[1:], f32, 0, 1).pad(32).bytes(32), "", ""},
		{"name empty", one("", f32, 1), "", "name is empty"},
		{"name no UTF-8", one("\xc3", f32, 1), "", "not valid UTF-8"},
		{"name with a zero", one("a\x00", f32, 1), "", "control character"},
		{"name twice", rawFile(2, 0).tensor("a", f32, 0, 1).tensor("a", f32, 32, 1).pad(32).bytes(64), "a", "was there before"},
		{"5 dimensions", one("a", f32, 1, 1, 1, 1, 1), "a", "5 dimensions are over the limit of 4"},
		{"dimensions past any", rawFile(1, 0).str("a").u32(math.MaxUint32).bytes(100), "a", "4294967295 dimensions"},
		{"dimension 0", one("a", f32, 4, 0), "a", "shape [0 4] is not positive"},
		{"dimension negative", one("a", f32, 1<<63), "a", "is not positive"},
		{"dimension -1", one("a", f32, math.MaxUint64, math.MaxUint64), "a", "is not positive"},
		{"values overflow", one("a", f32, 1<<32, 1<<32), "a", "not representable"},
		{"values overflow to 1", one("a", f32, 1<<62, 4, 1<<62, 1), "a", "not representable"},
		{"bytes overflow", one("a", f32, 1<<62), "a", "not representable"},
		{"type unknown", one("a", 1000, 32), "a", "tensors of type 1000 are not supported"},
		{"type removed", one("a", 4, 32), "a", "tensors of type 4 are not supported"},
		{"type negative", one("a", math.MaxUint32, 32), "a", "type 4294967295"},
		{"row of half a block", one("a", q8, 16, 2), "a", "rows of 16 values are no whole number of blocks of Q8_0"},
		{"scalar of a block type", one("a", q8), "a", "rows of 1 values"},
		{"cut in the name", rawFile(1, 0).u64(30).bytes(20), "", "past the end"},
		{"cut in the shape", rawFile(1, 0).str("a").u32(4).bytes(14), "a", "past the end"},
		{"cut before the offset", rawFile(1, 0).str("abcdefgh").u32(1).u64(1).u32(0), "abcdefgh", "past the end"},
	}
}

func hostileLayouts() []hostile {
	good := whole()
	two := func(off uint64, size int) raw {
		return rawFile(2, 0).tensor("a", f32, 0, 9).tensor("b", f32, off, 8).pad(32).bytes(size)
	}
	return []hostile{
		{"good", good, "", ""},
		{"last padding missing", two(64, 96), "", ""}, // 32 bytes need none
		{"truncated by a byte", good[:len(good)-1], "b", "truncated or damaged"},
		{"no data", rawFile(1, 0).tensor("a", f32, 0, 1), "a", "4 bytes of data at offset 0 end past the file's 0 bytes"},
		{"no data, padded", rawFile(1, 0).tensor("a", f32, 0, 1).pad(32), "a", "truncated or damaged"},
		{"padding missing", rawFile(1, 0).tensor("a", f32, 0, 1).pad(32).bytes(4), "", ""},
		{"padding cut", rawFile(1, 0).tensor("a", f32, 0, 1).pad(32).bytes(31), "", ""},
		{"a byte too many", append(slices.Clone(good), 0), "", "1 bytes after the last tensor belong to no tensor"},
		{"first not at 0", rawFile(1, 0).tensor("a", f32, 32, 8).pad(32).bytes(64), "a", "not where it must be, at 0"},
		{"overlap", two(32, 96), "b", "data at offset 32 overlaps"},
		{"same place", two(0, 96), "b", "data at offset 0 overlaps"},
		{"hole", two(96, 128), "b", "data at offset 96 is not where it must be, at 64"},
		{"not aligned", two(36, 96), "b", "overlaps"},
		{"offset past the file", two(1<<40, 96), "b", "past the end of the file"},
		{"offset negative", two(math.MaxUint64, 96), "b", "past the end of the file"},
		{"data larger than the file", rawFile(1, 0).tensor("a", f32, 0, 1<<40).pad(32).bytes(32), "a", "truncated or damaged"},
		{"alignment that the data do not have", rawFile(2, 1).align(64).tensor("a", f32, 0, 8).tensor("b", f32, 32, 8).pad(64).bytes(64), "b", "overlaps"},
		{"alignment 4", rawFile(2, 1).align(4).tensor("a", f32, 0, 1).tensor("b", f32, 4, 1).pad(4).bytes(8), "", ""},
	}
}

func TestOpenHostileFiles(t *testing.T) {
	dir := t.TempDir()
	for _, c := range hostileFiles() {
		path := filepath.Join(dir, "x.gguf")
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		var f *File
		var err error
		if spent := allocated(func() { f, err = Open(path) }); spent > 256<<10 {
			t.Errorf("%s: %d bytes were allocated for %d", c.name, spent, len(c.data))
		}
		if err == nil {
			f.Close()
		}
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var e *formats.Error
		if !errors.As(err, &e) || e.File != "x.gguf" || e.Tensor != c.tensor || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestOpenLimits has files whose headers are within the file and over a limit.
func TestOpenLimits(t *testing.T) {
	sparse := func(size int64, head []byte) string {
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := os.WriteFile(path, head, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Skip(err)
		}
		return path
	}
	kv := rawFile(0, 1).str("k")
	for _, c := range []struct {
		head []byte
		want string
	}{
		{rawFile(MaxTensors+1, 0), "65537 tensors are over the limit of 65536"},
		{rawFile(0, MaxKeys+1), "65537 keys are over the limit of 65536"},
		{kv.u32(uint32(KindString)).u64(MaxHeaderBytes), "the metadata is over the limit"},
		{kv.u32(uint32(KindString)).u64(MaxHeaderBytes + 1), "over the limit"},
		{kv.u32(uint32(KindArray)).u32(uint32(KindFloat64)).u64(MaxHeaderBytes / 8), "the metadata is over the limit"},
		{kv.u32(uint32(KindArray)).u32(uint32(KindString)).u64(MaxHeaderBytes / 8), "the metadata is over the limit"},
	} {
		path := sparse(1<<40, c.head)
		var err error
		if spent := allocated(func() { _, err = Open(path) }); spent > 256<<10 {
			t.Errorf("%s: %d bytes were allocated", c.want, spent)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
