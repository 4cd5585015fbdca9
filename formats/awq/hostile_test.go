package awq

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"modelpress/formats"
)

func TestHostileConfig(t *testing.T) {
	good := `{"bits":4,"group_size":32,"quant_method":"awq","version":"gemm","zero_point":true,"modules_to_not_convert":["head"]}`
	for _, c := range []struct{ name, from, to, cause string }{
		{"not JSON", good, "{", ""},
		{"not an object", good, "[]", "an object"},
		{"null", good, "null", "an object"},
		{"duplicate key", `"bits":4,`, `"bits":4,"bits":8,`, "duplicate"},
		{"other method", `"quant_method":"awq"`, `"quant_method":"gptq"`, "quant_method"},
		{"no bits", `"bits":4,`, `"BITS":4,`, "bits is missing"},
		{"no group size", `"group_size"`, `"groupsize"`, "group_size is missing"},
		{"8 bits", `"bits":4`, `"bits":8`, "8 bits"},
		{"bits as text", `"bits":4`, `"bits":"4"`, "bits"},
		{"two kinds of bits", `"bits":4`, `"bits":4,"w_bit":3`, "contradict"},
		{"two kinds of groups", `"bits":4`, `"bits":4,"q_group_size":64`, "contradict"},
		{"no columns in a group", `"group_size":32`, `"group_size":0`, "group_size 0"},
		{"negative group", `"group_size":32`, `"group_size":-2`, "group_size -2"},
		{"gemv", `"gemm"`, `"gemv"`, "gemv packs"},
		{"gemv_fast", `"gemm"`, `"GEMV_FAST"`, "gemv_fast packs"},
		{"marlin", `"gemm"`, `"marlin"`, "marlin"},
		{"unknown version", `"gemm"`, `"gemm2"`, "gemm2"},
		{"format of GPTQModel", `"zero_point":true`, `"format":"gemv"`, "gemv packs"},
		{"llm-awq", `"zero_point":true`, `"backend":"llm-awq"`, "llm-awq"},
		{"modules as text", `["head"]`, `"head"`, "modules_to_not_convert"},
		{"data after it", good, good + "{}", "data after"},
	} {
		bad := strings.Replace(good, c.from, c.to, 1)
		if bad == good {
			t.Fatalf("%s: nothing replaced", c.name)
		}
		_, err := Dense(memory{}, json.RawMessage(bad))
		var e *formats.Error
		if !errors.As(err, &e) || e.File != "config.json" || !strings.Contains(err.Error(), c.cause) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.cause)
		}
	}
	if _, err := Dense(memory{}, json.RawMessage(good)); err != nil {
		t.Errorf("the config itself: %v", err)
	}
}

func config(t testing.TB, f Format) json.RawMessage {
	t.Helper()
	c, err := f.Config(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestHostileTensors(t *testing.T) {
	f := Format{Group: 32}
	for _, c := range []struct {
		name   string
		spoil  func(memory)
		tensor string
	}{
		{"no zero points", func(m memory) { delete(m, "m.qzeros") }, "m.qzeros"},
		{"zero points without codes", func(m memory) { delete(m, "m.qweight") }, "m.qzeros"},
		{"zero points of another group size", func(m memory) { m.put("m.qzeros", formats.I32, make([]byte, 64), 4, 4) }, "m.qzeros"},
		{"zero points in bytes", func(m memory) { m.put("m.qzeros", formats.U8, make([]byte, 64), 2, 32) }, "m.qzeros"},
		{"no scales", func(m memory) { delete(m, "m.scales") }, "m.scales"},
		{"scales of integers", func(m memory) { m.put("m.scales", formats.I32, make([]byte, 256), 2, 32) }, "m.scales"},
		{"scales turned", func(m memory) { m.put("m.scales", formats.F16, make([]byte, 128), 32, 2) }, "m.scales"},
		{"codes in bytes", func(m memory) { m.put("m.qweight", formats.U8, make([]byte, 1024), 64, 16) }, "m.qweight"},
		{"codes in one dimension", func(m memory) { m.put("m.qweight", formats.I32, make([]byte, 1024), 256) }, "m.qweight"},
		{"no codes", func(m memory) { m.put("m.qweight", formats.I32, nil, 0, 4) }, "m.qweight"},
		{"no columns", func(m memory) { m.put("m.qweight", formats.I32, nil, 64, 0) }, "m.qweight"},
		{"enormous codes", func(m memory) { m.put("m.qweight", formats.I32, nil, 1<<60, 1<<60) }, "m.qweight"},
		{"many codes", func(m memory) { m.put("m.qweight", formats.I32, nil, 1<<30, 1<<26) }, "m.scales"},
		{"columns that groups do not divide", func(m memory) { m.put("m.qweight", formats.I32, make([]byte, 16*65), 65, 4) }, "m.qweight"},
		{"fewer columns than a group has", func(m memory) { m.put("m.qweight", formats.I32, make([]byte, 256), 16, 4) }, "m.qweight"},
		{"codes of a gptq weight", func(m memory) { m.put("m.qweight", formats.I32, make([]byte, 1024), 8, 32) }, "m.qweight"},
		{"dense beside quantized", func(m memory) { m.put("m.weight", formats.F32, make([]byte, 8192), 32, 64) }, "m.weight"},
		{"zero points that end early", func(m memory) { m.put("m.qzeros", formats.I32, make([]byte, 28), 2, 4) }, ""},
	} {
		src := store(t, f, sample(rand.New(rand.NewPCG(9, 9)), f, 32, 64))
		c.spoil(src)
		_, err := Dense(src, config(t, f))
		var e *formats.Error
		if err == nil || c.tensor != "" && (!errors.As(err, &e) || e.Tensor != c.tensor) {
			t.Errorf("%s: error %v, want one about %s", c.name, err, c.tensor)
		}
	}
}

// What can only be seen when data is read is an error then.
func TestHostileData(t *testing.T) {
	f := Format{Group: 32}
	for name, spoil := range map[string]func(memory){
		"infinite scale":       func(m memory) { copy(m["m.scales"].Data[2*33:], []byte{0, 0x7c}) },
		"NaN":                  func(m memory) { copy(m["m.scales"].Data, []byte{1, 0xfe}) },
		"codes that end early": func(m memory) { m.put("m.qweight", formats.I32, make([]byte, 1020), 64, 4) },
		"scales that are cut":  func(m memory) { m.put("m.scales", formats.F16, make([]byte, 100), 2, 32) },
	} {
		src := store(t, f, sample(rand.New(rand.NewPCG(9, 9)), f, 32, 64))
		spoil(src)
		v := open(t, src, f)
		if err := v.ReadAt("m.weight", make([]byte, 4), 0); err == nil {
			t.Errorf("%s: read", name)
		}
		if _, err := v.Affine("m.weight"); err == nil {
			t.Errorf("%s: returned", name)
		}
	}
}

// FuzzConfig feeds arbitrary configs to a small checkpoint: an error or a readable view, never a panic.
func FuzzConfig(f *testing.F) {
	for _, s := range settings() {
		f.Add([]byte(config(f, s)))
	}
	f.Add([]byte(`{"w_bit":4,"q_group_size":16,"modules_to_not_convert":["m"],"version":"GEMM"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := Format{Group: 32}
		v, err := Dense(store(t, s, sample(rand.New(rand.NewPCG(9, 9)), s, 32, 64)), raw)
		if err == nil {
			read(t, v, "m.weight")
		}
	})
}

// FuzzTensors feeds arbitrary shapes and data: an error or a weight that fits together, never a panic.
func FuzzTensors(f *testing.F) {
	f.Add(int8(32), int16(64), int16(4), int16(2), int16(4), int16(32), []byte{1, 2, 3})
	f.Add(int8(-1), int16(77), int16(8), int16(1), int16(8), int16(64), []byte{255})
	f.Fuzz(func(t *testing.T, group int8, rows, width, groups, words, scales int16, data []byte) {
		src := memory{}
		fill := func(n int) []byte {
			b := make([]byte, min(max(n, 0), 1<<16))
			for i := range b {
				if len(data) > 0 {
					b[i] = data[i%len(data)]
				}
			}
			return b
		}
		src.put("m.qweight", formats.I32, fill(4*int(rows)*int(width)), int64(rows), int64(width))
		src.put("m.qzeros", formats.I32, fill(4*int(groups)*int(words)), int64(groups), int64(words))
		src.put("m.scales", formats.F16, fill(2*int(groups)*int(scales)), int64(groups), int64(scales))
		v, err := Dense(src, config(t, Format{Group: int(group)}))
		if err != nil {
			return
		}
		info, _ := v.Lookup("m.weight")
		if n, err := info.Bytes(); err != nil || n > 1<<24 {
			return
		}
		m, err := v.Affine("m.weight")
		if err != nil {
			return
		}
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		want := make([]float32, m.Out*m.In)
		m.Dequantize(want, 0)
		for i, w := range read(t, v, "m.weight") {
			if w != want[i] {
				t.Fatalf("value %d differs", i)
			}
		}
	})
}
