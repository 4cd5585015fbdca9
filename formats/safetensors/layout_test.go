package safetensors

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

func tensor(name string, dt formats.DType, shape ...int64) formats.TensorInfo {
	return formats.TensorInfo{Name: name, DType: dt, Shape: shape}
}

// describe writes a layout as shards of names: "model.safetensors: a b".
func describe(l Layout) string {
	var lines []string
	for _, s := range l.Shards {
		names := []string{s.Name + ":"}
		for _, p := range s.Tensors {
			names = append(names, p.Name)
		}
		lines = append(lines, strings.Join(names, " "))
	}
	return strings.Join(lines, "; ")
}

func TestPlanLayout(t *testing.T) {
	a, b, c := tensor("a", formats.F32, 2), tensor("b", formats.F32, 3), tensor("c", formats.F32, 1)
	for _, x := range []struct {
		tensors []formats.TensorInfo
		limit   int64
		want    string
	}{
		{nil, 0, "model.safetensors:"},
		{[]formats.TensorInfo{b, a, c}, 0, "model.safetensors: b a c"},
		{[]formats.TensorInfo{b, a, c}, 24, "model.safetensors: b a c"},
		{[]formats.TensorInfo{b, a, c}, 23, "model-00001-of-00002.safetensors: b a; model-00002-of-00002.safetensors: c"},
		{[]formats.TensorInfo{a, b, c}, 8, "model-00001-of-00003.safetensors: a; model-00002-of-00003.safetensors: b; model-00003-of-00003.safetensors: c"},
		{[]formats.TensorInfo{a, b, c}, 1, "model-00001-of-00003.safetensors: a; model-00002-of-00003.safetensors: b; model-00003-of-00003.safetensors: c"},
		{[]formats.TensorInfo{tensor("odd", formats.BF16, 3), a}, 0, "model.safetensors: a odd"},
		{[]formats.TensorInfo{tensor("even", formats.BF16, 4), a}, 0, "model.safetensors: even a"},
		{[]formats.TensorInfo{tensor("x", formats.U8, 1), tensor("h2", formats.F16, 1), tensor("h1", formats.BF16, 1), tensor("l", formats.I64)}, 0, "model.safetensors: l h2 h1 x"},
	} {
		l, err := PlanLayout(x.tensors, x.limit)
		if err != nil || describe(l) != x.want {
			t.Errorf("limit %d: %s, %v; want %s", x.limit, describe(l), err, x.want)
		}
	}
}

func TestPlanLayoutRefuses(t *testing.T) {
	many := make([]formats.TensorInfo, MaxTensors+1)
	for _, c := range []struct {
		want    string
		tensors []formats.TensorInfo
	}{
		{"duplicate", []formats.TensorInfo{tensor("a", formats.U8), tensor("a", formats.U8)}},
		{"cannot be stored", []formats.TensorInfo{tensor("", formats.U8)}},
		{"cannot be stored", []formats.TensorInfo{tensor(metadataKey, formats.U8)}},
		{"cannot be stored", []formats.TensorInfo{tensor("a\n", formats.U8)}},
		{"cannot be stored", []formats.TensorInfo{tensor("a\xff", formats.U8)}},
		{"not representable", []formats.TensorInfo{tensor("a", formats.Invalid)}},
		{"negative", []formats.TensorInfo{tensor("a", formats.U8, -1)}},
		{"overflows", []formats.TensorInfo{tensor("a", formats.U8, 1<<62, 4)}},
		{"overflows", []formats.TensorInfo{tensor("a", formats.U8, 1<<62), tensor("b", formats.U8, 1<<62)}},
		{"dimensions", []formats.TensorInfo{tensor("a", formats.U8, slices.Repeat([]int64{1}, 65)...)}},
		{"over the limit", many},
	} {
		if _, err := PlanLayout(c.tensors, 0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.want, err)
		}
	}
	if _, err := PlanLayout([]formats.TensorInfo{tensor("a", formats.U8), tensor("a", formats.U8)}, 0); !errors.Is(err, ErrDuplicate) {
		t.Error(err)
	}
}

// TestLayoutProperties checks on random sets that each tensor stands once, in shards within the limit, without holes,
// aligned, and that the files have the sizes foretold.
func TestLayoutProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for round := range 25 {
		var tensors []formats.TensorInfo
		for i := range rng.IntN(20) {
			dt := formats.DType(1 + rng.IntN(int(formats.U64)))
			tensors = append(tensors, tensor(fmt.Sprintf("t%d", i), dt, rng.Int64N(9), rng.Int64N(9)))
		}
		limit := rng.Int64N(500)
		l, err := PlanLayout(tensors, limit)
		if err != nil {
			t.Fatal(err)
		}
		checkLayout(t, l, tensors, limit)
		dir := t.TempDir()
		meta := map[string]string{"round": fmt.Sprint(round), "quote": "\"\\\n\x01é"}
		w, err := Create(dir, l, meta)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		for i, size := range l.FileSizes(meta) {
			path := filepath.Join(dir, l.Shards[i].Name)
			info, err := os.Stat(path)
			if err != nil || info.Size() != size {
				t.Fatalf("size %d planned, %v, %v", size, info, err)
			}
			f, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if m := f.Metadata(); m["quote"] != meta["quote"] || m["format"] != "pt" {
				t.Fatalf("metadata %q", m)
			}
			f.Close()
		}
	}
}

func checkLayout(t *testing.T, l Layout, tensors []formats.TensorInfo, limit int64) {
	t.Helper()
	seen := map[string]bool{}
	total := int64(0)
	for i := range l.Shards {
		s := &l.Shards[i]
		off := int64(0)
		for _, p := range s.Tensors {
			n, _ := p.Bytes()
			if p.Begin != off || p.End != off+n || off%int64(p.DType.Size()) != 0 || seen[p.Name] {
				t.Fatalf("tensor %v at %d..%d after %d", p.TensorInfo, p.Begin, p.End, off)
			}
			seen[p.Name] = true
			off = p.End
		}
		if limit > 0 && off > limit && len(s.Tensors) > 1 {
			t.Fatalf("shard %s has %d bytes, limit %d", s.Name, off, limit)
		}
		total += off
	}
	if len(seen) != len(tensors) || total != l.TotalBytes() {
		t.Fatalf("%d tensors of %d, %d bytes of %d", len(seen), len(tensors), total, l.TotalBytes())
	}
}

func TestIndexJSON(t *testing.T) {
	l, err := PlanLayout([]formats.TensorInfo{tensor("b\"", formats.F32, 2), tensor("a", formats.F32, 3)}, 12)
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "metadata": {
    "total_size": 20
  },
  "weight_map": {
    "a": "model-00002-of-00002.safetensors",
    "b\"": "model-00001-of-00002.safetensors"
  }
}
`
	if got := string(l.Index()); got != want || !json.Valid([]byte(got)) {
		t.Errorf("index\n%s", got)
	}
}

func TestHeaderBytes(t *testing.T) {
	l, err := PlanLayout([]formats.TensorInfo{tensor("w", formats.BF16, 2, 3), tensor("s", formats.I32)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := string(l.Shards[0].Header(map[string]string{"z": "2", "b": "1", "format": "np"})[8:])
	want := `{"__metadata__":{"format":"pt","b":"1","z":"2"},"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"s":{"dtype":"I32","shape":[],"data_offsets":[12,16]}}`
	if strings.TrimRight(got, " ") != want || len(got)%8 != 0 {
		t.Errorf("header %q", got)
	}
}
