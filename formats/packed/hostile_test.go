package packed

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"reflect"
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

// FuzzDense feeds arbitrary configs to a small checkpoint: an error or a readable view, never a panic.
func FuzzDense(f *testing.F) {
	for _, s := range []Scheme{{4, 32, true}, {8, -1, false}} {
		f.Add([]byte(configOf(s, []string{"lm_head", "re:.*x"})))
	}
	f.Fuzz(func(t *testing.T, config []byte) {
		_, _, _, src := sample(t, 8, 64, Scheme{4, 32, true}, formats.F32)
		view, err := Dense(src, config)
		if err != nil {
			return
		}
		for _, info := range view.Tensors() {
			if info.Name == "m.weight" {
				readAll(t, view, info.Name)
			}
		}
	})
}
