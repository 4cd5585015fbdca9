package llamacpp

import (
	"math"
	"slices"
	"testing"

	"modelpress/formats"
	"modelpress/internal/testmodel"
)

// memory is a source of a few tensors.
type memory map[string]formats.Tensor

func (m memory) Tensors() []formats.TensorInfo {
	var out []formats.TensorInfo
	for _, t := range m {
		out = append(out, t.TensorInfo)
	}
	slices.SortFunc(out, func(a, b formats.TensorInfo) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

func (m memory) Lookup(name string) (formats.TensorInfo, bool) {
	t, ok := m[name]
	return t.TensorInfo, ok
}

func (m memory) ReadAt(name string, p []byte, off int64) error {
	t, ok := m[name]
	if !ok || off < 0 || off+int64(len(p)) > int64(len(t.Data)) {
		return formats.Errorf("memory", name, "read of %d bytes at %d", len(p), off)
	}
	copy(p, t.Data[off:])
	return nil
}

func (m memory) put(name string, dt formats.DType, values []float32, shape ...int64) {
	data := make([]byte, len(values)*dt.Size())
	if err := formats.Encode(data, values, dt); err != nil {
		panic(err)
	}
	m[name] = formats.Tensor{TensorInfo: formats.TensorInfo{Name: name, DType: dt, Shape: shape}, Data: data}
}

func count(n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(i)
	}
	return out
}

// The row order that llama.cpp's converter gives 16 rows of two heads: reshape(2, 2, 4).swapaxes(1, 2).
func TestPermutation(t *testing.T) {
	want := []float32{0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15}
	src := memory{}
	src.put("w", formats.F32, count(16), 16, 1)
	src.put("b", formats.F16, count(16), 16)
	for _, x := range []Tensor{
		{Name: "weight", From: "w", Shape: []int64{16, 1}, Heads: 2},
		{Name: "bias", From: "b", Shape: []int64{16}, Heads: 2, Vector: true},
	} {
		rows, _ := x.Size()
		got := make([]float32, 16)
		if err := x.Rows(src, 0, rows, got); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", x.Name, got, want)
		}
	}
}

// plainly is the plain reading of what a tensor of the file holds.
func plainly(t *testing.T, src *testmodel.Model, x *Tensor) []float32 {
	t.Helper()
	if x.From == "" {
		return x.Values
	}
	have, err := src.Values(x.From)
	if err != nil {
		t.Fatal(err)
	}
	rows, columns := int(x.Shape[0]), 1
	if len(x.Shape) == 2 {
		columns = int(x.Shape[1])
	}
	out := make([]float32, len(have))
	for r := range rows {
		for c := range columns {
			from := r
			if x.Heads > 0 {
				k := rows / x.Heads
				h, i := r/k, r%k
				from = h*k + i%2*(k/2) + i/2
			}
			if x.Transposed {
				out[r*columns+c] = have[c*rows+from]
			} else {
				out[r*columns+c] = have[from*columns+c]
			}
		}
	}
	return out
}

func TestRowsAndBytes(t *testing.T) {
	for _, c := range describable() {
		for _, dt := range []formats.DType{formats.F32, formats.BF16} {
			c.Options.DType = dt
			src, m := described(t, c.Options)
			for i := range m.Tensors {
				checkRows(t, src, &m.Tensors[i])
			}
		}
	}
}

// checkRows reads a tensor in pieces that do not divide it, as values and as bytes.
func checkRows(t *testing.T, src *testmodel.Model, x *Tensor) {
	t.Helper()
	want := plainly(t, src, x)
	rows, columns := x.Size()
	for first := int64(0); first < rows; {
		n := min(1+first%7*3, rows-first)
		part := want[first*columns : (first+n)*columns]
		got := make([]float32, n*columns)
		if err := x.Rows(src, first, n, got); err != nil {
			t.Fatalf("%s: %v", x.Name, err)
		}
		if !slices.Equal(got, part) {
			t.Fatalf("%s: rows %d to %d differ", x.Name, first, first+n)
		}
		if x.From != "" {
			info, _ := src.Lookup(x.From)
			raw := make([]byte, len(got)*info.DType.Size())
			if err := x.Bytes(src, first, n, raw); err != nil {
				t.Fatalf("%s: %v", x.Name, err)
			}
			if err := formats.Decode(got, raw, info.DType); err != nil || !slices.Equal(got, part) {
				t.Fatalf("%s: bytes of rows %d to %d differ (%v)", x.Name, first, first+n, err)
			}
		}
		first += n
	}
}

// Rows that are longer than what is read at once.
func TestRowsWide(t *testing.T) {
	const columns = runBytes/4 + 3
	src := memory{}
	src.put("w", formats.F32, count(8*columns), 8, columns)
	x := Tensor{Name: "q", From: "w", Shape: []int64{8, columns}, Heads: 2}
	got := make([]float32, 8*columns)
	if err := x.Rows(src, 0, 8, got); err != nil {
		t.Fatal(err)
	}
	for r, from := range []int{0, 2, 1, 3, 4, 6, 5, 7} {
		for _, c := range []int{0, columns - 1} {
			if got[r*columns+c] != float32(from*columns+c) {
				t.Errorf("row %d, column %d: %g", r, c, got[r*columns+c])
			}
		}
	}
}

func TestRowsRefuse(t *testing.T) {
	src := memory{}
	src.put("w", formats.F32, count(12), 4, 3)
	src["codes"] = formats.Tensor{TensorInfo: formats.TensorInfo{Name: "codes", DType: formats.I32, Shape: []int64{4, 3}}, Data: make([]byte, 48)}
	good := Tensor{Name: "x", From: "w", Shape: []int64{4, 3}}
	for _, c := range []struct {
		name           string
		tensor         Tensor
		first, n, have int64
	}{
		{"past the end", good, 3, 2, 6},
		{"before the start", good, -1, 1, 3},
		{"a wrong place", good, 0, 2, 5},
		{"an absent tensor", Tensor{From: "v", Shape: []int64{4, 3}}, 0, 1, 3},
		{"another shape", Tensor{From: "w", Shape: []int64{3, 4}}, 0, 1, 4},
		{"not transposed", Tensor{From: "w", Shape: []int64{4, 3}, Transposed: true}, 0, 1, 3},
		{"codes", Tensor{From: "codes", Shape: []int64{4, 3}, Heads: 2}, 0, 4, 12},
	} {
		if err := c.tensor.Rows(src, c.first, c.n, make([]float32, c.have)); err == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
	computed := Tensor{Name: nameRopeFreqs, Shape: []int64{2}, Values: []float32{1, 2}, Vector: true}
	if err := computed.Bytes(src, 0, 1, make([]byte, 8)); err == nil {
		t.Error("bytes of a computed tensor: no error")
	}
}

// A weight on a grid keeps its values, row by row, and what belongs to columns.
func TestAffineRows(t *testing.T) {
	m := &formats.Affine{Out: 8, In: 4, Bits: 4, Group: 2, Scale: formats.F16, Codes: make([]int8, 32), Scales: make([]float32, 16),
		Zeros: make([]int8, 16)}
	for i := range m.Codes {
		m.Codes[i] = int8(i%15 - 8)
	}
	for i := range m.Scales {
		m.Scales[i], m.Zeros[i] = float32(i+1), int8(i%8)
	}
	x := Tensor{Name: "q", Shape: []int64{8, 4}, Heads: 2}
	p := x.Affine(m)
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	src := memory{}
	dense := make([]float32, 32)
	m.Dequantize(dense, 0)
	src.put("w", formats.F32, dense, 8, 4)
	x.From = "w"
	want, got := make([]float32, 32), make([]float32, 32)
	if err := x.Rows(src, 0, 8, want); err != nil {
		t.Fatal(err)
	}
	p.Dequantize(got, 0)
	if !slices.Equal(got, want) {
		t.Errorf("values %v, want %v", got, want)
	}
	if same := (&Tensor{Shape: []int64{8, 4}}).Affine(m); same != m {
		t.Error("a weight whose rows stay was copied")
	}
	if same := (&Tensor{Shape: []int64{8, 4}, Transposed: true}).Affine(m); same != m {
		t.Error("a weight is [out, in] already, whichever way the checkpoint stores it")
	}
}

// The factors of Llama 3.1, against the frequencies of transformers computed in another order.
func TestLlama3Factors(t *testing.T) {
	o := testmodel.Llama32x1B()
	o.Layers, o.V = 1, 8
	_, m := described(t, o)
	f := m.Tensors[0]
	if f.Name != nameRopeFreqs || len(f.Values) != 32 {
		t.Fatalf("first tensor %s of %d values", f.Name, len(f.Values))
	}
	for j, got := range f.Values {
		inv := math.Pow(500000, -float64(2*j)/64)
		wave := 2 * math.Pi / inv
		want := inv
		if wave > 8192 {
			want = inv / 32
		} else if wave >= 2048 {
			s := (8192/wave - 1) / 3
			want = (1-s)*inv/32 + s*inv
		}
		if d := math.Abs(inv/float64(got)/want - 1); d > 1e-6 {
			t.Errorf("frequency %d: %g / %g, want %g", j, inv, got, want)
		}
	}
}
