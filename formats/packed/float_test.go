package packed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"modelpress/formats"
)

// floatSettings returns every setting that is written, with sizes that it takes.
func floatSettings() (list []Float) {
	for _, dt := range []formats.DType{formats.BF16, formats.F16, formats.F32} {
		for _, s := range []string{StrategyTensor, StrategyChannel, StrategyBlock} {
			list = append(list, Float{FormatFloat, s, dt})
		}
	}
	return append(list, Float{Format: FormatNVFP4}, Float{Format: FormatMXFP4})
}

func floatSizes(f Float) [][2]int {
	switch f.Format {
	case FormatNVFP4:
		return [][2]int{{1, 16}, {3, 48}, {40, 208}}
	case FormatMXFP4:
		return [][2]int{{1, 32}, {3, 96}, {40, 224}}
	}
	return [][2]int{{1, 1}, {7, 13}, {130, 257}}
}

// dequantized quantizes a weight and returns what is stored and what a view shows of it.
func dequantized(t *testing.T, f Float, w []float32, n [2]int, absmax float32) ([]formats.Tensor, []float32) {
	t.Helper()
	list, err := f.Quantize("m", w, n[0], n[1], absmax)
	if err != nil {
		t.Fatalf("%+v %v: %v", f, n, err)
	}
	view, err := Dense(source(t, list), Config([]GroupConfig{{Setting: f}}, nil))
	if err != nil {
		t.Fatalf("%+v %v: %v", f, n, err)
	}
	got := make([]float32, len(w))
	if err := formats.ReadF32(view, "m.weight", got, 0); err != nil {
		t.Fatalf("%+v %v: %v", f, n, err)
	}
	return list, got
}

// sameBits compares values and the signs of zeros.
func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// Every weight is rounded to a nearest point of its grid, whose largest point is no further from its largest weight than rounding
// of the scale makes it.
func TestQuantizeRoundsToNearest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, f := range floatSettings() {
		for _, n := range floatSizes(f) {
			w := gaussian(r, n[0], n[1])
			list, got := dequantized(t, f, w, n, 0)
			l, _ := f.layout()
			scales := effectiveScales(t, f, list)
			rows, columns := l.grid(int64(n[0]), int64(n[1]))
			height, width := (n[0]+int(rows)-1)/int(rows), (n[1]+int(columns)-1)/int(columns)
			if l.rows > 1 {
				height, width = int(l.rows), int(l.columns)
			}
			for i, v := range w {
				s := scales[i/n[1]/height*int(columns)+i%n[1]/width]
				best := nearestPoint(l, float64(v), s)
				// The view rounds to its own type: BF16, or F16 with its step near 0.
				if tol := math.Abs(best)/256 + math.Abs(float64(v))*1e-6 + 0x1p-24; math.Abs(float64(got[i])-float64(v)) > math.Abs(best-float64(v))+tol {
					t.Fatalf("%+v %v: weight %v is stored as %v, nearest %v", f, n, v, got[i], best)
				}
			}
		}
	}
}

// effectiveScales returns the scales of a stored weight in float64.
func effectiveScales(t *testing.T, f Float, list []formats.Tensor) []float64 {
	t.Helper()
	global := 1.0
	var s []float64
	for _, e := range list {
		switch {
		case e.Name == "m.weight_global_scale":
			global = float64(math.Float32frombits(binary.LittleEndian.Uint32(e.Data)))
		case e.Name == "m.weight_scale" && e.DType == formats.U8:
			for _, b := range e.Data {
				s = append(s, math.Ldexp(1, int(b)-127))
			}
		case e.Name == "m.weight_scale":
			v := make([]float32, len(e.Data)/e.DType.Size())
			if err := formats.Decode(v, e.Data, e.DType); err != nil {
				t.Fatal(err)
			}
			for _, x := range v {
				s = append(s, float64(x))
			}
		}
	}
	for i := range s {
		s[i] /= global
	}
	return s
}

func nearestPoint(l layout, v, scale float64) float64 {
	best := math.Inf(1)
	for c := range 256 {
		p := float64(formats.E4M3ToF32(uint8(c)))
		if l.fp4() {
			p = float64(formats.E2M1ToF32(uint8(c)))
		}
		if d := math.Abs(p*scale - v); d < math.Abs(best-v) { // NaN is not less
			best = p * scale
		}
	}
	return best
}

// A weight that lies on a grid is encoded to itself: to the same codes, and to scales that stand for the same values.
func TestQuantizeKeepsGrid(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, f := range floatSettings() {
		for _, n := range append(floatSizes(f), floatSizes(f)[1], floatSizes(f)[1]) {
			for _, absmax := range []float32{0, 3} {
				w := gaussian(r, n[0], n[1])
				what := fmt.Sprintf("%+v %v absmax %v", f, n, absmax)
				first, once := dequantized(t, f, w, n, absmax)
				// A runtime that fuses projections fuses those of the dequantized weight, too: what it shares is the value that
				// the largest was given.
				if absmax > 0 {
					_, top := dequantized(t, f, slices.Concat(w, slices.Repeat([]float32{absmax}, n[1])), [2]int{n[0] + 1, n[1]}, absmax)
					absmax = largest(top)
				}
				second, twice := dequantized(t, f, once, n, absmax)
				if !sameBits(once, twice) {
					t.Errorf("%s: values change", what)
				}
				// One weight alone fits under several scales, and F16 has no place for the smallest products.
				for i := range first {
					if f.Scales != formats.F16 && len(w) > 1 && first[i].Name != "m.weight_global_scale" && !bytes.Equal(first[i].Data, second[i].Data) {
						t.Errorf("%s: %s changes", what, first[i].Name)
					}
				}
			}
		}
	}
}

// Scales need not make the largest weight the largest code: powers of two do not, nor does one for several weights. Codes of all
// sizes come back.
func TestQuantizeKeepsForeignGrid(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 40 {
		for _, dt := range []formats.DType{formats.BF16, formats.F16, formats.F32} {
			const out, in = 5, 64
			codes := codes8(r, out*in)
			scales := make([]float32, out)
			for i := range scales {
				if scales[i] = round(float32(math.Exp2(-6*r.Float64())), dt); i%2 == 0 {
					scales[i] = float32(math.Exp2(-float64(r.IntN(7))))
				}
				top := byte(0x78 + r.IntN(7)) // of 256 to 448
				for j, c := range codes[i*in : (i+1)*in] {
					codes[i*in+j] = c&0x80 | min(c&0x7f, top)
				}
				codes[i*in+r.IntN(in)] = top
			}
			w := make([]float32, out*in)
			for i, c := range codes {
				w[i] = round(formats.E4M3ToF32(c)*scales[i/in], dt)
			}
			list, got := dequantized(t, Float{FormatFloat, StrategyChannel, dt}, w, [2]int{out, in}, 0)
			if !sameBits(got, w) || !bytes.Equal(list[0].Data, codes) {
				t.Fatalf("%s: a weight on a grid changes", dt)
			}
		}
	}
}

// Groups of NVFP4 may have any scale, the coarse ones near 0 too, and need not hold its largest value.
func TestQuantizeKeepsForeignGroups(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 8))
	for range 60 {
		const groups = 12
		w, global := make([]float32, 16*groups), float32(math.Exp2(4+8*r.Float64()))
		for g := range groups {
			local := formats.E4M3ToF32(byte(1 + r.IntN(40*(1+g%3))))
			if g == 0 {
				local = 448
			}
			for i := range 16 {
				c := byte(r.Uint32())
				if i == 0 {
					c |= 7
				} else if g%2 == 1 {
					c &^= 4
				}
				w[16*g+i] = round(formats.E2M1ToF32(c)*(local/global), formats.BF16)
			}
			if g%2 == 1 {
				w[16*g] = 0
			}
		}
		if _, got := dequantized(t, Float{Format: FormatNVFP4}, w, [2]int{groups / 2, 32}, 0); !sameBits(got, w) {
			t.Fatal("a weight on a grid changes")
		}
	}
}

// Projections that are fused share what the runtime has room for once.
func TestQuantizeSharesScale(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	a, b := gaussian(r, 4, 32), gaussian(r, 8, 32)
	for i := range b {
		b[i] *= 3
	}
	absmax := max(largest(a), largest(b))
	for _, c := range []struct {
		f    Float
		name string
	}{
		{Float{FormatFloat, StrategyTensor, formats.BF16}, "m.weight_scale"}, {Float{Format: FormatNVFP4}, "m.weight_global_scale"},
	} {
		x, _ := dequantized(t, c.f, a, [2]int{4, 32}, absmax)
		y, _ := dequantized(t, c.f, b, [2]int{8, 32}, absmax)
		i := slices.IndexFunc(x, func(e formats.Tensor) bool { return e.Name == c.name })
		if !bytes.Equal(x[i].Data, y[i].Data) {
			t.Errorf("%+v: scales differ", c.f)
		}
		if _, err := c.f.Quantize("m", b, 8, 32, largest(a)); err == nil {
			t.Errorf("%+v: a weight larger than its group passes", c.f)
		}
	}
	// Elsewhere it does not matter.
	for _, f := range []Float{{FormatFloat, StrategyChannel, formats.BF16}, {FormatFloat, StrategyBlock, formats.F32}, {Format: FormatMXFP4}} {
		x, _ := dequantized(t, f, a, [2]int{4, 32}, 0)
		y, _ := dequantized(t, f, a, [2]int{4, 32}, 1000)
		for i := range x {
			if !bytes.Equal(x[i].Data, y[i].Data) {
				t.Errorf("%+v: %s differs", f, x[i].Name)
			}
		}
	}
}

// Weights at the ends of the range: zeros stay zeros, small ones do not grow, and what has no scale is refused.
func TestQuantizeExtremes(t *testing.T) {
	for _, f := range floatSettings() {
		n := floatSizes(f)[1]
		for _, size := range []float32{0, math.SmallestNonzeroFloat32, 0x1p-140, 0x1p-127, 0x1p-100, 1e-12, 0x1p-24, 1e30, 0x1p120} {
			w := make([]float32, n[0]*n[1])
			for i := range w {
				w[i] = size * float32(i%5-2) / 2
			}
			if f.Scales == formats.F16 && size > 1e4 {
				if _, err := f.Quantize("m", w, n[0], n[1], 0); err == nil {
					t.Errorf("%+v: weights of %v have scales in F16", f, size)
				}
				continue
			}
			_, got := dequantized(t, f, w, n, 0)
			for i, v := range got {
				// Within a quarter of the largest, or within a step of the smallest scale there is.
				step := map[formats.DType]float64{formats.F16: 0x1p-24, formats.BF16: 0x1p-133, formats.F32: 0x1p-149}[f.Scales]
				if f.Format != FormatFloat {
					step = 0x1p-126
				}
				if d := math.Abs(float64(v) - float64(w[i])); d > float64(size)/4+step {
					t.Fatalf("%+v: %v of %v is stored as %v", f, w[i], size, v)
				}
			}
		}
		for _, v := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
			w := make([]float32, n[0]*n[1])
			w[len(w)-1] = v
			var e *formats.Error
			if _, err := f.Quantize("m", w, n[0], n[1], 0); !errors.As(err, &e) {
				t.Errorf("%+v: %v passes: %v", f, v, err)
			}
		}
	}
	// A group of small weights beside large ones keeps what its scale can hold.
	w := make([]float32, 32)
	w[0], w[16], w[17] = 448*6, 0.0001, 0.01
	_, got := dequantized(t, Float{Format: FormatNVFP4}, w, [2]int{1, 32}, 0)
	if got[16] != 0 || got[17] < 0.009 || got[17] > 0.012 {
		t.Errorf("small weights %v", got[16:18])
	}
}

func TestFloatChecks(t *testing.T) {
	for _, c := range []struct {
		f       Float
		out, in int64
		ok      bool
	}{
		{Float{FormatFloat, StrategyTensor, formats.F32}, 3, 5, true},
		{Float{FormatFloat, StrategyBlock, formats.F32}, 3, 5, true},
		{Float{FormatFloat, "group", formats.F32}, 3, 5, false},
		{Float{FormatFloat, "", formats.F32}, 3, 5, false},
		{Float{FormatFloat, StrategyChannel, formats.F64}, 3, 5, false},
		{Float{FormatFloat, StrategyChannel, formats.Invalid}, 3, 5, false},
		{Float{FormatFloat, StrategyChannel, formats.BF16}, 0, 5, false},
		{Float{FormatFloat, StrategyChannel, formats.BF16}, 5, 1 << 40, false},
		{Float{Format: FormatNVFP4}, 1, 48, true},
		{Float{Format: FormatNVFP4}, 1, 40, false},
		{Float{Format: FormatMXFP4}, 1, 64, true},
		{Float{Format: FormatMXFP4}, 1, 48, false},
		{Float{FormatMXFP4, StrategyTensor, formats.BF16}, 1, 64, false},
		{Float{Format: FormatMXFP8}, 1, 64, false},
		{Float{Format: FormatPack}, 1, 64, false},
		{Float{}, 1, 64, false},
	} {
		if err := c.f.Check(c.out, c.in); (err == nil) != c.ok {
			t.Errorf("%+v [%d, %d]: %v", c.f, c.out, c.in, err)
		}
	}
	var e *formats.Error
	if _, err := (Float{Format: FormatMXFP4}).Quantize("m", make([]float32, 48), 1, 48, 0); !errors.As(err, &e) {
		t.Errorf("a group and a half: %v", err)
	}
}
