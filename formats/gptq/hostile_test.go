package gptq

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"modelpress/formats"
)

func TestHostileConfig(t *testing.T) {
	good := `{"bits":4,"group_size":32,"desc_act":false,"sym":true,"quant_method":"gptq","checkpoint_format":"gptq","lm_head":false,` +
		`"pack_dtype":"int32","dynamic":{"+:a":{"bits":8}},"damp_percent":0.01,"meta":{"quantizer":["x:1"]}}`
	for _, c := range []struct{ name, from, to, cause string }{
		{"not JSON", good, "{", ""},
		{"not an object", good, "[]", "an object"},
		{"null", good, "null", "an object"},
		{"duplicate key", `"bits":4,`, `"bits":4,"bits":8,`, "duplicate"},
		{"duplicate key in what is skipped", `{"quantizer":["x:1"]}`, `{"a":1,"a":2}`, "duplicate"},
		{"other method", `"quant_method":"gptq"`, `"quant_method":"awq"`, "quant_method"},
		{"other method by its newer key", `"quant_method":"gptq"`, `"method":"qqq"`, "quant_method"},
		{"no bits", `"bits":4,`, `"BITS":4,`, "bits and group_size"},
		{"no group size", `"group_size"`, `"groupsize"`, "bits and group_size"},
		{"5 bits", `"bits":4`, `"bits":5`, "5 bits"},
		{"negative bits", `"bits":4`, `"bits":-4`, "-4 bits"},
		{"bits as text", `"bits":4`, `"bits":"4"`, "bits"},
		{"bits as a fraction", `"bits":4`, `"bits":4.5`, "bits"},
		{"enormous bits", `"bits":4`, `"bits":99999999999999999999`, "bits"},
		{"no columns in a group", `"group_size":32`, `"group_size":0`, "group size 0"},
		{"negative group", `"group_size":32`, `"group_size":-2`, "group size -2"},
		{"enormous group", `"group_size":32`, `"group_size":9223372036854775807`, "groups"},
		{"marlin", `"checkpoint_format":"gptq"`, `"checkpoint_format":"marlin"`, "marlin"},
		{"planar", `"checkpoint_format":"gptq"`, `"checkpoint_format":"gptq_p"`, "gptq_p"},
		{"marlin by its older key", `"sym":true`, `"is_marlin_format":true`, "Marlin"},
		{"two formats", `"sym":true`, `"format":"gptq_v2"`, "contradict"},
		{"words of 64 bits", `"int32"`, `"int64"`, "pack_dtype"},
		{"sym as a number", `"sym":true`, `"sym":1`, "sym"},
		{"dynamic as a list", `{"+:a":{"bits":8}}`, `[]`, "dynamic"},
		{"dynamic twice the same", `{"+:a":{"bits":8}}`, `{"a":{},"a":{}}`, "duplicate"},
		{"look-ahead", `"+:a"`, `"-:(?!lm_head)"`, "dynamic"},
		{"back reference", `"+:a"`, `"+:(a)\\1"`, "dynamic"},
		{"broken pattern", `"+:a"`, `"-:("`, "dynamic"},
		{"pattern with a closing bracket", `"+:a"`, `"+:a)|(b"`, ""},
		{"dynamic 5 bits", `{"bits":8}`, `{"bits":5}`, "5 bits"},
		{"dynamic group", `{"bits":8}`, `{"group_size":0}`, "group size 0"},
		{"dynamic bits twice", `{"bits":8}`, `{"bits":8,"bits":4}`, "duplicate"},
		{"dynamic words", `{"bits":8}`, `{"pack_dtype":"int8"}`, "pack_dtype"},
		{"nested deep", `["x:1"]`, strings.Repeat("[", 64) + strings.Repeat("]", 64), "too deep"},
		{"data after it", good, good + "{}", "data after"},
	} {
		bad := strings.Replace(good, c.from, c.to, 1)
		if bad == good {
			t.Fatalf("%s: nothing replaced", c.name)
		}
		_, err := Dense(memory{}, json.RawMessage(bad))
		if c.name == "pattern with a closing bracket" {
			continue // a pattern to Go, none to Python; it must not panic
		}
		var e *formats.Error
		if !errors.As(err, &e) || e.File != "config.json" || !strings.Contains(err.Error(), c.cause) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.cause)
		}
	}
	if _, err := Dense(memory{}, json.RawMessage(good)); err != nil {
		t.Errorf("the config itself: %v", err)
	}
}

func TestHostileTensors(t *testing.T) {
	plain := Format{Bits: 4, Group: 32}
	three := Format{Bits: 3, Group: 32}
	ordered := Format{Bits: 4, Group: 32, ActOrder: true}
	idx := func(v ...byte) []byte {
		b := make([]byte, 4*64)
		for i := range 64 {
			b[4*i] = v[i*len(v)/64]
		}
		return b
	}
	for _, c := range []struct {
		name   string
		f      Format
		spoil  func(memory)
		tensor string
	}{
		{"no zero points", plain, func(m memory) { delete(m, "m.qzeros") }, "m.qzeros"},
		{"zero points without codes", plain, func(m memory) { delete(m, "m.qweight"); delete(m, "m.g_idx") }, "m.qzeros"},
		{"order without codes", plain, func(m memory) { delete(m, "m.qweight"); delete(m, "m.qzeros") }, "m.g_idx"},
		{"zero points of another group size", plain, func(m memory) { m.put("m.qzeros", formats.I32, make([]byte, 64), 4, 4) }, "m.qzeros"},
		{"zero points in bytes", plain, func(m memory) { m.put("m.qzeros", formats.U8, make([]byte, 64), 2, 32) }, "m.qzeros"},
		{"no scales", plain, func(m memory) { delete(m, "m.scales") }, "m.scales"},
		{"scales of integers", plain, func(m memory) { m.put("m.scales", formats.I32, make([]byte, 256), 2, 32) }, "m.scales"},
		{"scales of F64", plain, func(m memory) { m.put("m.scales", formats.F64, make([]byte, 512), 2, 32) }, "m.scales"},
		{"scales turned", plain, func(m memory) { m.put("m.scales", formats.F16, make([]byte, 128), 32, 2) }, "m.scales"},
		{"scales of another width", plain, func(m memory) { m.put("m.scales", formats.F16, make([]byte, 160), 2, 40) }, "m.scales"},
		{"codes in bytes", plain, func(m memory) { m.put("m.qweight", formats.U8, make([]byte, 1024), 32, 32) }, "m.qweight"},
		{"codes in one dimension", plain, func(m memory) { m.put("m.qweight", formats.I32, make([]byte, 1024), 256) }, "m.qweight"},
		{"codes in three dimensions", plain, func(m memory) { m.put("m.qweight", formats.I32, make([]byte, 1024), 8, 32, 1) }, "m.qweight"},
		{"no codes", plain, func(m memory) { m.put("m.qweight", formats.I32, nil, 0, 32) }, "m.qweight"},
		{"no columns", plain, func(m memory) { m.put("m.qweight", formats.I32, nil, 8, 0) }, "m.qweight"},
		{"enormous codes", plain, func(m memory) { m.put("m.qweight", formats.I32, nil, 1<<60, 1<<60) }, "m.qweight"},
		{"many codes", plain, func(m memory) { m.put("m.qweight", formats.I32, nil, 1<<26, 1<<30) }, "m.scales"},
		{"rows that words do not hold", plain, func(m memory) { m.put("m.qweight", formats.I32, make([]byte, 32*33), 8, 33) }, "m.qweight"},
		{"columns that groups do not divide", plain, func(m memory) { m.put("m.qweight", formats.I32, make([]byte, 128*9), 9, 32) }, "m.qweight"},
		{"part of a unit of 3 bits", three, func(m memory) { m.put("m.qweight", formats.I32, make([]byte, 128*7), 7, 32) }, "m.qweight"},
		{"short order", plain, func(m memory) { m.put("m.g_idx", formats.I32, make([]byte, 4), 1) }, "m.g_idx"},
		{"order of 64 bits", plain, func(m memory) { m.put("m.g_idx", formats.I64, make([]byte, 512), 64) }, "m.g_idx"},
		{"order out of range", ordered, func(m memory) { m.put("m.g_idx", formats.I32, idx(0, 2), 64) }, "m.g_idx"},
		{"negative order", ordered, func(m memory) { m.put("m.g_idx", formats.I32, bytes.Repeat([]byte{255}, 256), 64) }, "m.g_idx"},
		{"all in one group", ordered, func(m memory) { m.put("m.g_idx", formats.I32, idx(0), 64) }, "m.g_idx"},
		{"all in one group without order", plain, func(m memory) { m.put("m.g_idx", formats.I32, idx(0), 64) }, "m.g_idx"},
		{"uneven groups", ordered, func(m memory) { m.put("m.g_idx", formats.I32, idx(0, 1, 1, 1), 64) }, "m.g_idx"},
		{"no order", ordered, func(m memory) { delete(m, "m.g_idx") }, "m.g_idx"},
		{"dense beside quantized", plain, func(m memory) { m.put("m.weight", formats.F32, make([]byte, 8192), 32, 64) }, "m.weight"},
		{"zero points that end early", plain, func(m memory) { m.put("m.qzeros", formats.I32, make([]byte, 28), 2, 4) }, ""},
		{"order that ends early", plain, func(m memory) { m.put("m.g_idx", formats.I32, make([]byte, 252), 64) }, ""},
	} {
		src := store(t, c.f, sample(rand.New(rand.NewPCG(9, 9)), c.f, 32, 64))
		c.spoil(src)
		_, err := Dense(src, c.f.Config(nil, nil))
		var e *formats.Error
		if err == nil || c.tensor != "" && (!errors.As(err, &e) || e.Tensor != c.tensor) {
			t.Errorf("%s: error %v, want one about %s", c.name, err, c.tensor)
		}
	}
}

// A module that dynamic excludes cannot be quantized.
func TestExcludedModule(t *testing.T) {
	f := Format{Bits: 4, Group: 32}
	src := store(t, f, sample(rand.New(rand.NewPCG(9, 9)), f, 32, 64))
	_, err := Dense(src, f.Config(nil, []string{"m"}))
	var e *formats.Error
	if !errors.As(err, &e) || e.Tensor != "m" || !strings.Contains(err.Error(), "excludes") {
		t.Errorf("error %v", err)
	}
}

// What can only be seen when data is read is an error then.
func TestHostileData(t *testing.T) {
	f := Format{Bits: 4, Group: 32}
	for name, spoil := range map[string]func(memory){
		"infinite scale":       func(m memory) { copy(m["m.scales"].Data[2*33:], []byte{0, 0x7c}) },
		"NaN":                  func(m memory) { copy(m["m.scales"].Data, []byte{1, 0xfe}) },
		"codes that end early": func(m memory) { m.put("m.qweight", formats.I32, make([]byte, 1020), 8, 32) },
		"scales that are cut":  func(m memory) { m.put("m.scales", formats.F16, make([]byte, 100), 2, 32) },
	} {
		src := store(t, f, sample(rand.New(rand.NewPCG(9, 9)), f, 32, 64))
		spoil(src)
		v, err := Dense(src, f.Config(nil, nil))
		if err != nil {
			t.Fatal(err)
		}
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
		f.Add([]byte(s.Config([]string{"m"}, []string{"lm_head", "x.y"})))
	}
	f.Add([]byte(`{"bits":8,"group_size":16,"dynamic":{"+:m":{"bits":4,"group_size":32},"-:(a|b)*$":{}}}`))
	f.Fuzz(func(t *testing.T, config []byte) {
		s := Format{Bits: 4, Group: 32}
		v, err := Dense(store(t, s, sample(rand.New(rand.NewPCG(9, 9)), s, 32, 64)), config)
		if err == nil {
			read(t, v, "m.weight")
		}
	})
}

// FuzzTensors feeds arbitrary shapes and data: an error or a weight that fits together, never a panic.
func FuzzTensors(f *testing.F) {
	f.Add(uint8(4), int8(32), int16(8), int16(32), int16(2), int16(4), int16(32), []byte{1, 2, 3}, true, false)
	f.Add(uint8(3), int8(-1), int16(6), int16(64), int16(1), int16(6), int16(64), []byte{255}, false, true)
	f.Add(uint8(8), int8(16), int16(16), int16(32), int16(4), int16(8), int16(32), []byte{}, true, true)
	f.Fuzz(func(t *testing.T, bits uint8, group int8, rows, out, groups, words, scales int16, data []byte, order, v2 bool) {
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
		src.put("m.qweight", formats.I32, fill(4*int(rows)*int(out)), int64(rows), int64(out))
		src.put("m.qzeros", formats.I32, fill(4*int(groups)*int(words)), int64(groups), int64(words))
		src.put("m.scales", formats.F16, fill(2*int(groups)*int(scales)), int64(groups), int64(scales))
		if order {
			src.put("m.g_idx", formats.I32, fill(4*int(rows)*8), int64(rows)*8)
		}
		s := Format{Bits: int(bits), Group: int(group), V2: v2, ActOrder: order, Symmetric: len(data)%2 == 0}
		v, err := Dense(src, s.Config(nil, nil))
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
