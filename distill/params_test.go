package distill

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// described returns the model of a checkpoint.
func described(t testing.TB, config []byte, src formats.Source) *arch.Model {
	t.Helper()
	m, err := arch.Describe(config, src)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newTestParams(t testing.TB, src formats.Source, m *arch.Model, half bool) *Params {
	t.Helper()
	p, err := newParams(src, m, half)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// contents returns all values of a tensor.
func contents(t testing.TB, src formats.Source, name string) []float32 {
	t.Helper()
	info, ok := src.Lookup(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	n, err := info.Elements()
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, n)
	if err := formats.ReadF32(src, name, v, 0); err != nil {
		t.Fatal(err)
	}
	return v
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

func logitsOf(t testing.TB, src formats.Source, m *arch.Model) []float32 {
	t.Helper()
	out, err := nn.New(cpu.New(2), src, m).Logits(testmodel.Windows(1, 19, m.V, 5)[0])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestParamsAreTheModel: the model under its own names gives the bits of the source, and so does the view under the source's
// names, in every family and stored type.
func TestParamsAreTheModel(t *testing.T) {
	for _, c := range testmodel.Cases() {
		for _, dt := range []formats.DType{formats.F32, formats.BF16, formats.F16} {
			t.Run(c.Name+"/"+dt.String(), func(t *testing.T) {
				opt := c.Options
				opt.DType = dt
				src := testmodel.New(opt)
				m := described(t, src.Config, src)
				p := newTestParams(t, src, m, dt == formats.BF16)
				want := logitsOf(t, src, m)
				if !sameBits(logitsOf(t, p, p.Arch), want) {
					t.Error("logits under the own names differ")
				}
				view, err := p.View(src, m)
				if err != nil {
					t.Fatal(err)
				}
				if !sameBits(logitsOf(t, view, described(t, src.Config, view)), want) {
					t.Error("logits of the view differ")
				}
				if got, want := len(view.Tensors()), len(src.Tensors()); got != want {
					t.Errorf("%d tensors, want %d", got, want)
				}
				for i, info := range src.Tensors() {
					seen := view.Tensors()[i]
					if seen.Name != info.Name || seen.DType != formats.F32 || !slices.Equal(seen.Shape, info.Shape) {
						t.Errorf("shown as %v, stored as %v", seen, info)
					}
					if !sameBits(contents(t, view, info.Name), contents(t, src, info.Name)) {
						t.Errorf("%s differs", info.Name)
					}
				}
				if p.NumValues() != m.NumParameters() {
					t.Errorf("%d values, the model has %d", p.NumValues(), m.NumParameters())
				}
				if want := p.NumValues() * int64(p.list[0].DType().Size()); p.Bytes() != want {
					t.Errorf("%d bytes, want %d", p.Bytes(), want)
				}
			})
		}
	}
}

// TestParamsNames: the own model's parameters are those that are listed, in order, each a tensor of its own.
func TestParamsNames(t *testing.T) {
	for _, c := range testmodel.Cases() {
		src := testmodel.New(c.Options)
		p := newTestParams(t, src, described(t, src.Config, src), false)
		want := p.Arch.Parameters()
		if len(want) != len(p.List()) || len(p.Tensors()) != len(want) {
			t.Fatalf("%s: %d parameters and %d tensors, the model has %d", c.Name, len(p.List()), len(p.Tensors()), len(want))
		}
		names := map[string]bool{}
		for i, q := range p.List() {
			names[q.Name] = true
			if info := q.Info(); want[i].Name != q.Name || !slices.Equal(want[i].Shape, info.Shape) {
				t.Errorf("%s: parameter %d is %v, the model has %v", c.Name, i, info, want[i])
			}
			if (q.Layer >= 0) != (want[i].Layer >= 0) || q.Layer >= 0 && q.Layer != want[i].Layer {
				t.Errorf("%s: %s is of layer %d, not %d", c.Name, q.Name, q.Layer, want[i].Layer)
			}
			if q.Matrix != (len(want[i].Shape) == 2) {
				t.Errorf("%s: %s is a matrix: %t", c.Name, q.Name, q.Matrix)
			}
			if p.Find(q.Layer, q.Part, q.Role, q.Bias) != q {
				t.Errorf("%s: %s is not found", c.Name, q.Name)
			}
		}
		if len(names) != len(want) {
			t.Errorf("%s: names repeat", c.Name)
		}
		if !slices.IsSortedFunc(p.Tensors(), func(a, b formats.TensorInfo) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("%s: tensors are not sorted", c.Name)
		}
		if (p.Find(HeadLayer, Head, 0, false) == nil) != p.Arch.Tied {
			t.Errorf("%s: tied %t, head %v", c.Name, p.Arch.Tied, p.Find(HeadLayer, Head, 0, false))
		}
	}
}

// TestTransposedParams: GPT-2's fused tensor comes apart into the rows that the formula names.
func TestTransposedParams(t *testing.T) {
	src := testmodel.Named("gpt2")
	m := described(t, src.Config, src)
	p := newTestParams(t, src, m, false)
	stored := contents(t, src, "transformer.h.1.attn.c_attn.weight") // [D, 3D]
	bias := contents(t, src, "transformer.h.1.attn.c_attn.bias")
	for r, role := range []arch.Role{arch.Q, arch.K, arch.V} {
		w, b := p.Find(1, Projection, role, false), p.Find(1, Projection, role, true)
		if w.Rows != m.D || w.Cols != m.D || b.Rows != m.D {
			t.Fatalf("%s is %dx%d", w.Name, w.Rows, w.Cols)
		}
		for o := range m.D {
			if b.Values[o] != bias[r*m.D+o] {
				t.Fatalf("bias %d of %s", o, role)
			}
			for i := range m.D {
				if w.Values[o*m.D+i] != stored[i*3*m.D+r*m.D+o] {
					t.Fatalf("value [%d, %d] of %s", o, i, role)
				}
			}
		}
	}
}

// TestViewFollowsTraining: values written to a parameter show in the source's layout, also through unaligned reads.
func TestViewFollowsTraining(t *testing.T) {
	for _, name := range []string{"gpt2", "llama-mqa-tied", "llama-bias"} {
		src := testmodel.Named(name)
		m := described(t, src.Config, src)
		for _, half := range []bool{false, true} {
			p := newTestParams(t, src, m, half)
			for k, q := range p.List() {
				v := make([]float32, q.Len())
				for i := range v {
					v[i] = float32((i*7+k*13)%251-125) / 128 // exact in bfloat16
				}
				q.Write(v, 0)
			}
			view, err := p.View(src, m)
			if err != nil {
				t.Fatal(err)
			}
			if !sameBits(logitsOf(t, view, m), logitsOf(t, p, p.Arch)) {
				t.Errorf("%s: logits of the view differ from those of the parameters", name)
			}
			for _, s := range []formats.Source{view, p} {
				for _, info := range s.Tensors() {
					checkUnaligned(t, s, info)
				}
			}
		}
	}
}

// checkUnaligned reads a tensor in odd pieces.
func checkUnaligned(t *testing.T, src formats.Source, info formats.TensorInfo) {
	t.Helper()
	size, err := info.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, size)
	if err := src.ReadAt(info.Name, want, 0); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 0, size)
	for n := 1; int64(len(got)) < size; n = n*3%1009 + 1 {
		b := make([]byte, min(int64(n), size-int64(len(got))))
		if err := src.ReadAt(info.Name, b, int64(len(got))); err != nil {
			t.Fatal(err)
		}
		got = append(got, b...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: pieces differ from the whole", info.Name)
	}
}

// TestReadBounds: reads past the end, before the beginning and of what is not there are refused.
func TestReadBounds(t *testing.T) {
	src := testmodel.Named("gpt2")
	m := described(t, src.Config, src)
	p := newTestParams(t, src, m, false)
	view, err := p.View(src, m)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []formats.Source{view, p} {
		info := s.Tensors()[0]
		size, _ := info.Bytes()
		for _, c := range []struct {
			name string
			off  int64
			n    int
		}{{info.Name, -4, 4}, {info.Name, size, 1}, {info.Name, size - 3, 4}, {info.Name, math.MaxInt64, 4},
			{info.Name, 0, int(size) + 1}, {"nothing", 0, 1}} {
			var e *formats.Error
			if err := s.ReadAt(c.name, make([]byte, c.n), c.off); !errors.As(err, &e) {
				t.Errorf("%d bytes of %s from %d: %v", c.n, c.name, c.off, err)
			}
		}
		if err := s.ReadAt(info.Name, nil, size); err != nil {
			t.Errorf("nothing at the end: %v", err)
		}
	}
}

// tiedCopy is a source with a second copy of the tied embedding and a buffer, as old checkpoints have them.
type tiedCopy struct {
	formats.Source
	embed string
}

func (s tiedCopy) Tensors() []formats.TensorInfo {
	head, _ := s.Lookup("lm_head.weight")
	buffer, _ := s.Lookup("a.rotary_emb.inv_freq")
	return append([]formats.TensorInfo{buffer, head}, s.Source.Tensors()...)
}

func (s tiedCopy) Lookup(name string) (formats.TensorInfo, bool) {
	switch name {
	case "lm_head.weight":
		info, ok := s.Source.Lookup(s.embed)
		info.Name = name
		return info, ok
	case "a.rotary_emb.inv_freq":
		return formats.TensorInfo{Name: name, DType: formats.F32, Shape: []int64{1}}, true
	}
	return s.Source.Lookup(name)
}

func (s tiedCopy) ReadAt(name string, p []byte, off int64) error {
	switch name {
	case "lm_head.weight":
		name = s.embed
	case "a.rotary_emb.inv_freq":
		binary.LittleEndian.PutUint32(p, math.Float32bits(3))
		return nil
	}
	return s.Source.ReadAt(name, p, off)
}

// TestViewOfTiedCopy: a stored copy of a tied embedding is trained along, and other tensors stay.
func TestViewOfTiedCopy(t *testing.T) {
	own := testmodel.Named("llama-mqa-tied")
	m := described(t, own.Config, own)
	src := tiedCopy{own, m.Embed}
	p := newTestParams(t, src, m, false)
	p.List()[0].Values[3] = 42
	view, err := p.View(src, m)
	if err != nil {
		t.Fatal(err)
	}
	described(t, own.Config, view) // refuses a head that differs
	if got := contents(t, view, "lm_head.weight"); got[3] != 42 {
		t.Errorf("the copy has %v", got[3])
	}
	if got := contents(t, view, "a.rotary_emb.inv_freq"); got[0] != 3 {
		t.Errorf("the buffer has %v", got[0])
	}
}

// TestParamsRefuse: sources that do not fit the model, and views of another one.
func TestParamsRefuse(t *testing.T) {
	src := testmodel.Named("llama-gqa")
	m := described(t, src.Config, src)
	w := m.Layers[1].Linears[arch.Down].Weight
	other := m.Clone()
	other.Layers[1].Linears[arch.Down].In++
	shared := m.Clone()
	shared.Layers[1].Linears[arch.V].Weight = shared.Layers[1].Linears[arch.K].Weight
	bad := testmodel.Named("llama-gqa")
	v := contents(t, bad, w)
	v[17] = float32(math.Inf(1))
	bad.Set(w, v)
	large := testmodel.Named("llama-gqa")
	v[17] = math.MaxFloat32
	large.Set(w, v)
	for _, c := range []struct {
		src  formats.Source
		m    *arch.Model
		want string
	}{
		{src.Without(w), m, "no such tensor"},
		{src, other, "floats [64 193] are needed"},
		{src, shared, "after 16 others"},
		{bad, m, "index 17 is not finite"},
		{large, m, "index 17"},
	} {
		_, err := NewHalfParams(c.src, c.m)
		var e *formats.Error
		if !errors.As(err, &e) || e.Tensor == "" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	p := newTestParams(t, src, m, false)
	for _, name := range []string{"llama-mha", "llama-bias", "llama-pruned"} {
		o := testmodel.Named(name)
		if _, err := p.View(o, described(t, o.Config, o)); err == nil {
			t.Errorf("a view of %s", name)
		}
	}
}
