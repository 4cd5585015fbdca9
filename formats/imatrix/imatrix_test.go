package imatrix

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/ggml"
	"modelpress/formats/gguf"
)

func read(t *testing.T, path string) *Matrix {
	t.Helper()
	m, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// putLegacy writes the older form; n entries are announced.
func putLegacy(n int, entries []Entry, end ...any) []byte {
	var b bytes.Buffer
	put := func(v any) {
		if s, ok := v.(string); ok {
			v = append(binary.LittleEndian.AppendUint32(nil, uint32(len(s))), s...)
		}
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	put(int32(n))
	for _, e := range entries {
		put(e.Tensor)
		put(int32(e.Counts[0]))
		put(int32(len(e.Sums)))
		put(e.Sums)
	}
	for _, v := range end {
		put(v)
	}
	return b.Bytes()
}

// Files of llama-imatrix come out as they went in, and those of the older form have the same means, but for rounding.
func TestGolden(t *testing.T) {
	for name, entries := range map[string]int{"llama": 15, "deep": 56, "gpt2": 9} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name)
			m, old := read(t, path+".gguf"), read(t, path+".dat")
			if len(m.Entries) != entries || m.Name != name+".gguf" || !slices.Equal(m.Datasets, []string{"text.txt"}) || m.Chunks != 3 || m.ChunkSize != 64 {
				t.Errorf("%d entries, %+q %q, %d windows of %d", len(m.Entries), m.Name, m.Datasets, m.Chunks, m.ChunkSize)
			}
			if !slices.Equal(old.Datasets, m.Datasets) || old.Chunks != 3 || old.ChunkSize != 0 || len(old.Entries) != entries {
				t.Errorf("older: %d entries, %q, %d windows of %d", len(old.Entries), old.Datasets, old.Chunks, old.ChunkSize)
			}
			for i := range m.Entries {
				e, o := &m.Entries[i], &old.Entries[i]
				if e.Tensor != o.Tensor || !slices.Equal(e.Counts, []float32{3 * 64}) || !slices.Equal(o.Counts, []float32{3}) {
					t.Fatalf("%s %v and %s %v", e.Tensor, e.Counts, o.Tensor, o.Counts)
				}
				a, b := e.Mean(), o.Mean()
				for j, v := range a {
					if d := math.Abs(float64(b[j])/float64(v) - 1); !(d < 3e-7) || float64(e.Sums[j])/192 != float64(v) && math.Abs(float64(e.Sums[j])/192/float64(v)-1) > 1e-7 {
						t.Fatalf("%s, input %d: means %v and %v of the sum %v", e.Tensor, j, v, b[j], e.Sums[j])
					}
				}
			}
			out := filepath.Join(t.TempDir(), "again.gguf")
			if err := Write(out, m); err != nil {
				t.Fatal(err)
			}
			sameFile(t, out, path+".gguf")
			raw, err := os.ReadFile(path + ".dat")
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(raw, putLegacy(entries, old.Entries, int32(3), "text.txt")) {
				t.Error("the older file was not read as it is")
			}
		})
	}
}

func sameFile(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("%s has other bytes than %s", a, b)
	}
}

// Means are those of llama-quantize: of each expert by itself, and ones where nothing went through.
func TestMean(t *testing.T) {
	e := Entry{Sums: []float32{1, 2, 3, 4, 5, 6}, Counts: []float32{2, 0, 3}}
	if got := e.Mean(); !slices.Equal(got, []float32{.5, 1, 1, 1, float32(5) / 3, 2}) {
		t.Error(got)
	}
}

func TestExperts(t *testing.T) {
	m := &Matrix{Chunks: 2, ChunkSize: 512, Datasets: []string{"a", "b\xff"}, Entries: []Entry{
		{Tensor: "blk.0.ffn_down_exps.weight", Sums: []float32{1, 2, 3, 4, 5, 6}, Counts: []float32{2, 0, 1 << 24}},
		{Tensor: "blk.0.x", Sums: []float32{0}, Counts: []float32{0}},
	}}
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := Write(path, m); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sums, _ := f.Find("blk.0.ffn_down_exps.weight.in_sum2")
	counts, _ := f.Find("blk.0.ffn_down_exps.weight.counts")
	if !slices.Equal(sums.Shape, []int64{3, 2}) || !slices.Equal(counts.Shape, []int64{3, 1}) {
		t.Errorf("shapes %v and %v", sums.Shape, counts.Shape)
	}
	got := read(t, path)
	if !slices.Equal(got.Datasets, []string{"a", "b\uFFFD"}) || got.Chunks != 2 || got.ChunkSize != 512 || len(got.Entries) != 2 {
		t.Errorf("%+v", got)
	}
	if e, ok := got.Find("blk.0.ffn_down_exps.weight"); !ok || !slices.Equal(e.Sums, m.Entries[0].Sums) || !slices.Equal(e.Counts, m.Entries[0].Counts) {
		t.Errorf("%+v", e)
	}
	if _, ok := got.Find("blk.0"); ok {
		t.Error("an entry is found that is not there")
	}
	if err := Write(path, m); err == nil {
		t.Error("a file is written over")
	}
	back, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(back) != 1 {
		t.Errorf("left: %v, %v", back, err)
	}
}

// The older form without what later files have behind the entries, and with what llama-quantize does where no window is behind the values.
func TestLegacy(t *testing.T) {
	e := []Entry{{Tensor: "b", Sums: []float32{8, 2}, Counts: []float32{4}}, {Tensor: "a", Sums: []float32{3}, Counts: []float32{0}}}
	for name, end := range map[string][]any{"old": nil, "no dataset": {int32(7), ""}, "dataset": {int32(7), "x\xfe"}} {
		path := filepath.Join(t.TempDir(), "m.dat")
		if err := os.WriteFile(path, putLegacy(2, e, end...), 0o644); err != nil {
			t.Fatal(err)
		}
		m := read(t, path)
		if m.Entries[0].Tensor != "a" || !slices.Equal(m.Entries[0].Mean(), []float32{3}) || !slices.Equal(m.Entries[1].Mean(), []float32{2, .5}) {
			t.Errorf("%s: %+v", name, m.Entries)
		}
		if want := map[string]int{"old": 0}[name]; name == "old" && m.Chunks != want || name != "old" && m.Chunks != 7 {
			t.Errorf("%s: %d windows", name, m.Chunks)
		}
		if name == "dataset" && !slices.Equal(m.Datasets, []string{"x\uFFFD"}) || name != "dataset" && m.Datasets != nil {
			t.Errorf("%s: %q", name, m.Datasets)
		}
	}
}

// hostileLegacy are files of the older form, and what the error says.
func hostileLegacy() map[string]struct {
	data []byte
	want string
} {
	one := func(name string, count float32, v ...float32) []Entry {
		return []Entry{{Tensor: name, Sums: v, Counts: []float32{count}}}
	}
	nan := float32(math.NaN())
	entry := func(n int32, more ...any) []byte { // what is behind one announced entry
		var b bytes.Buffer
		for _, v := range append([]any{int32(1), n}, more...) {
			if s, ok := v.(string); ok {
				v = []byte(s)
			}
			if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
				panic(err)
			}
		}
		return b.Bytes()
	}
	return map[string]struct {
		data []byte
		want string
	}{
		"empty":           {nil, "ends within the number of entries"},
		"three bytes":     {[]byte{1, 0, 0}, "ends within the number of entries"},
		"no entry":        {putLegacy(0, nil), "the number of entries is 0"},
		"negative":        {putLegacy(-1, one("a", 1, 1)), "the number of entries is -1"},
		"many":            {putLegacy(1<<30, one("a", 1, 1)), "the number of entries is 1073741824"},
		"one too many":    {putLegacy(2, one("blk.0.attn_q.weight", 1, 1, 2)), "entry 2 of 2: the file ends within the length of a name"},
		"no name":         {entry(0, make([]byte, 32)), "the length of a name is 0"},
		"long name":       {entry(64, make([]byte, 128)), "the length of a name is 64"},
		"negative length": {entry(-5, make([]byte, 32)), "the length of a name is -5"},
		"short name":      {entry(40, make([]byte, 30)), "the file ends within a name"},
		"control":         {entry(2, "a\n", int32(1), int32(1), float32(1)), "a name is no text"},
		"not UTF-8":       {entry(2, "a\xff", int32(1), int32(1), float32(1)), "a name is no text"},
		"negative calls":  {entry(1, "a", int32(-1), int32(1), float32(1)), `(tensor "a"): not an importance matrix: entry 1 of 1: the number of windows is -1`},
		"no values":       {entry(1, "a", int32(1), int32(0), float32(1)), "the number of values is 0"},
		"negative values": {entry(1, "a", int32(1), int32(-4), float32(1)), "the number of values is -4"},
		"many values":     {entry(1, "a", int32(1), int32(math.MaxInt32), float32(1)), "the number of values is 2147483647"},
		"values cut":      {entry(1, "a", int32(1), int32(2), float32(1)), "the number of values is 2"},
		"NaN":             {putLegacy(1, one("a", 1, 1, nan)), `(tensor "a"): the sum of squares of input 1 is NaN`},
		"infinite":        {putLegacy(1, one("a", 1, float32(math.Inf(1)))), "input 0 is +Inf"},
		"below zero":      {putLegacy(1, one("a", 1, -1)), "input 0 is -1"},
		"twice":           {putLegacy(2, append(one("a", 1, 1), one("a", 1, 1)...)), `(tensor "a"): is there twice`},
		"end cut":         {append(putLegacy(1, one("a", 1, 1)), 0), "the file ends within the number of windows"},
		"windows":         {putLegacy(1, one("a", 1, 1), int32(-1), ""), "the number of windows is -1"},
		"dataset cut":     {putLegacy(1, one("a", 1, 1), int32(1), int32(9), int32(9)), "the file ends within the dataset's name"},
		"dataset long":    {putLegacy(1, one("a", 1, 1), int32(1), int32(1<<20)), "the length of the dataset's name is 1048576"},
		"behind":          {append(putLegacy(1, one("a", 1, 1), int32(1), "d"), 1, 2, 3), "3 bytes behind the end"},
	}
}

func TestHostileLegacy(t *testing.T) {
	for name, c := range hostileLegacy() {
		path := filepath.Join(t.TempDir(), "m.dat")
		if err := os.WriteFile(path, c.data, 0o644); err != nil {
			t.Fatal(err)
		}
		checkHostile(t, name, path, c.want)
	}
}

func checkHostile(t *testing.T, name, path, want string) {
	t.Helper()
	m, err := Read(path)
	var e *formats.Error
	if m != nil || !errors.As(err, &e) || e.File != filepath.Base(path) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, %v; want %q", name, m, err, want)
	}
}

// The GGUF form, with one thing wrong.
func TestHostileGGUF(t *testing.T) {
	type tensor = gguf.Tensor
	f32 := func(v ...float32) []byte {
		b := make([]byte, 4*len(v))
		if err := formats.Encode(b, v, formats.F32); err != nil {
			t.Fatal(err)
		}
		return b
	}
	type file struct {
		kv      []gguf.KV
		tensors []tensor
		data    [][]byte
	}
	drop := func(f *file, key string) {
		f.kv = slices.DeleteFunc(f.kv, func(kv gguf.KV) bool { return kv.Key == key })
	}
	set := func(f *file, key string, v gguf.Value) {
		drop(f, key)
		f.kv = append(f.kv, gguf.KV{Key: key, Value: v})
	}
	for name, c := range map[string]struct {
		change func(f *file)
		want   string
	}{
		"a model":           {func(f *file) { set(f, keyType, gguf.String("model")) }, `of the type "model", not an importance matrix`},
		"type a number":     {func(f *file) { set(f, keyType, gguf.Uint32(1)) }, "not an importance matrix"},
		"no datasets":       {func(f *file) { drop(f, keyDatasets) }, `key "imatrix.datasets" is missing`},
		"datasets a text":   {func(f *file) { set(f, keyDatasets, gguf.String("x")) }, "is no list of texts"},
		"no chunks":         {func(f *file) { drop(f, keyChunks) }, `key "imatrix.chunk_count" is missing`},
		"no size":           {func(f *file) { drop(f, keyChunkSize) }, `key "imatrix.chunk_size" is missing`},
		"chunks below zero": {func(f *file) { set(f, keyChunks, gguf.Int32(-1)) }, "no whole number below 2^31"},
		"chunks too many":   {func(f *file) { set(f, keyChunks, gguf.Uint32(1<<31)) }, "no whole number below 2^31"},
		"size a text":       {func(f *file) { set(f, keyChunkSize, gguf.String("x")) }, "no whole number below 2^31"},
		"no counts":         {func(f *file) { f.tensors[1].Name = "a.count" }, `(tensor "a"): has sums and no counts`},
		"no sums":           {func(f *file) { f.tensors[0].Name = "a.in_sum" }, `(tensor "a"): has counts and no sums`},
		"nothing":           {func(f *file) { f.tensors[0].Name, f.tensors[1].Name = "x", "y" }, "holds no entry"},
		"F16":               {func(f *file) { f.tensors[0].Type, f.data[0] = ggml.F16, make([]byte, 8) }, `(tensor "a.in_sum2"): is of type F16`},
		"count F16":         {func(f *file) { f.tensors[1].Type, f.data[1] = ggml.F16, make([]byte, 2) }, `(tensor "a.counts"): is of type F16`},
		"three counts":      {func(f *file) { f.tensors[1].Shape, f.data[1] = []int64{3}, f32(1, 1, 1) }, `(tensor "a"): 4 sums for 3 counts`},
		"more counts":       {func(f *file) { f.tensors[1].Shape, f.data[1] = []int64{8}, f32(1, 1, 1, 1, 1, 1, 1, 1) }, "4 sums for 8 counts"},
		"NaN":               {func(f *file) { f.data[0] = f32(1, 2, float32(math.NaN()), 4) }, `(tensor "a"): the sum of squares of input 2 is NaN`},
		"infinite":          {func(f *file) { f.data[0] = f32(1, 2, 3, float32(math.Inf(1))) }, "input 3 is +Inf"},
		"negative":          {func(f *file) { f.data[0] = f32(-1e-30, 2, 3, 4) }, "input 0 is -1e-30"},
		"count NaN":         {func(f *file) { f.data[1] = f32(float32(math.NaN())) }, `(tensor "a"): count 0 is NaN`},
		"count infinite":    {func(f *file) { f.data[1] = f32(float32(math.Inf(1))) }, "count 0 is +Inf"},
		"count negative":    {func(f *file) { f.data[1] = f32(-3) }, "count 0 is -3"},
		"good":              {func(f *file) {}, ""},
		"no type":           {func(f *file) { drop(f, keyType) }, ""},
		"a half":            {func(f *file) { f.data[1] = f32(2.5) }, ""},
		"others":            {func(f *file) { f.tensors[2].Name = "a.in_sum" }, ""},
	} {
		f := &file{kv: (&Matrix{Datasets: []string{"d"}, Chunks: 1, ChunkSize: 5}).metadata(),
			tensors: []tensor{{Name: "a.in_sum2", Type: ggml.F32, Shape: []int64{4}}, {Name: "a.counts", Type: ggml.F32, Shape: []int64{1}},
				{Name: "other", Type: ggml.F32, Shape: []int64{1}}},
			data: [][]byte{f32(3, 6, 9, 12), f32(3), f32(1)}}
		c.change(f)
		path := filepath.Join(t.TempDir(), "m.gguf")
		w, err := gguf.Create(path, f.kv, f.tensors, gguf.Options{})
		if err != nil {
			t.Fatal(name, err)
		}
		for i, x := range f.tensors {
			if err := w.WriteAt(x.Name, f.data[i], 0); err != nil {
				t.Fatal(name, err)
			}
		}
		if err := w.Commit(); err != nil {
			t.Fatal(name, err)
		}
		if c.want != "" {
			checkHostile(t, name, path, c.want)
			continue
		}
		m, err := Read(path)
		if err != nil || len(m.Entries) != 1 || m.Entries[0].Mean()[0] != 1 || m.Entries[0].Counts[0] != 3 {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	checkHostile(t, "no file", filepath.Join(dir, "none"), "no such file")
	checkHostile(t, "directory", dir, "not a regular file")
	cut := filepath.Join(dir, "cut.gguf")
	if err := os.WriteFile(cut, []byte("GGUF"), 0o644); err != nil {
		t.Fatal(err)
	}
	checkHostile(t, "cut", cut, "")
}

// What is no matrix is not written either.
func TestCheck(t *testing.T) {
	good := Entry{Tensor: "b", Sums: []float32{1, 2}, Counts: []float32{1}}
	for want, m := range map[string]*Matrix{
		"holds no entry":           {},
		"is there twice":           {Entries: []Entry{good, good}},
		"out of order":             {Entries: []Entry{good, {Tensor: "a", Sums: []float32{1}, Counts: []float32{1}}}},
		"0 sums for 1 counts":      {Entries: []Entry{{Tensor: "a", Counts: []float32{1}}}},
		"2 sums for 0 counts":      {Entries: []Entry{{Tensor: "a", Sums: []float32{1, 2}}}},
		"count 0 is 1.5":           {Entries: []Entry{{Tensor: "a", Sums: []float32{1}, Counts: []float32{1.5}}}},
		"-1 windows of 0 tokens":   {Entries: []Entry{good}, Chunks: -1},
		"0 windows of 4294967296 ": {Entries: []Entry{good}, ChunkSize: 1 << 32},
	} {
		path := filepath.Join(t.TempDir(), "m.gguf")
		if err := Write(path, m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("it was written")
		}
	}
	long := &Matrix{Entries: []Entry{{Tensor: strings.Repeat("a", 60), Sums: []float32{1}, Counts: []float32{1}}}}
	if err := Write(filepath.Join(t.TempDir(), "m.gguf"), long); err == nil {
		t.Error("a name is written that ggml does not take")
	}
}
