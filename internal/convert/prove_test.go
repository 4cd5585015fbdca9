package convert

import (
	"slices"
	"testing"

	"modelpress/formats"
	"modelpress/formats/ggml"
	"modelpress/internal/llamacpp"
	"modelpress/internal/pipeline"
)

// onGrid is a quantized source of one weight.
type onGrid struct {
	memory
	m *formats.Affine
}

func (g onGrid) Storage(string) (formats.Storage, bool) {
	return formats.Storage{Format: "test", Code: g.m.Bits, Group: g.m.Group, Symmetric: g.m.Zeros == nil, Grid: true}, true
}

func (g onGrid) Affine(string) (*formats.Affine, error) { return g.m, nil }

// The proof finds one code that is off, and rows in an order that is not llama.cpp's.
func TestProofFindsFaults(t *testing.T) {
	m := &formats.Affine{Out: 16, In: 64, Bits: 4, Group: 32, Scale: formats.F16, Codes: make([]int8, 16*64), Scales: make([]float32, 32)}
	for i := range m.Codes {
		m.Codes[i] = int8(i*7%16 - 8)
	}
	for i := range m.Scales {
		m.Scales[i] = float32(i+1) / 64
	}
	for _, heads := range []int{0, 2} {
		b := blocks{quant: onGrid{m: m}, typ: ggml.Q4_0, t: &llamacpp.Tensor{Name: "q", From: "w", Shape: []int64{16, 64}, Heads: heads}}
		good, err := ggml.EncodeAffine(b.typ, b.t.Affine(m))
		if err != nil {
			t.Fatal(err)
		}
		prove := func(data []byte) (*Proof, error) {
			p := &Proof{}
			return p, b.prove(func(_ string, p []byte, off int64) error { copy(p, data[off:]); return nil }, p)
		}
		if p, err := prove(good); err != nil || p.Weights != 1 || p.Values != 16*64 {
			t.Errorf("heads %d: %+v, %v", heads, p, err)
		}
		row := len(good) / 16
		for name, damage := range map[string]func(d []byte){
			"a code":  func(d []byte) { d[5*row+9] ^= 0x10 },
			"a scale": func(d []byte) { d[15*row+18] ^= 1 },
			"two rows": func(d []byte) {
				x := slices.Clone(d[2*row : 3*row])
				copy(d[2*row:], d[3*row:4*row])
				copy(d[3*row:], x)
			},
		} {
			bad := slices.Clone(good)
			damage(bad)
			if _, err := prove(bad); pipeline.KindOf(err) != pipeline.KindGate {
				t.Errorf("heads %d, %s: %v", heads, name, err)
			}
		}
		if heads == 0 {
			continue
		}
		plain, err := ggml.EncodeAffine(b.typ, m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := prove(plain); pipeline.KindOf(err) != pipeline.KindGate {
			t.Errorf("rows as the checkpoint has them: %v", err)
		}
	}
}
