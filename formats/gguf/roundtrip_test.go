package gguf

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"modelpress/formats/ggml"
)

var allTypes = []ggml.Type{ggml.F32, ggml.F16, ggml.BF16, ggml.F64, ggml.I8, ggml.I16, ggml.I32, ggml.I64, ggml.Q4_0, ggml.Q4_1, ggml.Q5_0, ggml.Q5_1,
	ggml.Q8_0, ggml.Q2_K, ggml.Q3_K, ggml.Q4_K, ggml.Q5_K, ggml.Q6_K, ggml.MXFP4, ggml.NVFP4}

func randomString(r *rand.Rand) string {
	b := make([]byte, r.IntN(40))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func list[T any](r *rand.Rand, one func() T) []T {
	s := make([]T, r.IntN(200))
	for i := range s {
		s[i] = one()
	}
	return s
}

func randomValue(r *rand.Rand) Value {
	u := r.Uint64
	f64 := func() float64 { return math.Float64frombits(u()) } // NaNs with a payload, too
	f32 := func() float32 { return math.Float32frombits(r.Uint32()) }
	flag := func() bool { return u()&1 == 0 }
	text := func() string { return randomString(r) }
	makers := []func() Value{
		func() Value { return Uint8(uint8(u())) }, func() Value { return Int8(int8(u())) },
		func() Value { return Uint16(uint16(u())) }, func() Value { return Int16(int16(u())) },
		func() Value { return Uint32(uint32(u())) }, func() Value { return Int32(int32(u())) },
		func() Value { return Uint64(u()) }, func() Value { return Int64(int64(u())) },
		func() Value { return Float32(f32()) }, func() Value { return Float64(f64()) },
		func() Value { return Bool(flag()) }, func() Value { return String(text()) },
		func() Value { return Uint8s(list(r, func() uint8 { return uint8(u()) })) },
		func() Value { return Int8s(list(r, func() int8 { return int8(u()) })) },
		func() Value { return Uint16s(list(r, func() uint16 { return uint16(u()) })) },
		func() Value { return Int16s(list(r, func() int16 { return int16(u()) })) },
		func() Value { return Uint32s(list(r, r.Uint32)) },
		func() Value { return Int32s(list(r, func() int32 { return int32(u()) })) },
		func() Value { return Uint64s(list(r, u)) },
		func() Value { return Int64s(list(r, func() int64 { return int64(u()) })) },
		func() Value { return Float32s(list(r, f32)) }, func() Value { return Float64s(list(r, f64)) },
		func() Value { return Bools(list(r, flag)) }, func() Value { return Strings(list(r, text)) },
	}
	return makers[r.IntN(len(makers))]()
}

func randomModel(r *rand.Rand) (kv []KV, tensors []Tensor, o Options) {
	for i := range r.IntN(30) {
		kv = append(kv, KV{fmt.Sprintf("key.%d.%d", i, r.IntN(1000)), randomValue(r)})
	}
	if r.IntN(3) == 0 {
		kv = append(kv, KV{keyAlignment, Uint32(8 << r.IntN(8))})
	} else if r.IntN(2) == 0 {
		o.Alignment = 8 << r.IntN(8)
	}
	for i := range r.IntN(20) {
		t := Tensor{Name: fmt.Sprintf("blk.%d.t%d", i, r.IntN(1000)), Type: allTypes[r.IntN(len(allTypes))]}
		for range r.IntN(MaxDimensions) {
			t.Shape = append(t.Shape, 1+r.Int64N(3))
		}
		if t.Type.Block() > 1 || r.IntN(2) == 0 {
			t.Shape = append(t.Shape, int64(t.Type.Block())*(1+r.Int64N(3)))
		}
		tensors = append(tensors, t)
	}
	if r.IntN(2) == 0 {
		o.SplitTensors = 1 + r.IntN(6)
	}
	if r.IntN(2) == 0 {
		o.SplitBytes = 1 + r.Int64N(8000)
	}
	return kv, tensors, o
}

// TestRoundTrip: what is written is read again, for random models, alignments and splits, and the same input gives the same files.
func TestRoundTrip(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		kv, tensors, o := randomModel(r)
		data := map[string][]byte{}
		for _, x := range tensors {
			n, err := x.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			data[x.Name] = p
		}
		first := writeModel(t, kv, tensors, o, data, r.Perm(len(tensors)))
		second := writeModel(t, kv, tensors, o, data, r.Perm(len(tensors)))
		a, b := contents(t, first), contents(t, second)
		l, err := Plan(kv, tensors, o)
		if err != nil {
			t.Fatal(err)
		}
		if len(a) != len(l.Files) || len(a) != len(b) {
			t.Errorf("seed %d: %d files and %d, planned %d", seed, len(a), len(b), len(l.Files))
		}
		for i, name := range l.Names("m.gguf") {
			if !bytes.Equal(a[name], b[name]) || int64(len(a[name])) != l.Files[i].Bytes {
				t.Errorf("seed %d: %s: %d bytes and %d, planned %d", seed, name, len(a[name]), len(b[name]), l.Files[i].Bytes)
			}
		}
		checkModel(t, seed, filepath.Join(first, l.Names("m.gguf")[0]), kv, tensors, o, data)
	}
}

func writeModel(t *testing.T, kv []KV, tensors []Tensor, o Options, data map[string][]byte, order []int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	w, err := Create(filepath.Join(dir, "m.gguf"), kv, tensors, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range order {
		if err := w.WriteAt(tensors[i].Name, data[tensors[i].Name], 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func checkModel(t *testing.T, seed uint64, path string, kv []KV, tensors []Tensor, o Options, data map[string][]byte) {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	defer f.Close()
	if o.Alignment != 0 && o.Alignment != defaultAlignment {
		kv = append(kv, KV{keyAlignment, Uint32(o.Alignment)})
	}
	if len(f.Metadata()) != len(kv) {
		t.Fatalf("seed %d: %d keys, want %d", seed, len(f.Metadata()), len(kv))
	}
	for i, e := range f.Metadata() {
		if v, ok := f.Lookup(e.Key); e.Key != kv[i].Key || !Equal(e.Value, kv[i].Value) || !ok || !Equal(v, e.Value) {
			t.Errorf("seed %d: key %s", seed, e.Key)
		}
	}
	for i, x := range f.Tensors() {
		got := make([]byte, len(data[x.Name]))
		if err := f.ReadAt(x.Name, got, 0); err != nil || !bytes.Equal(got, data[x.Name]) {
			t.Errorf("seed %d: %s: %v", seed, x.Name, err)
		}
		if want := tensors[i]; x.Name != want.Name || x.Type != want.Type || fmt.Sprint(x.Shape) != fmt.Sprint(want.Shape) {
			t.Errorf("seed %d: %v, want %v", seed, x, want)
		}
	}
	if len(f.Tensors()) != len(tensors) {
		t.Errorf("seed %d: %d tensors", seed, len(f.Tensors()))
	}
}
