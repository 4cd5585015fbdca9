package awq

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

func TestConfig(t *testing.T) {
	got, err := Format{Group: 64, Symmetric: true}.Config([]string{"a.1.up"}, []string{"a.1.down", "head"})
	want := `{"bits":4,"group_size":64,"modules_to_not_convert":["a.1.down","head"],"quant_method":"awq","version":"gemm","zero_point":true}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
	s, err := ParseConfig(got)
	if err != nil || s.Group != 64 || !slices.Equal(s.Plain, []string{"a.1.down", "head"}) {
		t.Errorf("comes back as %+v, %v", s, err)
	}
	if got, err := (Format{Group: 32}).Config(nil, nil); err != nil || !strings.Contains(string(got), `"modules_to_not_convert":null`) {
		t.Errorf("%s, %v", got, err)
	}
	// Entries name every module whose name contains them.
	if got, err := (Format{Group: 32}).Config([]string{"a.1.up", "lm_head"}, nil); err != nil || !strings.Contains(string(got), `"lm_head":true`) {
		t.Errorf("a quantized head: %s, %v", got, err)
	}
	if _, err := (Format{Group: 32}).Config([]string{"a.1.gate_up"}, []string{"a.1.gate"}); err == nil || !strings.Contains(err.Error(), "a.1.gate_up") {
		t.Errorf("error %v", err)
	}
}

// Older files call settings by other names.
func TestOlderConfig(t *testing.T) {
	f := Format{Group: 32}
	m := sample(rand.New(rand.NewPCG(4, 4)), f, 32, 64)
	for _, config := range []string{
		`{"w_bit":4,"q_group_size":32,"zero_point":true}`,
		`{"w_bit":4,"bits":4,"q_group_size":32,"group_size":32,"version":"GEMM","quant_method":"awq","exllama_config":{"version":2}}`,
		`{"bits":4,"group_size":32,"checkpoint_format":"gemm","quant_method":"AWQ","backend":"autoawq","modules_to_not_convert":null}`,
	} {
		v, err := Dense(store(t, f, m), json.RawMessage(config))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.Affine("m.weight"); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: another weight, %v", config, err)
		}
	}
}

// A module that the config calls plain is read all the same, and told of.
func TestNotes(t *testing.T) {
	f := Format{Group: 32}
	m := sample(rand.New(rand.NewPCG(4, 4)), f, 32, 64)
	v, err := Dense(store(t, f, m), json.RawMessage(`{"bits":4,"group_size":32,"modules_to_not_convert":["x","m"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if n := v.(interface{ Notes() []string }).Notes(); len(n) != 1 || !strings.Contains(n[0], "first m)") {
		t.Errorf("notes %q", n)
	}
	if got, err := v.Affine("m.weight"); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("another weight, %v", err)
	}
}

// Scales of other types, and other tensors, which stay.
func TestOtherTensors(t *testing.T) {
	f := Format{Group: 32}
	for _, dt := range []formats.DType{formats.BF16, formats.F32} {
		m := sample(rand.New(rand.NewPCG(4, 4)), f, 32, 64)
		src := store(t, f, m)
		turned := make([]float32, len(m.Scales))
		for i := range m.Scales {
			m.Scales[i] = formats.BF16ToF32(formats.BF16FromF32(m.Scales[i]))
			turned[i%2*32+i/2] = m.Scales[i]
		}
		b := make([]byte, 64*dt.Size())
		if err := formats.Encode(b, turned, dt); err != nil {
			t.Fatal(err)
		}
		src.put("m.scales", dt, b, 2, 32)
		src.put("m.bias", formats.F16, []byte{1, 2}, 1)
		m.Scale = dt
		v := open(t, src, f)
		if got, err := v.Affine("m.weight"); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: another weight, %v", dt, err)
		}
		if list := v.Tensors(); len(list) != 2 || list[0].Name != "m.bias" || list[1].Name != "m.weight" {
			t.Errorf("tensors %v", list)
		}
		if st, _ := v.Storage("m.weight"); st.Bits != 4+float64(8*dt.Size()+4)/32 {
			t.Errorf("%s: storage %+v", dt, st)
		}
	}
}
