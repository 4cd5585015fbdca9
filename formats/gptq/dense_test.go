package gptq

import (
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

func notes(v formats.Quantized) []string { return v.(interface{ Notes() []string }).Notes() }

// relabel returns the config of a format with another checkpoint_format.
func relabel(f Format, label string) json.RawMessage {
	c := string(f.Config([]string{"m"}, nil))
	return json.RawMessage(strings.Replace(c, `"checkpoint_format":"`+f.name()+`"`, label, 1))
}

// Zero points of one version under the label of the other are found where the weight is symmetric.
func TestMislabelledZeros(t *testing.T) {
	for _, bits := range []int{2, 3, 4, 8} {
		for _, v2 := range []bool{false, true} {
			f := Format{Bits: bits, Group: 32, V2: v2, Symmetric: true}
			m := sample(rand.New(rand.NewPCG(1, uint64(bits))), f, 64, 96)
			want := make([]float32, 64*96)
			m.Dequantize(want, 0)
			other := Format{V2: !v2}.name()
			v, err := Dense(store(t, f, m), relabel(f, `"checkpoint_format":"`+other+`"`))
			if err != nil {
				t.Fatal(err)
			}
			if st, _ := v.Storage("m.weight"); st.Format != f.name() || !st.Symmetric || !slices.Equal(read(t, v, "m.weight"), want) {
				t.Errorf("%+v: storage %+v, or values differ", f, st)
			}
			if n := notes(v); len(n) != 1 || !strings.Contains(n[0], "those of "+f.name()) || !strings.Contains(n[0], "says "+other) {
				t.Errorf("%+v: notes %q", f, n)
			}
			// The same zero points of a weight that is said to be asymmetric are what the label makes of them.
			c := strings.Replace(string(relabel(f, `"checkpoint_format":"`+other+`"`)), `"sym":true`, `"sym":false`, 1)
			if v, err = Dense(store(t, f, m), json.RawMessage(c)); err != nil {
				t.Fatal(err)
			}
			st, _ := v.Storage("m.weight")
			a := mustAffine(t, v)
			want1 := int8(1)
			if !v2 {
				want1 = -1
			}
			if st.Format != other || st.Symmetric || a.Zeros == nil || a.Zeros[0] != want1 || len(notes(v)) != 1 {
				t.Errorf("%+v as asymmetric: storage %+v, zero point %v, notes %q", f, st, a.Zeros, notes(v))
			}
		}
	}
}

// Without a label the version is the first.
func TestNoLabel(t *testing.T) {
	f := Format{Bits: 4, Group: 32}
	m := sample(rand.New(rand.NewPCG(2, 2)), f, 32, 64)
	for _, label := range []string{`"x":1`, `"checkpoint_format":null`, `"format":"gptq"`, `"checkpoint_format":"GPTQ"`} {
		v, err := Dense(store(t, f, m), relabel(f, label))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(mustAffine(t, v), m) {
			t.Errorf("%s: another weight", label)
		}
	}
}

func TestNotes(t *testing.T) {
	asymmetric := Format{Bits: 4, Group: 32, V2: true}
	for _, c := range []struct {
		name string
		f    Format
		from string // of the config
		to   string
		want string
	}{
		{"asymmetric although symmetric", asymmetric, `"sym":false`, `"sym":true`, "zero points differ, although sym is true"},
		{"order although none", Format{Bits: 4, Group: 32, V2: true, ActOrder: true}, `"desc_act":true`, `"desc_act":false`, "order of their own, although desc_act is false"},
		{"nothing", asymmetric, "bits", "bits", ""},
	} {
		m := sample(rand.New(rand.NewPCG(3, 3)), c.f, 32, 64)
		v, err := Dense(store(t, c.f, m), json.RawMessage(strings.Replace(string(c.f.Config(nil, nil)), c.from, c.to, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if n := notes(v); c.want == "" && n != nil || c.want != "" && (len(n) != 1 || !strings.Contains(n[0], c.want) || !strings.Contains(n[0], "first m)")) {
			t.Errorf("%s: notes %q", c.name, n)
		}
		if !reflect.DeepEqual(mustAffine(t, v), m) {
			t.Errorf("%s: another weight", c.name)
		}
	}
}

// The output head is quantized where lm_head says so.
func TestOutputHead(t *testing.T) {
	f := Format{Bits: 4, Group: 32}
	src := memory{}
	list, err := f.Encode("lm_head", sample(rand.New(rand.NewPCG(3, 3)), f, 32, 64))
	if err != nil {
		t.Fatal(err)
	}
	src.add(list)
	for config, want := range map[string]int{string(f.Config([]string{"lm_head"}, nil)): 0, string(f.Config(nil, []string{"lm_head"})): 1} {
		v, err := Dense(src, json.RawMessage(config))
		if err != nil {
			t.Fatal(err)
		}
		if len(notes(v)) != want {
			t.Errorf("%s: notes %q", config, notes(v))
		}
	}
}

// A g_idx that puts all columns in order is none; a missing one is allowed where desc_act is not true.
func TestColumnOrder(t *testing.T) {
	f := Format{Bits: 4, Group: 32, ActOrder: true}
	m := sample(rand.New(rand.NewPCG(4, 4)), Format{Bits: 4, Group: 32}, 32, 64)
	src := store(t, f, m)
	v := open(t, src, f)
	if st, _ := v.Storage("m.weight"); st.Ordered || mustAffine(t, v).GIdx != nil {
		t.Errorf("storage %+v", st)
	}
	delete(src, "m.g_idx")
	for _, label := range []string{`"desc_act":false`, `"desc_act":null`, `"x":0`} {
		c := strings.Replace(string(f.Config(nil, nil)), `"desc_act":true`, label, 1)
		if v, err := Dense(src, json.RawMessage(c)); err != nil || !reflect.DeepEqual(mustAffine(t, v), m) {
			t.Errorf("%s: %v", label, err)
		}
	}
}

// Scales of other types, and a group wider than the weight, as AutoGPTQ has them.
func TestOtherScales(t *testing.T) {
	f := Format{Bits: 4, Group: -1}
	for _, dt := range []formats.DType{formats.BF16, formats.F32} {
		m := sample(rand.New(rand.NewPCG(4, 4)), f, 32, 64)
		src := store(t, f, m)
		b := make([]byte, 32*dt.Size())
		for i := range m.Scales {
			m.Scales[i] = formats.BF16ToF32(formats.BF16FromF32(m.Scales[i]))
		}
		if err := formats.Encode(b, m.Scales, dt); err != nil {
			t.Fatal(err)
		}
		src.put("m.scales", dt, b, 1, 32)
		m.Scale = dt
		c := strings.Replace(string(f.Config(nil, nil)), `"group_size":-1`, `"group_size":128`, 1)
		v, err := Dense(src, json.RawMessage(c))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(mustAffine(t, v), m) {
			t.Errorf("%s: another weight", dt)
		}
		if st, _ := v.Storage("m.weight"); st.Group != -1 || st.Bits != 4+float64(8*dt.Size()+4)/64+32.0/32 {
			t.Errorf("%s: storage %+v", dt, st)
		}
	}
}

// Modules of the class Conv1D are shown [in, out], with the values that they have as [out, in].
func TestConv1D(t *testing.T) {
	f := Format{Bits: 4, Group: 32, V2: true, ActOrder: true}
	m := sample(rand.New(rand.NewPCG(4, 4)), f, 96, 64)
	src := store(t, f, m)
	v, err := DenseConv1D(src, f.Config(nil, nil), func(module string) bool { return module == "m" })
	if err != nil {
		t.Fatal(err)
	}
	info, _ := v.Lookup("m.weight")
	if !slices.Equal(info.Shape, []int64{64, 96}) || !reflect.DeepEqual(mustAffine(t, v), m) {
		t.Errorf("shape %v, or another weight", info.Shape)
	}
	got, plain := read(t, v, "m.weight"), read(t, open(t, src, f), "m.weight")
	for o := range 96 {
		for i := range 64 {
			if got[i*96+o] != plain[o*64+i] {
				t.Fatalf("value [%d, %d] differs", i, o)
			}
		}
	}
}

// Other tensors stay, biases too.
func TestOtherTensorsStay(t *testing.T) {
	f := Format{Bits: 4, Group: 32}
	src := store(t, f, sample(rand.New(rand.NewPCG(4, 4)), f, 32, 64))
	src.put("m.bias", formats.F16, []byte{1, 2}, 1)
	src.put("norm.weight", formats.F32, []byte{1, 2, 3, 4}, 1)
	src.put("scores.scales", formats.F32, []byte{1, 2, 3, 4}, 1)
	v := open(t, src, f)
	var names []string
	for _, info := range v.Tensors() {
		names = append(names, info.Name)
	}
	if !slices.Equal(names, []string{"m.bias", "m.weight", "norm.weight", "scores.scales"}) {
		t.Errorf("tensors %v", names)
	}
	if _, ok := v.Storage("m.bias"); ok {
		t.Error("a bias is quantized")
	}
}

func TestConfig(t *testing.T) {
	f := Format{Bits: 3, Group: 64, V2: true, ActOrder: true}
	got := string(f.Config([]string{"a.1.up"}, []string{"lm_head", "a.1.down"}))
	want := `{"bits":3,"checkpoint_format":"gptq_v2","desc_act":true,"dynamic":{"-:^a\\.1\\.down$":{}},"group_size":64,"lm_head":false,` +
		`"pack_dtype":"int32","quant_method":"gptq","sym":false}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, f := range settings() {
		s, err := ParseConfig(f.Config([]string{"a.up", "b.lm_head"}, []string{"a.down", "a.up2"}))
		if err != nil {
			t.Fatal(err)
		}
		if s.Format != f || !s.LMHead || len(s.Dynamic) != 2 {
			t.Errorf("%+v comes back as %+v", f, s)
		}
		for name, quantized := range map[string]bool{"a.up": true, "a.down": false, "a.up2": false, "a.up22": true, "x.a.up2": true, "a_down": true} {
			if got, err := s.Module(name); (err == nil) != quantized || quantized && got != f {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
	// The names are matched literally by Python's re too, whose escapes are the same.
	if p := regexp.QuoteMeta("a.b-c_d/e+1"); p != `a\.b-c_d/e\+1` {
		t.Errorf("pattern %s", p)
	}
}

// Modules that dynamic gives other bits are read with them.
func TestDynamic(t *testing.T) {
	base := Format{Bits: 4, Group: 32, V2: true}
	src := memory{}
	want := map[string]*formats.Affine{}
	for i, c := range []struct {
		name string
		f    Format
	}{
		{"a.up", base}, {"a.down", Format{Bits: 8, Group: 64, V2: true, Symmetric: true}}, {"b.up", Format{Bits: 2, Group: -1, V2: true, ActOrder: true}},
		{"b.down", Format{Bits: 3, Group: 16, V2: true, ActOrder: true}},
	} {
		m := sample(rand.New(rand.NewPCG(6, uint64(i))), c.f, 32, 64)
		list, err := c.f.Encode(c.name, m)
		if err != nil {
			t.Fatal(err)
		}
		src.add(list)
		want[c.name] = m
	}
	src.put("c.up.weight", formats.F32, make([]byte, 4), 1)
	config := `{"bits":4,"group_size":32,"checkpoint_format":"gptq_v2","sym":false,"desc_act":false,"quant_method":"gptq","dynamic":{
		"-:c\\.":{}, "+:a\\.down":{"bits":8,"group_size":64,"sym":true,"mse":2.4}, "b\\.up":{"bits":2,"group_size":-1},
		".*down$":{"bits":3,"group_size":16,"desc_act":true}}}`
	v, err := Dense(src, json.RawMessage(config))
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range want {
		got, err := v.Affine(name + ".weight")
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: another weight, %v", name, err)
		}
	}
	if n := notes(v); n != nil {
		t.Errorf("notes %q", n)
	}
}

// The words of a file are read little-endian whatever the offset: a read past the end fails.
func TestReadPastTheEnd(t *testing.T) {
	f := Format{Bits: 4, Group: 32}
	v := open(t, store(t, f, sample(rand.New(rand.NewPCG(4, 4)), f, 32, 64)), f)
	b := make([]byte, 4)
	if err := v.ReadAt("m.weight", b, 4*32*64-4); err != nil || binary.LittleEndian.Uint32(b) == 0 {
		t.Errorf("last value: %v, %v", b, err)
	}
	if err := v.ReadAt("m.weight", b, 4*32*64-3); err == nil {
		t.Error("a read past the end succeeded")
	}
}
