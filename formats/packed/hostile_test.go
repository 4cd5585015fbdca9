package packed

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

func TestConfigHasEveryField(t *testing.T) {
	var got, want any
	if err := json.Unmarshal(configOf(Scheme{4, 128, true}, []string{"lm_head"}), &got); err != nil {
		t.Fatal(err)
	}
	const text = `{"config_groups":{"group_0":{"format":"pack-quantized","input_activations":null,"output_activations":null,
		"targets":["Linear"],"weights":{"actorder":null,"block_structure":null,"dynamic":false,"group_size":128,"num_bits":4,
		"observer":"memoryless_minmax","observer_kwargs":{},"scale_dtype":null,"strategy":"group","symmetric":true,
		"type":"int","zp_dtype":null}}},"format":"pack-quantized","global_compression_ratio":null,"ignore":["lm_head"],
		"kv_cache_scheme":null,"quant_method":"compressed-tensors","quantization_status":"compressed","sparsity_config":{},
		"transform_config":{},"version":"0.18.0"}`
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	channel := string(configOf(Scheme{8, -1, false}, nil))
	for _, part := range []string{`"group_size":null`, `"strategy":"channel"`, `"zp_dtype":"torch.int8"`, `"ignore":[]`} {
		if !strings.Contains(channel, part) {
			t.Errorf("no %s in %s", part, channel)
		}
	}
}

func TestRules(t *testing.T) {
	cfg := `{"quant_method":"compressed-tensors","format":"pack-quantized","ignore":["re:.*head$"],"config_groups":{
		"b":{"targets":["re:model\\..*down_proj"],"weights":{"num_bits":8,"group_size":64}},
		"a":{"targets":["Linear"],"weights":{"num_bits":4,"strategy":"channel"},"input_activations":null}}}`
	r, err := parseRules(json.RawMessage(cfg))
	if err != nil {
		t.Fatal(err)
	}
	for module, bits := range map[string]int{"model.layers.0.down_proj": 8, "xmodel.down_proj": 4, "model.q_proj": 4} {
		if st, err := r.find(module); err != nil || st.Bits != bits {
			t.Errorf("%s: %v, %v", module, st, err)
		}
	}
	if _, err := r.find("lm_head"); err == nil {
		t.Error("an ignored module was found")
	}
}

func TestHostileConfig(t *testing.T) {
	good := string(configOf(Scheme{4, 32, true}, nil))
	for _, c := range []struct{ name, from, to string }{
		{"not JSON", good, "{"},
		{"not an object", good, "[]"},
		{"null", good, "null"},
		{"duplicate key", `"format":"pack-quantized"`, `"format":"dense","format":"pack-quantized"`},
		{"other method", `"compressed-tensors"`, `"gptq"`},
		{"no groups", `"config_groups"`, `"config_group"`},
		{"empty groups", `"config_groups":{`, `"config_groups":{},"old":{`},
		{"groups of the wrong type", `"config_groups":{`, `"config_groups":[],"old":{`},
		{"unknown format", `"format":"pack-quantized","input`, `"format":"marlin-24","input`},
		{"unknown key in weights", `"actorder":null`, `"act_order":null`},
		{"key in capitals", `"num_bits":4`, `"NUM_BITS":4`},
		{"bits given twice", `"num_bits":4`, `"num_bits":8,"num_bits":4`},
		{"unknown key in group", `"input_activations":null`, `"inputs":null`},
		{"3 bits", `"num_bits":4`, `"num_bits":3`},
		{"negative bits", `"num_bits":4`, `"num_bits":-4`},
		{"bits of the wrong type", `"num_bits":4`, `"num_bits":"4"`},
		{"float type", `"type":"int"`, `"type":"float"`},
		{"negative group", `"group_size":32`, `"group_size":-32`},
		{"zero group", `"group_size":32`, `"group_size":0`},
		{"block strategy", `"strategy":"group"`, `"strategy":"block"`},
		{"channel with a group size", `"strategy":"group"`, `"strategy":"channel"`},
		{"unknown order", `"actorder":null`, `"actorder":"sideways"`},
		{"dynamic weights", `"dynamic":false`, `"dynamic":true`},
		{"static inputs", `"input_activations":null`, `"input_activations":{"num_bits":8,"dynamic":false}`},
		{"outputs", `"output_activations":null`, `"output_activations":{"num_bits":8,"dynamic":true}`},
		{"KV cache", `"kv_cache_scheme":null`, `"kv_cache_scheme":{"num_bits":8}`},
		{"sparsity", `"sparsity_config":{}`, `"sparsity_config":{"format":"sparse-bitmask"}`},
		{"online rotation", `"transform_config":{}`, `"transform_config":{"config_groups":{"R4":{"apply":[{"location":"input"}]}}}`},
		{"bad pattern", `"ignore":[]`, `"ignore":["re:("]`},
		{"not compressed", `"compressed"`, `"frozen"`},
	} {
		bad := strings.Replace(good, c.from, c.to, 1)
		if bad == good {
			t.Fatalf("%s: nothing replaced", c.name)
		}
		_, err := Dense(memory{}, json.RawMessage(bad))
		var e *formats.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: error %v", c.name, err)
		}
	}
	if _, err := Dense(memory{}, json.RawMessage(good)); err != nil {
		t.Errorf("the config itself: %v", err)
	}
}

func TestHostileTensors(t *testing.T) {
	sym, asym, channel := Scheme{4, 32, true}, Scheme{4, 32, false}, Scheme{8, -1, true}
	i64 := func(a, b int64) []byte {
		return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(a)), uint64(b))
	}
	for _, c := range []struct {
		name   string
		s      Scheme
		spoil  func(memory)
		tensor string
	}{
		{"no shape", sym, func(m memory) { delete(m, "m.weight_shape") }, "m.weight_shape"},
		{"shape of three", sym, func(m memory) { m.put("m.weight_shape", formats.I64, make([]byte, 24), 3) }, "m.weight_shape"},
		{"negative shape", sym, func(m memory) { m.put("m.weight_shape", formats.I64, i64(-8, 64), 2) }, "m.weight"},
		{"enormous shape", sym, func(m memory) { m.put("m.weight_shape", formats.I64, i64(1<<60, 1<<60), 2) }, "m.weight"},
		{"other rows", sym, func(m memory) { m.put("m.weight_shape", formats.I64, i64(9, 64), 2) }, "m.weight_scale"},
		{"other columns", sym, func(m memory) { m.put("m.weight_shape", formats.I64, i64(8, 96), 2) }, "m.weight_scale"},
		{"columns that groups do not divide", sym, func(m memory) { m.put("m.weight_shape", formats.I64, i64(8, 65), 2) }, "m.weight"},
		{"columns that words do not hold", channel, func(m memory) { m.put("m.weight_shape", formats.I64, i64(8, 65), 2) }, "m.weight_packed"},
		{"no scale", sym, func(m memory) { delete(m, "m.weight_scale") }, "m.weight_scale"},
		{"integer scale", sym, func(m memory) { m.put("m.weight_scale", formats.I32, make([]byte, 64), 8, 2) }, "m.weight_scale"},
		{"flat scale", sym, func(m memory) { m.put("m.weight_scale", formats.F32, make([]byte, 64), 16) }, "m.weight_scale"},
		{"packed as bytes", sym, func(m memory) { m.put("m.weight_packed", formats.U8, make([]byte, 256), 8, 32) }, "m.weight_packed"},
		{"scale without codes", sym, func(m memory) { delete(m, "m.weight_packed") }, "m.weight_scale"},
		{"dense beside packed", sym, func(m memory) { m.put("m.weight", formats.F32, make([]byte, 2048), 8, 64) }, "m.weight"},
		{"zero points of a symmetric scheme", sym, func(m memory) { m.put("m.weight_zero_point", formats.I32, make([]byte, 8), 1, 2) }, "m.weight_zero_point"},
		{"no zero points", asym, func(m memory) { delete(m, "m.weight_zero_point") }, "m.weight_zero_point"},
		{"unpacked zero points", asym, func(m memory) { m.put("m.weight_zero_point", formats.I8, make([]byte, 16), 8, 2) }, "m.weight_zero_point"},
		{"short column order", sym, func(m memory) { m.put("m.weight_g_idx", formats.I32, make([]byte, 4), 1) }, "m.weight_g_idx"},
		{"column order out of range", sym, func(m memory) {
			m.put("m.weight_g_idx", formats.I32, bytes.Repeat([]byte{2, 0, 0, 0}, 64), 64)
		}, "m.weight_g_idx"},
		{"column order of one group", channel, func(m memory) { m.put("m.weight_g_idx", formats.I32, make([]byte, 256), 64) }, "m.weight_g_idx"},
		{"int8 weight in a packed checkpoint", sym, func(m memory) { m.put("n.weight", formats.I8, make([]byte, 64), 1, 64) }, "n.weight"},
	} {
		_, _, _, src := sample(t, 8, 64, c.s, formats.F32)
		c.spoil(src)
		_, err := Dense(src, configOf(c.s, nil))
		var e *formats.Error
		if !errors.As(err, &e) || e.Tensor != c.tensor {
			t.Errorf("%s: error %v, want one about %s", c.name, err, c.tensor)
		}
	}
}

func TestHostileFloatConfig(t *testing.T) {
	config := func(f Float) string { return string(Config([]GroupConfig{{Setting: f}}, nil)) }
	block, tensor := config(Float{FormatFloat, StrategyBlock, formats.BF16}), config(Float{FormatFloat, StrategyTensor, formats.BF16})
	nv, mx := config(Float{Format: FormatNVFP4}), config(Float{Format: FormatMXFP4})
	fp8 := `{"quant_method":"fp8","fmt":"e4m3","activation_scheme":"dynamic","weight_block_size":[128,128]}`
	opt := `{"quant_method":"modelopt","quant_algo":"NVFP4","kv_cache_scheme":null}`
	own := `{"producer":{"name":"modelopt"},"quantization":{"quant_algo":"FP8","kv_cache_quant_algo":null}}`
	for _, c := range []struct{ name, good, from, to string }{
		{"no block structure", block, `"block_structure":[128,128]`, `"block_structure":null`},
		{"block structure of one", block, `"block_structure":[128,128]`, `"block_structure":[128]`},
		{"negative block", block, `"block_structure":[128,128]`, `"block_structure":[128,-128]`},
		{"enormous block", block, `"block_structure":[128,128]`, `"block_structure":[128,4294967296]`},
		{"block of a half", block, `"block_structure":[128,128]`, `"block_structure":[128,0.5]`},
		{"block in words", block, `"block_structure":[128,128]`, `"block_structure":"128 by 128"`},
		{"integer codes", block, `"type":"float","zp_dtype":null}}}`, `"type":"int","zp_dtype":null}}}`},
		{"4 bits of FP8", tensor, `"num_bits":8`, `"num_bits":4`},
		{"zero points of FP8", tensor, `"symmetric":true`, `"symmetric":false`},
		{"an order of FP8", tensor, `"weights":{"actorder":null`, `"weights":{"actorder":"group"`},
		{"tensor with a group size", tensor, `"weights":{"actorder":null,"block_structure":null,"dynamic":false,"group_size":null`, `"weights":{"actorder":null,"block_structure":null,"dynamic":false,"group_size":64`},
		{"tokens of weights", tensor, `"strategy":"tensor"`, `"strategy":"token"`},
		{"local activations of FP8", tensor, `"dynamic":true`, `"dynamic":"local"`},
		{"dynamic of another kind", tensor, `"dynamic":true`, `"dynamic":3`},
		{"groups of 32 in NVFP4", nv, `"group_size":16`, `"group_size":32`},
		{"plain groups in NVFP4", nv, `"strategy":"tensor_group"`, `"strategy":"group"`},
		{"8 bits in NVFP4", nv, `"num_bits":4`, `"num_bits":8`},
		{"zero points in NVFP4", nv, `"symmetric":true`, `"symmetric":false`},
		{"groups of 16 in MXFP4", mx, `"group_size":32`, `"group_size":16`},
		{"static activations in MXFP4", mx, `"input_activations":null`, `"input_activations":{"num_bits":4,"type":"float","dynamic":false}`},
		{"mixed format of a group", mx, `"format":"mxfp4-pack-quantized","input`, `"format":"mixed-precision","input`},
		{"no format of a group", strings.Replace(mx, `"format":"mxfp4-pack-quantized","global`, `"format":"mixed-precision","global`, 1), `"format":"mxfp4-pack-quantized","input`, `"format":null,"input`},
		{"no weights", mx, `"weights":{`, `"weights":null,"old":{`},
		{"other FP8", fp8, `"fmt":"e4m3"`, `"fmt":"e5m2"`},
		{"block of three", fp8, `[128,128]`, `[128,128,128]`},
		{"block of zero", fp8, `[128,128]`, `[0,128]`},
		{"block of the wrong type", fp8, `[128,128]`, `"128x128"`},
		{"keys given twice", fp8, `"fmt":"e4m3"`, `"fmt":"e4m3","fmt":"e4m3"`},
		{"other algorithm", opt, `"NVFP4"`, `"W4A8_AWQ"`},
		{"no algorithm", opt, `"quant_algo"`, `"algo"`},
		{"KV cache of ModelOpt", opt, `"kv_cache_scheme":null`, `"kv_cache_scheme":{"num_bits":8}`},
		{"KV cache of hf_quant_config.json", own, `"kv_cache_quant_algo":null`, `"kv_cache_quant_algo":"FP8"`},
		{"quantization of the wrong type", own, `"quantization":{`, `"quantization":[],"old":{`},
	} {
		at := strings.LastIndex(c.good, c.from) // weights stand behind activations
		if at < 0 {
			t.Fatalf("%s: nothing to replace in %s", c.name, c.good)
		}
		bad := c.good[:at] + c.to + c.good[at+len(c.from):]
		var e *formats.Error
		if _, err := Dense(memory{}, json.RawMessage(bad)); !errors.As(err, &e) {
			t.Errorf("%s: error %v", c.name, err)
		}
		if _, err := Dense(memory{}, json.RawMessage(c.good)); err != nil {
			t.Errorf("%s: the config itself: %v", c.name, err)
		}
	}
}

// What configs of other writers may say, and is read.
func TestConfigsOfOthers(t *testing.T) {
	tensor := func(dt formats.DType, extra ...string) memory {
		m := memory{}
		m.put("m.weight", formats.F8E4M3, []byte{0x38, 0xb8, 0x7e, 1}, 2, 2)
		scale := make([]byte, dt.Size())
		if err := formats.Encode(scale, []float32{0.5}, dt); err != nil {
			t.Fatal(err)
		}
		m.put("m.weight_scale", dt, scale)
		for _, name := range extra {
			m.put("m."+name, formats.F32, f32Bytes(2), 1)
		}
		return m
	}
	args := `"weights":{"num_bits":8,"type":"float"}`
	ct := func(inside string) string {
		return `{"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{"a":{"targets":["Linear"],` + inside + `}}}`
	}
	for _, c := range []struct {
		name, config string
		src          memory
		show         formats.DType
	}{
		{"a tensor without a strategy", ct(args), tensor(formats.F16), formats.F16},
		{"static activations", ct(args + `,"input_activations":{"num_bits":8,"type":"float","dynamic":false}`), tensor(formats.BF16, "input_scale"), formats.BF16},
		{"static activations by default", ct(args + `,"input_activations":{"num_bits":8,"type":"float"}`), tensor(formats.F32, "input_scale"), formats.F32},
		{"static activations that are not there", ct(args + `,"input_activations":{"num_bits":8,"type":"float"}`), tensor(formats.F32), formats.F32},
		{"AutoFP8", `{"quant_method":"fp8","activation_scheme":"static"}`, tensor(formats.F32, "input_scale"), formats.BF16},
		{"ModelOpt FP8", `{"quant_method":"modelopt","quant_algo":"FP8","ignore":["lm_head"]}`, tensor(formats.F32, "input_scale"), formats.BF16},
		{"hf_quant_config.json", `{"producer":{"name":"modelopt"},"quantization":{"quant_algo":"FP8","exclude_modules":["lm_head"]}}`, tensor(formats.F32, "input_scale"), formats.BF16},
	} {
		c.src.put("lm_head.weight", formats.BF16, []byte{0, 0}, 1, 1)
		view, err := Dense(c.src, json.RawMessage(c.config))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if list := view.Tensors(); len(list) != 2 || list[1].DType != c.show {
			t.Errorf("%s: shows %v", c.name, list)
		}
		got := make([]float32, 4)
		if err := formats.ReadF32(view, "m.weight", got, 0); err != nil || got[0] != 0.5 || got[1] != -0.5 || got[2] != 224 || got[3] != 0x1p-10 {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
		if st, ok := view.Storage("m.weight"); !ok || st.Grid || st.Code != 0 || st.Group != 0 || st.Bits != 8+8*float64(c.src["m.weight_scale"].DType.Size())/4 {
			t.Errorf("%s: storage %+v", c.name, st)
		}
		if _, ok := view.Storage("lm_head.weight"); ok {
			t.Errorf("%s: a plain tensor has a storage", c.name)
		}
		if _, err := view.Affine("m.weight"); err == nil {
			t.Errorf("%s: floats as integers", c.name)
		}
	}
	// Blocks as old releases wrote them.
	e := `{"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{"a":{"targets":["Linear"],
		"weights":{"num_bits":8,"type":"float","strategy":"block","block_structure":"1x2"}}}}`
	src := memory{}
	src.put("m.weight", formats.F8E4M3, []byte{0x38, 0x38, 0x38, 0x38, 0x38, 0x38}, 2, 3)
	src.put("m.weight_scale", formats.F32, f32Bytes(1, 2, 3, 4), 2, 2)
	view, err := Dense(src, json.RawMessage(e))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 6)
	if err := formats.ReadF32(view, "m.weight", got, 0); err != nil || !slices.Equal(got, []float32{1, 1, 2, 3, 3, 4}) {
		t.Errorf("blocks of 1x2: %v, %v", got, err)
	}
}
