package gguf

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"modelpress/formats/ggml"
)

// goldenKV is what testdata/golden.py writes as metadata.
func goldenKV() []KV {
	inf := math.Inf(1)
	return []KV{
		{"general.architecture", String("golden")},
		{"one.uint8", Uint8(255)}, {"many.uint8", Uint8s([]uint8{0, 1, 255})},
		{"one.int8", Int8(127)}, {"many.int8", Int8s([]int8{-128, 1, 127})},
		{"one.uint16", Uint16(65535)}, {"many.uint16", Uint16s([]uint16{0, 1, 65535})},
		{"one.int16", Int16(32767)}, {"many.int16", Int16s([]int16{-32768, 1, 32767})},
		{"one.uint32", Uint32(math.MaxUint32)}, {"many.uint32", Uint32s([]uint32{0, 1, math.MaxUint32})},
		{"one.int32", Int32(math.MaxInt32)}, {"many.int32", Int32s([]int32{math.MinInt32, 1, math.MaxInt32})},
		{"one.uint64", Uint64(math.MaxUint64)}, {"many.uint64", Uint64s([]uint64{0, 1, math.MaxUint64})},
		{"one.int64", Int64(math.MaxInt64)}, {"many.int64", Int64s([]int64{math.MinInt64, 1, math.MaxInt64})},
		{"one.float32", Float32(0.1)}, {"many.float32", Float32s([]float32{float32(math.Copysign(0, -1)), 1e-3, float32(inf)})},
		{"one.float64", Float64(0.1)}, {"many.float64", Float64s([]float64{math.Copysign(0, -1), 1e-3, inf})},
		{"one.bool", Bool(true)}, {"many.bool", Bools([]bool{true, false, true})},
		{"one.string", String("grüße, 世界")}, {"many.string", Strings([]string{"a", "", "Ġthe", "line\nbreak"})},
	}
}

func goldenTensors() []Tensor {
	return []Tensor{
		{"f32.vector", ggml.F32, []int64{5}},
		{"f32.matrix", ggml.F32, []int64{3, 4}},
		{"f16.cube", ggml.F16, []int64{2, 3, 5}},
		{"i8.four", ggml.I8, []int64{2, 1, 3, 2}},
		{"f64.scalar", ggml.F64, []int64{}},
		{"bf16", ggml.BF16, []int64{2, 3}},
		{"q8_0", ggml.Q8_0, []int64{2, 64}},
		{"q4_0", ggml.Q4_0, []int64{3, 32}},
		{"q6_k", ggml.Q6_K, []int64{2, 256}},
	}
}

// goldenData returns the data of tensor i.
func goldenData(t *testing.T, i int) []byte {
	t.Helper()
	n, err := goldenTensors()[i].Bytes()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, n)
	for j := range p {
		p[j] = byte(7*j + i + 1)
	}
	return p
}

// writeGolden writes the golden tensors and returns the bytes of the files.
func writeGolden(t *testing.T, kv []KV, tensors []Tensor, o Options) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	w, err := Create(filepath.Join(dir, "m.gguf"), kv, tensors, o)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range tensors {
		if err := w.WriteAt(x.Name, goldenData(t, i), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return contents(t, dir)
}

// contents returns the files of a directory by name.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range list {
		if e.Type().IsRegular() {
			files[e.Name()] = readFile(t, filepath.Join(dir, e.Name()))
		}
	}
	return files
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBytesAreThoseOfGgufPy(t *testing.T) {
	kv := goldenKV()
	aligned := append([]KV{kv[0], {"general.alignment", Uint32(64)}}, kv[1:]...)
	for _, c := range []struct {
		file string
		kv   []KV
		o    Options
	}{
		{"kinds.gguf", kv, Options{}},
		{"kinds.gguf", kv, Options{Alignment: 32, SplitTensors: 9, SplitBytes: 1 << 40}},
		{"align64.gguf", aligned, Options{}},
		{"align64.gguf", aligned, Options{Alignment: 64}},
	} {
		got := writeGolden(t, c.kv, goldenTensors(), c.o)
		if want := readFile(t, "testdata/"+c.file); len(got) != 1 || !bytes.Equal(got["m.gguf"], want) {
			t.Errorf("%s, %+v: other bytes", c.file, c.o)
		}
	}
}

func TestBytesAreThoseOfLlamaGgufSplit(t *testing.T) {
	tensors := goldenTensors()
	tensors[4].Shape = []int64{1} // ggml gives every tensor a dimension
	got := writeGolden(t, goldenKV(), tensors, Options{SplitTensors: 4})
	if len(got) != 3 {
		t.Fatalf("%d files", len(got))
	}
	for name, p := range got {
		if want := readFile(t, "testdata/"+strings.Replace(name, "m-", "tool-", 1)); !bytes.Equal(p, want) {
			t.Errorf("%s: other bytes", name)
		}
	}
}

func TestOpenReadsFilesOfOtherSoftware(t *testing.T) {
	for _, c := range []struct {
		file  string
		parts int
		scale []int64 // shape of the scalar
	}{
		{"kinds.gguf", 1, []int64{}}, {"python-00001-of-00003.gguf", 3, []int64{}}, {"tool-00001-of-00003.gguf", 3, []int64{1}},
	} {
		f, err := Open("testdata/" + c.file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		want := goldenTensors()
		want[4].Shape = c.scale
		if f.Name() != c.file || len(f.Files()) != c.parts || f.Files()[0] != c.file {
			t.Errorf("%s: name %s, files %v", c.file, f.Name(), f.Files())
		}
		if !reflect.DeepEqual(f.Metadata(), goldenKV()) {
			t.Errorf("%s: metadata %v", c.file, f.Metadata())
		}
		if !reflect.DeepEqual(f.Tensors(), want) {
			t.Errorf("%s: tensors %v", c.file, f.Tensors())
		}
		checkGoldenData(t, f)
	}
}

func checkGoldenData(t *testing.T, f *File) {
	t.Helper()
	for i, x := range f.Tensors() {
		want := goldenData(t, i)
		got := make([]byte, len(want))
		if err := f.ReadAt(x.Name, got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s, %s: error %v, data %v", f.Name(), x.Name, err, got)
		}
		part := make([]byte, len(want)-3)
		if err := f.ReadAt(x.Name, part, 2); err != nil || !bytes.Equal(part, want[2:len(want)-1]) {
			t.Errorf("%s, %s: part: error %v, data %v", f.Name(), x.Name, err, part)
		}
	}
}

func TestOpenReadsVersion2(t *testing.T) {
	p := readFile(t, "testdata/kinds.gguf")
	p[4] = 2
	path := filepath.Join(t.TempDir(), "v2.gguf")
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !reflect.DeepEqual(f.Metadata(), goldenKV()) || !reflect.DeepEqual(f.Tensors(), goldenTensors()) {
		t.Error("another model")
	}
	checkGoldenData(t, f)
}

func TestOpenRefusesBigEndian(t *testing.T) {
	_, err := Open("testdata/big-endian.gguf")
	if err == nil || !strings.Contains(err.Error(), "big-endian.gguf: the file is big-endian") {
		t.Error(err)
	}
}
