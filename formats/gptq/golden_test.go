package gptq

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"modelpress/formats"
)

// golden is what examples/formatcheck/gptq.py wrote: digests of what AutoGPTQ and GPTQModel make of weights that a generator draws.
type golden struct {
	Out, In int
	Cases   []goldenCase
	Dynamic struct {
		Patterns json.RawMessage            `json:"patterns"`
		Modules  map[string]json.RawMessage `json:"modules"`
	}
}

type goldenCase struct {
	By                   string
	Bits, Group, Version int
	Order, Symmetric     bool
	Lowest               int // the lowest zero point that was drawn
	QWeight, QZeros      string
	Scales, Dense        string
	GIdx                 string   `json:"g_idx"`
	Words                []uint32 // of qzeros, where fields of it ran over
}

func readGolden(t *testing.T) golden {
	t.Helper()
	b, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Cases) < 76 {
		t.Fatalf("%d cases", len(g.Cases))
	}
	return g
}

// series returns n numbers of the generator of gptq.py.
func series(n int, seed uint32) []uint32 {
	list := make([]uint32, n)
	for i := range list {
		seed = seed*1664525 + 1013904223
		list[i] = seed >> 20
	}
	return list
}

// draw returns the weight of a case.
func (c *goldenCase) draw(out, in int) *formats.Affine {
	m := &formats.Affine{Out: out, In: in, Bits: c.Bits, Group: c.Group, Scale: formats.F16}
	g := m.Groups()
	levels, middle := uint32(1)<<c.Bits, 1<<(c.Bits-1)
	for _, x := range series(out*in, uint32(c.Bits)) {
		m.Codes = append(m.Codes, int8(int(x%levels)-middle))
	}
	if !c.Symmetric {
		for _, x := range series(out*g, uint32(c.Bits)+100) {
			m.Zeros = append(m.Zeros, int8(c.Lowest+int(x%(levels-uint32(c.Lowest)))-middle))
		}
	}
	for _, x := range series(out*g, uint32(c.Bits)+200) {
		m.Scales = append(m.Scales, formats.F16ToF32(uint16(0x1C00+x)))
	}
	if c.Order {
		for i := range in {
			m.GIdx = append(m.GIdx, int32((i*5+3)%in/(in/g)))
		}
	}
	return m
}

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func floatBytes(v []float32) []byte {
	b := make([]byte, 4*len(v))
	if err := formats.Encode(b, v, formats.F32); err != nil {
		panic(err)
	}
	return b
}

// The tensors that are written are, bit for bit, those of the software which defines the format, and the values read are those that it
// computes. So that software reads what is written here, and what it writes is read here.
func TestBytesOfOtherSoftware(t *testing.T) {
	g := readGolden(t)
	for _, c := range g.Cases {
		if c.Words != nil {
			continue
		}
		f := Format{Bits: c.Bits, Group: c.Group, V2: c.Version == 2, ActOrder: c.Order, Symmetric: c.Symmetric}
		t.Run(fmt.Sprintf("%s %+v", c.By, f), func(t *testing.T) {
			src := store(t, f, c.draw(g.Out, g.In))
			for name, want := range map[string]string{"m.qweight": c.QWeight, "m.qzeros": c.QZeros, "m.scales": c.Scales, "m.g_idx": c.GIdx} {
				if digest(src[name].Data) != want {
					t.Errorf("%s differs", name)
				}
			}
			if digest(floatBytes(read(t, open(t, src, f), "m.weight"))) != c.Dense {
				t.Error("dequantized weight differs")
			}
		})
	}
}

// GPTQModel writes asymmetric weights of version 1 whose zero points of 0 take from their neighbours, and reads them back. So does this
// package, which does not write them.
func TestZerosThatRunOver(t *testing.T) {
	g := readGolden(t)
	n := 0
	for _, c := range g.Cases {
		if c.Words == nil {
			continue
		}
		n++
		f := Format{Bits: c.Bits, Group: c.Group}
		m := c.draw(g.Out, g.In)
		v2 := f
		v2.V2 = true
		src := store(t, v2, m)
		b := make([]byte, 0, 4*len(c.Words))
		for _, w := range c.Words {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
		if digest(b) != c.QZeros {
			t.Fatal("the golden file contradicts itself")
		}
		src.put("m.qzeros", formats.I32, b, src["m.qzeros"].Shape...)
		v := open(t, src, f)
		if digest(floatBytes(read(t, v, "m.weight"))) != c.Dense {
			t.Errorf("%d bits: dequantized weight differs", c.Bits)
		}
		if notes := v.(interface{ Notes() []string }).Notes(); len(notes) != 1 {
			t.Errorf("%d bits: notes %q", c.Bits, notes)
		}
		if _, err := f.Encode("m", m); err == nil {
			t.Errorf("%d bits: version 1 was written with zero points of 0", c.Bits)
		}
	}
	if n != 4 {
		t.Errorf("%d cases", n)
	}
}

// Patterns of dynamic decide about the same modules as in GPTQModel.
func TestDynamicOfGPTQModel(t *testing.T) {
	g := readGolden(t)
	s, err := ParseConfig(json.RawMessage(`{"bits":4,"group_size":128,"desc_act":false,"dynamic":` + string(g.Dynamic.Patterns) + `}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Dynamic.Modules) != 26 {
		t.Errorf("%d modules", len(g.Dynamic.Modules))
	}
	for name, raw := range g.Dynamic.Modules {
		want := Format{Bits: 4, Group: 128, Symmetric: true}
		got, err := s.Module(name)
		if string(raw) == "false" {
			if err == nil {
				t.Errorf("%s: not excluded", name)
			}
			continue
		}
		var o struct {
			Bits  *int  `json:"bits"`
			Group *int  `json:"group_size"`
			Sym   *bool `json:"sym"`
		}
		if err := json.Unmarshal(raw, &o); err != nil {
			t.Fatal(err)
		}
		if o.Bits != nil {
			want.Bits = *o.Bits
		}
		if o.Group != nil {
			want.Group = *o.Group
		}
		if o.Sym != nil {
			want.Symmetric = *o.Sym
		}
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
}

// Two modules of a checkpoint that AutoGPTQ wrote, and what it dequantizes them to.
func TestCheckpointOfAutoGPTQ(t *testing.T) {
	b, err := os.ReadFile("testdata/autogptq.json")
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Config json.RawMessage `json:"quantization_config"`
		Dense  map[string]struct {
			DType  string  `json:"dtype"`
			SHA256 string  `json:"sha256"`
			Shape  []int64 `json:"shape"`
		} `json:"dense"`
	}
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	v, err := Dense(loadFile(t, "testdata/autogptq.safetensors"), g.Config)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Tensors()) != len(g.Dense) || len(g.Dense) != 3 {
		t.Errorf("view has %d tensors, want %d", len(v.Tensors()), len(g.Dense))
	}
	for name, want := range g.Dense {
		if digest(floatBytes(read(t, v, name))) != want.SHA256 {
			t.Errorf("%s: values differ from those of AutoGPTQ", name)
		}
	}
}
