package awq

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"modelpress/formats"
)

// golden is what examples/formatcheck/awq.py wrote: digests of what AutoAWQ makes of weights that a generator draws.
type golden struct {
	Out, In int
	Cases   []goldenCase
}

type goldenCase struct {
	By                      string
	Group                   int
	Symmetric               bool
	QWeight, QZeros, Scales string
	Dense                   string // in F32
	Half                    string // rounded to F16, as the program does
}

// series returns n numbers of the generator of weights.py.
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
	m := &formats.Affine{Out: out, In: in, Bits: bits, Group: c.Group, Scale: formats.F16}
	g := m.Groups()
	for _, x := range series(out*in, bits) {
		m.Codes = append(m.Codes, int8(x%16)-middle)
	}
	if !c.Symmetric {
		for _, x := range series(out*g, bits+100) {
			m.Zeros = append(m.Zeros, int8(x%16)-middle)
		}
	}
	for _, x := range series(out*g, bits+200) {
		m.Scales = append(m.Scales, formats.F16ToF32(uint16(0x1C00+x)))
	}
	return m
}

func digest(t *testing.T, v []float32, dt formats.DType) string {
	t.Helper()
	b := make([]byte, len(v)*dt.Size())
	if err := formats.Encode(b, v, dt); err != nil {
		t.Fatal(err)
	}
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// The tensors that are written are, bit for bit, those of the software which defines the format, and the values read are those that it
// computes. So that software reads what is written here, and what it writes is read here.
func TestBytesOfAutoAWQ(t *testing.T) {
	b, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Cases) != 6 {
		t.Fatalf("%d cases", len(g.Cases))
	}
	for _, c := range g.Cases {
		f := Format{Group: c.Group, Symmetric: c.Symmetric}
		t.Run(fmt.Sprintf("%+v", f), func(t *testing.T) {
			src := store(t, f, c.draw(g.Out, g.In))
			for name, want := range map[string]string{"m.qweight": c.QWeight, "m.qzeros": c.QZeros, "m.scales": c.Scales} {
				if s := sha256.Sum256(src[name].Data); hex.EncodeToString(s[:]) != want {
					t.Errorf("%s differs", name)
				}
			}
			w := read(t, open(t, src, f), "m.weight")
			if digest(t, w, formats.F32) != c.Dense || digest(t, w, formats.F16) != c.Half {
				t.Error("dequantized weight differs")
			}
		})
	}
}

func TestWorkedExample(t *testing.T) {
	// u = 0, 1, ..., 7 in one column.
	m := &formats.Affine{Out: 8, In: 1, Bits: 4, Group: -1, Scale: formats.F16,
		Codes: []int8{-8, -7, -6, -5, -4, -3, -2, -1}, Scales: []float32{1, 1, 1, 1, 1, 1, 1, 1}}
	list, err := Format{Group: -1}.Encode("m", m)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", list[0].Data); got != "20643175" {
		t.Errorf("word %s, want 75316420 from the highest byte", got)
	}
	if got := fmt.Sprintf("%x", list[1].Data); got != "88888888" {
		t.Errorf("zero points %s", got)
	}
}
