package gguf

import (
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"modelpress/formats/ggml"
)

// names returns the tensors of each file of a layout.
func (l Layout) names() [][]string {
	var all [][]string
	for _, f := range l.Files {
		names := []string{}
		for _, t := range f.Tensors {
			names = append(names, t.Name)
		}
		all = append(all, names)
	}
	return all
}

// vector is a tensor of n bytes.
func vector(name string, n int64) Tensor { return Tensor{name, ggml.I8, []int64{n}} }

func TestPlanSplits(t *testing.T) {
	four := []Tensor{vector("a", 32), vector("b", 1), vector("c", 100), vector("d", 32)} // 32, 32, 128, 32 with padding
	for _, c := range []struct {
		o    Options
		want [][]string
	}{
		{Options{}, [][]string{{"a", "b", "c", "d"}}},
		{Options{SplitTensors: 4}, [][]string{{"a", "b", "c", "d"}}},
		{Options{SplitTensors: 3}, [][]string{{"a", "b", "c"}, {"d"}}},
		{Options{SplitTensors: 2}, [][]string{{"a", "b"}, {"c", "d"}}},
		{Options{SplitTensors: 1}, [][]string{{"a"}, {"b"}, {"c"}, {"d"}}},
		{Options{SplitBytes: 224}, [][]string{{"a", "b", "c", "d"}}},
		{Options{SplitBytes: 223}, [][]string{{"a", "b", "c"}, {"d"}}},
		{Options{SplitBytes: 64}, [][]string{{"a", "b"}, {"c"}, {"d"}}},
		{Options{SplitBytes: 63}, [][]string{{"a"}, {"b"}, {"c"}, {"d"}}},
		{Options{SplitBytes: 160, SplitTensors: 2}, [][]string{{"a", "b"}, {"c", "d"}}},
	} {
		l, err := Plan(nil, four, c.o)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.names(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %v", c.o, got)
		}
	}
}

func TestPlanKeys(t *testing.T) {
	kv := []KV{{"a", Uint8(1)}, {"b", Uint8(2)}}
	l, err := Plan(kv, []Tensor{vector("x", 1), vector("y", 1)}, Options{SplitTensors: 1, Alignment: 64})
	if err != nil {
		t.Fatal(err)
	}
	align := KV{keyAlignment, Uint32(64)}
	for i, want := range [][]KV{append([]KV{kv[0], kv[1], align}, splitKeys(0, 2, 2)...), append([]KV{align}, splitKeys(1, 2, 2)...)} {
		h, err := Header(want, l.Files[i].Tensors, 64)
		if err != nil || string(h) != string(l.Files[i].header) {
			t.Errorf("file %d: %v, header %q", i, err, l.Files[i].header)
		}
		if f := l.Files[i]; f.HeaderBytes != int64(len(h)) || f.Bytes != f.HeaderBytes+64 {
			t.Errorf("file %d: %d and %d bytes", i, f.HeaderBytes, f.Bytes)
		}
	}
	if len(kv) != 2 {
		t.Error("the caller's list was changed")
	}
	if got := l.Names(filepath.Join("d", "m.x.gguf")); !reflect.DeepEqual(got, []string{filepath.Join("d", "m.x-00001-of-00002.gguf"), filepath.Join("d", "m.x-00002-of-00002.gguf")}) {
		t.Error(got)
	}
	one, err := Plan(kv, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := one.Names("m"); !reflect.DeepEqual(got, []string{"m"}) {
		t.Error(got)
	}
}

func TestPlanRefuses(t *testing.T) {
	many := make([]Tensor, MaxSplits+1)
	for i := range many {
		many[i] = vector(strings.Repeat("x", i%60)+string(rune('a'+i/60)), 1)
	}
	align := func(v Value) []KV { return []KV{{keyAlignment, v}} }
	for _, c := range []struct {
		kv      []KV
		tensors []Tensor
		o       Options
		want    string
	}{
		{nil, []Tensor{vector("a", 1), vector("a", 1)}, Options{}, `tensor "a": gguf: the name is there twice`},
		{nil, []Tensor{vector("a", 1), vector("a", 1)}, Options{SplitTensors: 1}, "the name is there twice"},
		{nil, []Tensor{vector(strings.Repeat("n", 64), 1)}, Options{}, "the name has 64 bytes, and ggml takes 63"},
		{nil, []Tensor{vector("", 1)}, Options{}, "the name is empty"},
		{nil, []Tensor{vector("a", 0)}, Options{}, "is not positive"},
		{nil, []Tensor{{"a", ggml.Q8_0, []int64{2, 16}}}, Options{}, "rows of 16 values"},
		{nil, []Tensor{{"a", 1000, []int64{2}}}, Options{}, "tensors of type 1000"},
		{nil, []Tensor{{"a", ggml.F32, []int64{1, 1, 1, 1, 1}}}, Options{}, "5 dimensions"},
		{nil, []Tensor{vector("a", math.MaxInt64)}, Options{}, "not representable"},
		{nil, []Tensor{vector("a", 1<<62), vector("b", 1<<62)}, Options{}, "not representable"},
		{nil, []Tensor{vector("a", 1<<62), vector("b", 1<<62)}, Options{SplitTensors: 1}, "the size of all files is not representable"},
		{nil, many, Options{SplitTensors: 1}, "1001 files are over the limit of 1000"},
		{nil, make([]Tensor, MaxTensors+1), Options{}, "65537 tensors are over the limit"},
		{make([]KV, MaxKeys+1), nil, Options{}, "65537 keys are over the limit"},
		{[]KV{{"", Uint8(1)}}, nil, Options{}, "the name is empty"},
		{[]KV{{"a", Uint8(1)}, {"a", Uint8(1)}}, nil, Options{}, `key "a": it is there twice`},
		{[]KV{{strings.Repeat("k", 1<<16), Uint8(1)}}, nil, Options{}, "the limit is 65535"},
		{splitKeys(0, 1, 1), nil, Options{}, `key "split.no" is the writer's`},
		{align(Uint32(64)), nil, Options{Alignment: 32}, "alignment 32 is asked for"},
		{align(Uint64(64)), nil, Options{}, "a uint32 is needed"},
		{align(Uint32(0)), nil, Options{}, "alignment 0 is no power of two"},
		{align(Uint32(4)), nil, Options{}, "alignment 4 is no power of two from 8"},
		{nil, nil, Options{Alignment: 48}, "alignment 48 is no power of two"},
		{nil, nil, Options{Alignment: 1 << 17}, "alignment 131072 is no power of two from 8 to 65536"},
	} {
		if _, err := Plan(c.kv, c.tensors, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func TestHeaderLimit(t *testing.T) {
	kv := []KV{{"k", String("v")}} // 24 bytes before it, 22 of it
	for limit, want := range map[int]bool{45: false, 46: true} {
		if _, err := headerWithin(limit, kv, nil, 32); (err == nil) != want {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}
