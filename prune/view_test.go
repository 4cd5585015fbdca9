package prune

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// A cut that leaves everything shows the source itself, however it says so.
func TestViewIdentity(t *testing.T) {
	for _, c := range testmodel.Cases() {
		src := testmodel.New(c.Options)
		m := describe(t, src.Config, src)
		said := &Cut{Layers: make([]CutLayer, len(m.Layers))}
		all := func(u *Units, n int) {
			u.Keep, u.Scale = make([]int, n), slices.Repeat([]float32{1}, n)
			for i := range u.Keep {
				u.Keep[i] = i
			}
		}
		all(&said.Hidden, m.D)
		for l := range said.Layers {
			said.Layers[l].Scale = 1
			all(&said.Layers[l].Heads, m.Layers[l].G)
			all(&said.Layers[l].FFN, m.Layers[l].F)
		}
		for _, cut := range []*Cut{said, {Layers: make([]CutLayer, len(m.Layers))}} {
			v, n, err := View(src, m, cut)
			if err != nil {
				t.Fatal(err)
			}
			changes, err := Changed(src, m, cut)
			if v != formats.Source(src) || !reflect.DeepEqual(n, m) || !cut.Identity(m) || len(changes) != 0 || err != nil {
				t.Errorf("%s: identity %t, %v, %v", c.Name, cut.Identity(m), changes, err)
			}
		}
	}
}

// plainSlice picks rows and columns of a tensor byte for byte.
func plainSlice(raw []byte, size int, cols int, rowList, colList []int) []byte {
	var out []byte
	for _, r := range rowList {
		for _, c := range colList {
			out = append(out, raw[(r*cols+c)*size:][:size]...)
		}
	}
	return out
}

// positions are the places of units of block neighbours each.
func (u *Units) positions(n, block int) []int {
	var out []int
	for i, f := range (&Units{Keep: u.Keep}).factors(n) {
		if f == 0 {
			continue
		}
		for j := range block {
			out = append(out, i*block+j)
		}
	}
	return out
}

func seq(n int) []int { return (&Units{}).positions(n, 1) }

// Without scales, every tensor keeps its type, and has the bytes of the rows and columns that stay.
func TestViewCopiesBytes(t *testing.T) {
	for name, o := range models() {
		for _, dt := range []formats.DType{formats.F32, formats.BF16, formats.F16} {
			o.DType = dt
			src := spiced(o)
			m := describe(t, src.Config, src)
			c := randomCut(m, 7, false)
			v, n, err := View(src, m, c)
			if err != nil {
				t.Fatal(err)
			}
			hidden := c.Hidden.positions(m.D, 1)
			want := map[string][]byte{}
			add := func(to, from string, rows, cols []int) {
				if to == "" {
					return
				}
				info, _ := src.Lookup(from)
				want[to] = plainSlice(bytesOf(t, src, from), dt.Size(), int(info.Shape[len(info.Shape)-1]), rows, cols)
			}
			add(m.Embed, m.Embed, seq(m.V), hidden)
			add(m.PosEmbed, m.PosEmbed, seq(m.MaxPosition), hidden)
			add(m.LMHead, m.LMHead, seq(m.V), hidden)
			add(m.FinalNorm.Weight, m.FinalNorm.Weight, []int{0}, hidden)
			add(m.FinalNorm.Bias, m.FinalNorm.Bias, []int{0}, hidden)
			for i, l := range c.Kept() {
				a, b, cl := &m.Layers[l], &n.Layers[i], &c.Layers[l]
				for _, p := range [][2]arch.Norm{{b.AttnNorm, a.AttnNorm}, {b.FFNNorm, a.FFNNorm}} {
					add(p[0].Weight, p[1].Weight, []int{0}, hidden)
					add(p[0].Bias, p[1].Bias, []int{0}, hidden)
				}
				add(b.QNorm.Weight, a.QNorm.Weight, []int{0}, seq(a.K))
				add(b.KNorm.Weight, a.KNorm.Weight, []int{0}, seq(a.K))
				for _, role := range b.Roles() {
					in, out := hidden, hidden
					switch role {
					case arch.Q:
						out = cl.Heads.positions(a.G, a.H/a.G*a.K)
					case arch.K, arch.V:
						out = cl.Heads.positions(a.G, a.K)
					case arch.O:
						in = cl.Heads.positions(a.G, a.H/a.G*a.K)
					case arch.Gate, arch.Up:
						out = cl.FFN.positions(a.F, 1)
					case arch.Down:
						in = cl.FFN.positions(a.F, 1)
					}
					lin, to := a.Linears[role], b.Linears[role]
					if lin.StoredOut != lin.Out { // the thirds of one tensor
						third := out
						out = nil
						for i := range 3 {
							for _, p := range third {
								out = append(out, i*lin.Out+p)
							}
						}
					}
					rows, cols := out, in
					if lin.Transposed {
						rows, cols = in, out
					}
					add(to.Weight, lin.Weight, rows, cols)
					add(to.Bias, lin.Bias, []int{0}, out)
				}
			}
			if len(v.Tensors()) != len(want) {
				t.Errorf("%s: %d tensors, want %d", name, len(v.Tensors()), len(want))
			}
			for _, p := range n.Parameters() {
				if info, ok := v.Lookup(p.Name); !ok || !slices.Equal(info.Shape, p.Shape) || info.DType != dt {
					t.Errorf("%s: %s is %v, the model says %v", name, p.Name, info, p.Shape)
				} else if !bytes.Equal(bytesOf(t, v, p.Name), want[p.Name]) {
					t.Errorf("%s: bytes of %s differ", name, p.Name)
				}
			}
			if n.NumParameters() != countValues(v) {
				t.Errorf("%s: %d parameters of %d", name, n.NumParameters(), countValues(v))
			}
		}
	}
}

func countValues(src formats.Source) int64 {
	sum := int64(0)
	for _, info := range src.Tensors() {
		n, _ := info.Elements()
		sum += n
	}
	return sum
}

// extended is a source with tensors of which the model knows nothing.
type extended struct {
	*testmodel.Model
	extra map[string][]byte
}

func (e extended) Lookup(name string) (formats.TensorInfo, bool) {
	if b, ok := e.extra[name]; ok {
		return formats.TensorInfo{Name: name, DType: formats.U8, Shape: []int64{1, int64(len(b))}}, true
	}
	return e.Model.Lookup(name)
}

func (e extended) Tensors() []formats.TensorInfo {
	out := slices.Clone(e.Model.Tensors())
	for name := range e.extra {
		info, _ := e.Lookup(name)
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b formats.TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (e extended) ReadAt(name string, p []byte, off int64) error {
	if b, ok := e.extra[name]; ok {
		copy(p, b[off:])
		return nil
	}
	return e.Model.ReadAt(name, p, off)
}

// Tensors that the model does not name follow their layers.
func TestViewOfOtherTensors(t *testing.T) {
	src := extended{testmodel.New(testmodel.Options{Family: "gpt2", Layers: 12, Seed: 41}), map[string][]byte{
		"transformer.h.0.attn.bias": {1}, "transformer.h.1.attn.bias": {2}, "transformer.h.9.attn.masked_bias": {3}, "transformer.h.10.attn.bias": {4},
		"transformer.h.10.extra": {5}, "transformer.h.11.attn.bias": {6}, "transformer.h.11.extra": {7}, "score.weight": {8}, "transformer.h.12.extra": {9},
	}}
	m := describe(t, src.Config, src)
	c := &Cut{Layers: make([]CutLayer, 12)}
	c.Layers[1].Drop, c.Layers[9].Drop = true, true
	c.Layers[11].Heads.Keep = []int{}
	v, n, err := View(src, m, c)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{"transformer.h.0.attn.bias": {1}, "transformer.h.8.attn.bias": {4}, "transformer.h.8.extra": {5}, "transformer.h.9.extra": {7},
		"score.weight": {8}, "transformer.h.12.extra": {9}}
	got := map[string][]byte{}
	for _, name := range n.Unused(v) {
		got[name] = bytesOf(t, v, name)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if !slices.IsSortedFunc(v.Tensors(), func(a, b formats.TensorInfo) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("tensors are not sorted")
	}
	changes, err := Changed(src, m, c)
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	for _, ch := range changes {
		if ch.To == "" {
			gone++
		} else if ch.Sliced || ch.Scaled || !bytes.Equal(bytesOf(t, src, ch.From), bytesOf(t, v, ch.To)) {
			t.Errorf("%+v: other bytes", ch)
		}
	}
	// Gone: two layers of 12 with a buffer each, and the six tensors of attention with the buffer of another. Renamed: layers 2 to 8,
	// 10 with two others, and what is left of 11.
	if gone != 2*13+7 || len(changes) != gone+7*12+14+7 {
		t.Errorf("%d tensors are gone, %d change", gone, len(changes))
	}
}

// A stored copy of the embedding, which a tied head may have, goes where the embedding changes.
func TestViewOfTiedCopy(t *testing.T) {
	tied := testmodel.New(testmodel.Options{Tied: true, Seed: 42})
	src := copied{tied}
	m := describe(t, src.Config, src)
	for _, c := range []struct {
		hidden Units
		stays  bool
	}{{Units{}, true}, {Units{Keep: []int{0, 1}}, false}, {Units{Scale: slices.Repeat([]float32{2}, 64)}, false}} {
		cut := &Cut{Hidden: c.hidden, Layers: []CutLayer{{Drop: true}, {}}}
		v, n, err := View(src, m, cut)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := v.Lookup("lm_head.weight"); ok != c.stays {
			t.Errorf("%+v: the copy stays: %t", c.hidden, ok)
		}
		describe(t, smallConfig(t, src.Config, n), v)
	}
}

// copied has a second copy of its embedding.
type copied struct{ *testmodel.Model }

func (c copied) name(name string) string {
	if name == "lm_head.weight" {
		return "model.embed_tokens.weight"
	}
	return name
}

func (c copied) Lookup(name string) (formats.TensorInfo, bool) {
	info, ok := c.Model.Lookup(c.name(name))
	info.Name = name
	return info, ok
}

func (c copied) Tensors() []formats.TensorInfo {
	info, _ := c.Lookup("lm_head.weight")
	return append([]formats.TensorInfo{info}, c.Model.Tensors()...)
}

func (c copied) ReadAt(name string, p []byte, off int64) error {
	return c.Model.ReadAt(c.name(name), p, off)
}

// Changed says what differs, and nothing else differs.
func TestChanged(t *testing.T) {
	for name, o := range models() {
		src := spiced(o)
		m := describe(t, src.Config, src)
		for seed := range uint64(2) {
			c := randomCut(m, seed, seed == 1)
			if seed == 1 {
				c.Hidden = Units{}
			}
			if fused(m) && seed == 1 {
				continue
			}
			v, _, err := View(src, m, c)
			if err != nil {
				t.Fatal(err)
			}
			list, err := Changed(src, m, c)
			if err != nil {
				t.Fatal(err)
			}
			said := map[string]Change{}
			for i, ch := range list {
				said[ch.From] = ch
				if i > 0 && list[i-1].From >= ch.From {
					t.Errorf("%s: %s stands after %s", name, ch.From, list[i-1].From)
				}
			}
			shown := 0
			for _, info := range src.Tensors() {
				ch, changes := said[info.Name]
				if !changes {
					ch = Change{From: info.Name, To: info.Name}
				}
				if ch.To == "" {
					continue
				}
				shown++
				got, ok := v.Lookup(ch.To)
				if !ok || ch.Scaled != (got.DType == formats.F64) || ch.Sliced == slices.Equal(got.Shape, info.Shape) {
					t.Errorf("%s: %+v: %v is now %v", name, ch, info, got)
				}
				if !ch.Sliced && !ch.Scaled && !bytes.Equal(bytesOf(t, src, ch.From), bytesOf(t, v, ch.To)) {
					t.Errorf("%s: %+v: other bytes", name, ch)
				}
			}
			if shown != len(v.Tensors()) {
				t.Errorf("%s: %d tensors, %d are accounted for", name, len(v.Tensors()), shown)
			}
		}
	}
}

// A layer of which nothing is left keeps its place.
func TestViewOfEmptyLayer(t *testing.T) {
	src := testmodel.New(testmodel.Options{Layers: 3, Seed: 43})
	m := describe(t, src.Config, src)
	c := &Cut{Layers: []CutLayer{{}, {Heads: Units{Keep: []int{}}, FFN: Units{Keep: []int{}}}, {}}}
	v, n, err := View(src, m, c)
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Layers) != 3 || n.Layers[1].HasAttention() || n.Layers[1].HasFFN() || len(v.Tensors()) != 3+2*9 {
		t.Errorf("%+v, %d tensors", n.Layers[1], len(v.Tensors()))
	}
	describe(t, smallConfig(t, src.Config, n), v)
}

// The source of random reads: cuts of tensors whose rows are longer than what is read at once.
func wideModel() *testmodel.Model {
	return testmodel.New(testmodel.Options{Layers: 1, D: 8, H: 2, F: 70001, V: 8, Context: 8, Seed: 44})
}

func TestViewOfLongRows(t *testing.T) {
	src := wideModel()
	m := describe(t, src.Config, src)
	rnd := rand.New(rand.NewPCG(1, 1))
	cut := &Cut{Hidden: Units{Keep: []int{0, 3, 4, 7}}, Layers: []CutLayer{{FFN: randomUnits(rnd, m.Layers[0].F, 30000, false)}}}
	v, n, err := View(src, m, cut)
	if err != nil {
		t.Fatal(err)
	}
	name := m.Layers[0].Linears[arch.Down].Weight
	want := plainSlice(bytesOf(t, src, name), 4, m.Layers[0].F, cut.Hidden.Keep, cut.Layers[0].FFN.Keep)
	if !bytes.Equal(bytesOf(t, v, name), want) {
		t.Error("bytes differ")
	}
	if n.Layers[0].F != 30000 {
		t.Errorf("%+v", n.Layers[0])
	}
}
