package prune

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/internal/testmodel"
)

func TestCodecRoundTrip(t *testing.T) {
	cuts := []*Cut{{}, {Layers: make([]CutLayer, 3)}, {Layers: []CutLayer{{Drop: true}, {Scale: -0.1, Heads: Units{Keep: []int{}}, FFN: Units{Scale: []float32{1, 0, float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32}}}}}}
	for _, o := range models() {
		src := testmodel.New(o)
		m := describe(t, src.Config, src)
		for seed := range uint64(3) {
			cuts = append(cuts, randomCut(m, seed, seed > 0))
		}
	}
	for _, c := range cuts {
		raw, err := json.Marshal(struct {
			Cut *Cut `json:"cut"`
		}{c})
		if err != nil {
			t.Fatal(err)
		}
		var back struct{ Cut Cut }
		if err := json.Unmarshal(raw, &back); err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		again, err := json.Marshal(c)
		if err != nil || !reflect.DeepEqual(&back.Cut, c) || `{"cut":`+string(again)+"}" != string(raw) {
			t.Errorf("%s\nbecomes %+v, want %+v", raw, back.Cut, c)
		}
	}
}

func TestCodecText(t *testing.T) {
	odd := &Cut{Hidden: Units{Keep: []int{1, 3, 5, 7, 9, 11, 13, 15}, Scale: []float32{1, 1, 1, 1, 1, 1, 1, 1}}, Layers: []CutLayer{
		{FFN: Units{Keep: []int{0, 1, 2, 3, 9}}, Heads: Units{Keep: []int{4}}, Scale: 1}, {Drop: true}, {}, {Heads: Units{Keep: []int{}}, FFN: Units{Scale: []float32{-2}}}}}
	const want = `{"hidden":{"keep":"xaaaa","scale":"AACAPwAAgD8AAIA/AACAPwAAgD8AAIA/AACAPwAAgD8="},"layers":[{"ffn":{"keep":"0-3,9"},"heads":{"keep":"4"},"scale":"AACAPw=="},` +
		`{"drop":true},{},{"ffn":{"scale":"AAAAwA=="},"heads":{"keep":""}}]}`
	if got, err := json.Marshal(odd); err != nil || string(got) != want {
		t.Errorf("%v\n%s\n%s", err, got, want)
	}
	var back Cut
	if err := json.Unmarshal([]byte(" { \"layers\" : [ { } ] , \"hidden\" : { } } "), &back); err != nil || len(back.Layers) != 1 {
		t.Errorf("white space and order: %v", err)
	}
}

// Half of many units at random take a bit each; neighbours take next to nothing.
func TestCodecIsCompact(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 5))
	u := randomUnits(rnd, 14336, 7168, false)
	s, err := formatUnits(u.Keep)
	if err != nil || len(s) > 14336/4+1 {
		t.Errorf("%d bytes, %v", len(s), err)
	}
	if s, _ := formatUnits(seq(14336)); s != "0-14335" {
		t.Errorf("%.40s", s)
	}
	for range 300 {
		n := 1 + rnd.IntN(60)
		u := randomUnits(rnd, n, rnd.IntN(n+1), false)
		s, err := formatUnits(u.Keep)
		left := 100
		back, e := parseUnits(s, &left)
		if err != nil || e != nil || !slices.Equal(back, u.Keep) || left != 100-len(back) {
			t.Fatalf("%v: %s: %v, %v, %v, %d left", u.Keep, s, back, err, e, left)
		}
	}
}

func TestCodecRefusesCuts(t *testing.T) {
	for want, c := range map[string]Cut{
		"order or bounds": {Hidden: Units{Keep: []int{3, 3}}},
		"unit -1":         {Hidden: Units{Keep: []int{-1}}},
		"unit 4194304":    {Layers: []CutLayer{{FFN: Units{Keep: []int{1 << 22}}}}},
		"scale NaN":       {Layers: []CutLayer{{Scale: float32(math.NaN())}}},
		"scale +Inf":      {Layers: []CutLayer{{Heads: Units{Scale: []float32{float32(math.Inf(1))}}}}},
		"1001 layers":     {Layers: make([]CutLayer, 1001)},
	} {
		if _, err := json.Marshal(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestCodecRefusesText(t *testing.T) {
	hidden := func(s string) string { return `{"hidden":` + s + `,"layers":[]}` }
	keep := func(s string) string { return hidden(`{"keep":"` + s + `"}`) }
	layer := func(s string) string { return `{"hidden":{},"layers":[` + s + `]}` }
	many := strings.Repeat(`{"ffn":{"keep":"0-4194303"}},`, 5)
	for _, c := range []struct{ text, want string }{
		{``, "JSON text ends"},
		{`null`, "an object is due"},
		{`[]`, "an object is due"},
		{`{}x`, "data after"},
		{`{"hidden":{},"hidden":{}}`, "duplicate key"},
		{`{"Hidden":{}}`, "unknown key"},
		{hidden(`{"kept":""}`), "unknown key"},
		{hidden(`[]`), "an object is due"},
		{hidden(`{"keep":[1]}`), "a string is due"},
		{hidden(`{"keep":null}`), "a string is due"},
		{keep("5-"), "no unit"},
		{keep("-5"), "no unit"},
		{keep("1,,2"), "no unit"},
		{keep(","), "no unit"},
		{keep("a"), "no unit"},
		{keep("1-2-3"), "no unit"},
		{keep("99999999999999999999"), "no unit"},
		{keep("3-1"), "out of order"},
		{keep("4194304"), "bounds"},
		{keep("0-99999999999"), "bounds"},
		{keep("0-4611686018427387904"), "bounds"},
		{keep("-9223372036854775808-9223372036854775807"), "no unit"},
		{keep("2,1"), "out of order"},
		{keep("1,1"), "out of order"},
		{keep("1,2"), "shortest"},
		{keep("1-1"), "shortest"},
		{keep("01"), "shortest"},
		{keep("+1"), "shortest"},
		{keep(" 1"), "no unit"},
		{keep("x"), "shortest"},
		{keep("x0"), "shortest"},
		{keep("xf"), "shortest"},
		{keep("x8a"), "shortest"},
		{keep("xAAAA"), "hexadecimal"},
		{keep("xaaaa0"), "shortest"},
		{keep("x" + strings.Repeat("0", 1<<20) + "1"), "bounds"},
		{keep("0,2,4,6,8,10,12,14"), "shortest"},
		{hidden(`{"scale":""}`), "no scales"},
		{hidden(`{"scale":"AACAPw"}`), "base64"},
		{hidden(`{"scale":"AACAPx=="}`), "base64"},
		{hidden(`{"scale":"AACA"}`), "base64"},
		{hidden(`{"scale":"AACA\nPw=="}`), "base64"},
		{hidden(`{"scale":"AADAfw=="}`), "NaN"},
		{hidden(`{"scale":"AACAfw=="}`), "+Inf"},
		{hidden(`{"scale":1}`), "a string is due"},
		{hidden(`{"keep":"0-1","scale":"AACAPw=="}`), "1 scales for 2 units"},
		{hidden(`{"keep":"","scale":"AACAPw=="}`), "1 scales for 0 units"},
		{layer(`null`), "layer 0"},
		{layer(`{},{"drop":false}`), "layer 1: drop is not true"},
		{layer(`{"drop":1}`), "drop is not true"},
		{layer(`{"scale":"AAAAAA=="}`), "not 0"},
		{layer(`{"scale":"AACAPwAAgD8="}`), "one scale"},
		{layer(`{"scale":""}`), "one scale"},
		{layer(`{"layer":{}}`), "unknown key"},
		{layer(`{"heads":{"keep":"x!"}}`), "hexadecimal"},
		{layer(many + `{}`), "bounds"},
		{layer(strings.Repeat(`{},`, 1000) + `{}`), "more than 1000 layers"},
		{layer(strings.Repeat(`[`, 100)), "an object is due"},
	} {
		var cut Cut
		err := cut.UnmarshalJSON([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "prune: decode: ") {
			t.Errorf("%.80s: %v, want %q", c.text, err, c.want)
		}
		if !reflect.DeepEqual(cut, Cut{}) {
			t.Errorf("%.80s: a cut all the same", c.text)
		}
	}
}

func FuzzCut(f *testing.F) {
	for _, c := range []*Cut{{}, {Hidden: Units{Keep: []int{1, 3, 5, 7}}, Layers: []CutLayer{{Drop: true}, {Scale: 2, FFN: Units{Keep: []int{0}, Scale: []float32{3}}}}}} {
		raw, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var c Cut
		if c.UnmarshalJSON(raw) != nil {
			return
		}
		again, err := json.Marshal(c)
		var back Cut
		if err != nil || back.UnmarshalJSON(again) != nil || !reflect.DeepEqual(c, back) {
			t.Errorf("%s becomes %s, %v", raw, again, err)
		}
	})
}

func TestCutCheck(t *testing.T) {
	units := func(keep ...int) Units { return Units{Keep: keep} }
	nan := float32(math.NaN())
	for _, c := range []struct {
		model string
		cut   Cut
		want  string
	}{
		{"llama-gqa", Cut{}, "a cut of 0 layers for a model of 2"},
		{"llama-gqa", Cut{Layers: make([]CutLayer, 3)}, "a cut of 3 layers"},
		{"llama-gqa", Cut{Hidden: units(0, 64), Layers: make([]CutLayer, 2)}, "channels: unit 64 of 64"},
		{"llama-gqa", Cut{Hidden: units(-1), Layers: make([]CutLayer, 2)}, "channels: unit -1 of 64"},
		{"llama-gqa", Cut{Hidden: units(5, 5), Layers: make([]CutLayer, 2)}, "channels: unit 5 stands after 5"},
		{"llama-gqa", Cut{Hidden: units(5, 4), Layers: make([]CutLayer, 2)}, "channels: unit 4 stands after 5"},
		{"llama-gqa", Cut{Hidden: Units{Keep: []int{}}, Layers: make([]CutLayer, 2)}, "channels: none stays"},
		{"llama-gqa", Cut{Hidden: Units{Scale: []float32{1}}, Layers: make([]CutLayer, 2)}, "channels: 1 scales for 64 units"},
		{"llama-gqa", Cut{Hidden: Units{Keep: []int{1, 2}, Scale: []float32{1, nan}}, Layers: make([]CutLayer, 2)}, "channels: scale 1 is NaN"},
		{"llama-gqa", Cut{Layers: []CutLayer{{}, {Scale: nan}}}, "layer 1: scale NaN"},
		{"llama-gqa", Cut{Layers: []CutLayer{{}, {Heads: units(0, 2)}}}, "layer 1: KV heads: unit 2 of 2"},
		{"llama-gqa", Cut{Layers: []CutLayer{{FFN: units(192)}, {}}}, "layer 0: FFN: unit 192 of 192"},
		{"llama-gqa", Cut{Layers: []CutLayer{{FFN: Units{Keep: []int{}, Scale: []float32{1}}}, {}}}, "layer 0: FFN: 1 scales for 0 units"},
		{"llama-gqa", Cut{Layers: []CutLayer{{Drop: true}, {Drop: true}}}, "no layer stays"},
		{"llama-gqa", Cut{Layers: []CutLayer{{Drop: true, Scale: 1}, {}}}, "layer 0: it is dropped"},
		{"llama-gqa", Cut{Layers: []CutLayer{{Drop: true, Heads: Units{Keep: []int{}}}, {}}}, "layer 0: it is dropped"},
		{"llama-gqa", Cut{Layers: []CutLayer{{Drop: true, FFN: Units{Scale: []float32{}}}, {}}}, "layer 0: it is dropped"},
		{"llama-pruned", Cut{Layers: []CutLayer{{}, {Heads: units(0)}, {}, {}}}, "layer 1: KV heads: unit 0 of 0"},
		{"llama-mqa-tied", Cut{Hidden: Units{Keep: []int{1, 2}, Scale: []float32{1, 0}}, Layers: make([]CutLayer, 2)}, "channels: scale 1 is 0"},
		{"gpt2", Cut{Hidden: units(seq(56)...), Layers: make([]CutLayer, 2)}, "layer 0: 8 heads of 8 do not make up 56 channels"},
		{"gpt2", Cut{Hidden: units(seq(56)...), Layers: []CutLayer{{Heads: units(seq(7)...)}, {Heads: units(0)}}}, "layer 1: 1 heads of 8 do not make up 56 channels"},
		{"gpt2", Cut{Layers: []CutLayer{{Heads: Units{Keep: []int{}}}, {Drop: true}}}, "no layer attends"},
	} {
		src := testmodel.Named(c.model)
		m := describe(t, src.Config, src)
		err := c.cut.Check(m)
		if err == nil || !strings.Contains(err.Error(), "prune: "+c.want) {
			t.Errorf("%s: %v, want %q", c.model, err, c.want)
			continue
		}
		if _, _, err := View(src, m, &c.cut); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("view of %s: %v", c.model, err)
		}
	}
	for name, cut := range map[string]Cut{
		"llama-pruned": {Layers: []CutLayer{{Heads: Units{Keep: []int{}}, FFN: Units{Keep: []int{}}}, {Heads: Units{Keep: []int{}}}, {Drop: true}, {}}},
		"llama-gqa":    {Hidden: Units{Keep: []int{7}, Scale: []float32{0}}, Layers: []CutLayer{{Scale: -1}, {Heads: units(1), FFN: units(191)}}},
		"gpt2":         {Hidden: units(seq(56)...), Layers: []CutLayer{{Heads: Units{Keep: []int{}}}, {Heads: units(seq(7)...)}}},
	} {
		src := testmodel.Named(name)
		if err := cut.Check(describe(t, src.Config, src)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
