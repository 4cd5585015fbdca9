package ggml

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"modelpress/formats"
)

var written = []Type{F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K}

func randoms(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// quantize returns the blocks of x.
func quantize(t testing.TB, typ Type, x []float32, row int, importance []float32) []byte {
	t.Helper()
	n, err := typ.RowBytes(int64(len(x)))
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if err := Quantize(typ, b, x, row, importance); err != nil {
		t.Fatal(typ, err)
	}
	return b
}

// loss returns Σ w*(x - value)², w repeated for each row.
func loss(t testing.TB, typ Type, b []byte, x, w []float32) (sum float64) {
	t.Helper()
	y := make([]float32, len(x))
	if err := Dequantize(typ, y, b); err != nil {
		t.Fatal(err)
	}
	for i, v := range x {
		d := float64(v) - float64(y[i])
		if w != nil {
			d *= math.Sqrt(float64(w[i%len(w)]))
		}
		sum += d * d
	}
	return sum
}

// The relative error of normal values is what the bits of a type can do, and rows are independent of each other.
func TestRoundTrip(t *testing.T) {
	const rows, row = 6, 768
	x := randoms(rand.New(rand.NewPCG(1, 1)), rows*row)
	var energy float64
	for _, v := range x {
		energy += float64(v) * float64(v)
	}
	most := map[Type]float64{
		F32: 0, F16: 1e-7, BF16: 1e-5, Q8_0: 3e-5, Q6_K: 4e-4, Q5_0: 2.5e-3, Q5_1: 2e-3, Q5_K: 1.8e-3, Q4_0: 1e-2, Q4_1: 8.5e-3, Q4_K: 7e-3,
	}
	for _, typ := range written {
		b := quantize(t, typ, x, row, nil)
		if e := loss(t, typ, b, x, nil) / energy; e > most[typ] || e < most[typ]/10 {
			t.Errorf("%s: relative square error %.3g, want at most %.3g", typ, e, most[typ])
		}
		single := quantize(t, typ, x[3*row:4*row], row, nil)
		if n := len(single); string(b[3*n:4*n]) != string(single) {
			t.Errorf("%s: a row alone has other bytes", typ)
		}
	}
}

// With importance, the error that is weighted by it is smaller than without.
func TestImportance(t *testing.T) {
	const rows, row = 8, 512
	rng := rand.New(rand.NewPCG(2, 2))
	x, w := randoms(rng, rows*row), make([]float32, row)
	for i := range w {
		w[i] = float32(math.Exp(2 * rng.NormFloat64()))
	}
	for _, typ := range []Type{Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K} {
		plain, weighted := quantize(t, typ, x, row, nil), quantize(t, typ, x, row, w)
		before, after := loss(t, typ, plain, x, w), loss(t, typ, weighted, x, w)
		t.Logf("%s: weighted error %.4g without importance, %.4g with it", typ, before, after)
		if after > 0.95*before {
			t.Errorf("%s: weighted error %.4g without importance, %.4g with it", typ, before, after)
		}
		scaled := make([]float32, row)
		for i, v := range w {
			scaled[i] = v * 0x1p-100
		}
		if string(quantize(t, typ, x, row, scaled)) != string(weighted) {
			t.Errorf("%s: the unit of importance matters", typ)
		}
	}
	// It does not matter where it cannot be followed, and zeros are as good as nothing.
	if string(quantize(t, Q8_0, x, row, w)) != string(quantize(t, Q8_0, x, row, nil)) {
		t.Error("Q8_0 changes with importance")
	}
	for _, typ := range []Type{Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K} {
		zero := quantize(t, typ, x, row, make([]float32, row))
		if e, plain := loss(t, typ, zero, x, nil), loss(t, typ, quantize(t, typ, x, row, nil), x, nil); e > 1.3*plain {
			t.Errorf("%s: importance 0 everywhere: error %.4g, without %.4g", typ, e, plain)
		}
	}
}

func TestQuantizeRejects(t *testing.T) {
	x := make([]float32, 512)
	for name, c := range map[string]struct {
		typ        Type
		dst        int
		src        []float32
		row        int
		importance []float32
		want       string
	}{
		"unknown":        {Type(99), 0, x, 512, nil, "not written"},
		"not written":    {Q2_K, 168, x, 512, nil, "not written"},
		"integers":       {I32, 2048, x, 512, nil, "not written"},
		"row":            {Q4_K, 288, x, 128, nil, "rows of 128"},
		"no row":         {Q4_K, 288, x, 0, nil, "rows of 0"},
		"negative row":   {Q4_K, 288, x, -256, nil, "rows of -256"},
		"part of a row":  {Q4_0, 288, x, 384, nil, "rows of 384"},
		"dst":            {Q4_0, 287, x, 512, nil, "287 bytes"},
		"importance":     {Q4_0, 288, x, 512, x[:256], "256 columns"},
		"negative":       {Q4_0, 288, x, 512, append(make([]float32, 511), -1), "column 511"},
		"no number":      {Q4_0, 288, x, 512, append(make([]float32, 511), float32(math.NaN())), "column 511"},
		"infinite":       {Q4_0, 288, x, 512, append(make([]float32, 511), float32(math.Inf(1))), "column 511"},
		"F16 overflow":   {F16, 1024, append(make([]float32, 511), 65520), 512, nil, "index 511"},
		"BF16 overflow":  {BF16, 1024, append(make([]float32, 511), math.MaxFloat32), 512, nil, "index 511"},
		"Q8_0 overflow":  {Q8_0, 544, append(make([]float32, 511), 1e8), 512, nil, "values [480, 512)"},
		"Q4_1 offset":    {Q4_1, 320, append(make([]float32, 511), -70000), 512, nil, "values [480, 512)"},
		"Q4_K overflow":  {Q4_K, 288, append(make([]float32, 511), math.MaxFloat32), 512, nil, "values [256, 512)"},
		"Q4_K overflow2": {Q4_K, 288, append(make([]float32, 511), -math.MaxFloat32), 512, nil, "values [256, 512)"},
	} {
		err := Quantize(c.typ, make([]byte, c.dst), c.src, c.row, c.importance)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "ggml: quantize: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, typ := range written {
		for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			y := make([]float32, 1024)
			y[777] = float32(v)
			n, _ := typ.RowBytes(1024)
			if err := Quantize(typ, make([]byte, n), y, 256, nil); err == nil || !strings.Contains(err.Error(), "index 777") {
				t.Errorf("%s, %v: %v", typ, v, err)
			}
		}
	}
}

// Stored values become the bytes that they become when they are widened first.
func TestQuantizeFrom(t *testing.T) {
	const rows, row = 5, 8192
	rng := rand.New(rand.NewPCG(4, 4))
	x, w := randoms(rng, rows*row), make([]float32, row)
	for i := range w {
		w[i] = rng.Float32()
	}
	for _, dt := range []formats.DType{formats.F16, formats.BF16, formats.F32, formats.F64} {
		src, wide := make([]byte, rows*row*dt.Size()), make([]float32, rows*row)
		if err := formats.Encode(src, x, dt); err != nil {
			t.Fatal(err)
		}
		if err := formats.Decode(wide, src, dt); err != nil {
			t.Fatal(err)
		}
		for _, typ := range written {
			for _, importance := range [][]float32{nil, w} {
				if importance != nil && dt != formats.BF16 {
					continue
				}
				want := quantize(t, typ, wide, row, importance)
				got := make([]byte, len(want))
				if err := QuantizeFrom(typ, got, src, dt, row, importance); err != nil {
					t.Fatal(typ, err)
				}
				if string(got) != string(want) {
					t.Errorf("%s from %s, importance %v: other bytes", typ, dt, importance != nil)
				}
			}
		}
	}
	// Errors name the place in all of src.
	bad := make([]byte, 4*rows*row)
	binary.LittleEndian.PutUint32(bad[4*40000:], math.Float32bits(float32(math.Inf(1))))
	for _, typ := range written {
		n, _ := typ.RowBytes(rows * row)
		if err := QuantizeFrom(typ, make([]byte, n), bad, formats.F32, row, nil); err == nil || !strings.Contains(err.Error(), "index 40000") {
			t.Errorf("%s: %v", typ, err)
		}
	}
	binary.LittleEndian.PutUint32(bad[4*40000:], math.Float32bits(1e9))
	for typ, want := range map[Type]string{F16: "index 40000", Q8_0: "[40000, 40032)", Q4_0: "[40000, 40032)", Q6_K: "[39936, 40192)"} {
		n, _ := typ.RowBytes(rows * row)
		if err := QuantizeFrom(typ, make([]byte, n), bad, formats.F32, row, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", typ, err)
		}
	}
	for name, err := range map[string]error{
		"integers": QuantizeFrom(Q8_0, make([]byte, 34), make([]byte, 32), formats.I8, 32, nil),
		"part":     QuantizeFrom(Q8_0, make([]byte, 34), make([]byte, 65), formats.F16, 32, nil),
		"row":      QuantizeFrom(Q8_0, make([]byte, 34), make([]byte, 64), formats.F16, 64, nil),
		"dst":      QuantizeFrom(Q8_0, make([]byte, 33), make([]byte, 64), formats.F16, 32, nil),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "ggml: quantize: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := QuantizeFrom(Q8_0, nil, nil, formats.F16, 32, nil); err != nil {
		t.Errorf("no values: %v", err)
	}
}

func TestDequantizeRejects(t *testing.T) {
	for name, err := range map[string]error{
		"unknown":  Dequantize(Type(99), make([]float32, 1), make([]byte, 4)),
		"integers": Dequantize(I8, make([]float32, 1), make([]byte, 1)),
		"block":    Dequantize(Q4_0, make([]float32, 31), make([]byte, 18)),
		"bytes":    Dequantize(Q4_0, make([]float32, 32), make([]byte, 19)),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "ggml: dequantize: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for typ := range types {
		if err := Dequantize(typ, nil, nil); err != nil && dequantizers[typ] != nil {
			t.Errorf("%s: no values: %v", typ, err)
		}
	}
}
