package pipeline

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
	"modelpress/prune"
)

// table holds the tensors of a checkpoint as 64-bit floats that can be edited.
type table struct {
	formats.Source
	values map[string][]float64
	shapes map[string][]int64
}

func (b *bench) table(src formats.Source) *table {
	b.t.Helper()
	out := &table{src, map[string][]float64{}, map[string][]int64{}}
	for _, info := range src.Tensors() {
		short := float32s(b.t, src, info.Name)
		long := make([]float64, len(short))
		for i, v := range short {
			long[i] = float64(v)
		}
		out.values[info.Name], out.shapes[info.Name] = long, info.Shape
	}
	return out
}

func (b *table) Lookup(name string) (formats.TensorInfo, bool) {
	_, ok := b.values[name]
	return formats.TensorInfo{Name: name, DType: formats.F64, Shape: b.shapes[name]}, ok
}

func (b *table) ReadAt(name string, p []byte, off int64) error {
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], math.Float64bits(b.values[name][(int(off)+i)/8]))
	}
	return nil
}

// unitFactors are what the n units of a kind are multiplied by: 0 for those that go.
func unitFactors(u *prune.Units, n int) []float64 {
	f := make([]float64, n)
	for i, at := range unitList(u, n) {
		if f[at] = 1; u.Scale != nil {
			f[at] = float64(u.Scale[i])
		}
	}
	return f
}

// unitList lists the units that stay.
func unitList(u *prune.Units, n int) []int {
	if u.Keep != nil {
		return u.Keep
	}
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// masked is the plain float64 meaning of a cut of a checkpoint: the whole model, with weights multiplied in place and norms over some of
// the channels.
func (b *bench) masked(dir string, c *prune.Cut) *testmodel.Reference {
	b.t.Helper()
	s := b.open(dir)
	m, w, config := s.arch, b.table(s.ck), s.ck.Config()
	hidden := unitFactors(&c.Hidden, m.D)
	if m.Tied { // what scales the embedding does not scale the head
		w.values["lm_head.weight"], w.shapes["lm_head.weight"] = slices.Clone(w.values[m.Embed]), w.shapes[m.Embed]
		config = b.untied(config)
	}
	for _, name := range []string{m.Embed, m.PosEmbed} {
		for i := range w.values[name] {
			w.values[name][i] *= hidden[i%m.D]
		}
	}
	for l := range m.Layers {
		a, cut := &m.Layers[l], &c.Layers[l]
		of := 1.0
		switch {
		case cut.Drop:
			of = 0
		case cut.Scale != 0:
			of = float64(cut.Scale)
		}
		heads, ffn := unitFactors(&cut.Heads, a.G), unitFactors(&cut.FFN, a.F)
		query := make([]float64, a.H*a.K)
		for i := range query {
			query[i] = heads[i/a.K/(a.H/a.G)]
		}
		w.mask(a.Linears[arch.O], query, hidden, of)
		w.mask(a.Linears[arch.Down], ffn, hidden, of)
	}
	r, err := testmodel.NewReference(config, w)
	b.check(err)
	r.Channels = make([]bool, m.D)
	for _, i := range unitList(&c.Hidden, m.D) {
		r.Channels[i] = true
	}
	return r
}

// untied is a configuration of a model whose output head is a tensor of its own.
func (b *bench) untied(config []byte) []byte {
	var all map[string]any
	b.check(json.Unmarshal(config, &all))
	all["tie_word_embeddings"] = false
	out, err := json.Marshal(all)
	b.check(err)
	return out
}

// mask multiplies inputs and outputs of a projection, its bias with the outputs. A projection without inputs that stay is gone, bias
// and all.
func (b *table) mask(lin arch.Linear, in, out []float64, by float64) {
	if !lin.Present() {
		return
	}
	if !slices.ContainsFunc(in, func(f float64) bool { return f != 0 }) {
		by = 0
	}
	w := b.values[lin.Weight]
	for o := range lin.Out {
		for i := range lin.In {
			at := o*lin.In + i
			if lin.Transposed {
				at = i*lin.Out + o
			}
			w[at] *= by * out[o] * in[i]
		}
		if lin.Bias != "" {
			b.values[lin.Bias][o] *= by * out[o]
		}
	}
}

// stock is the float64 forward pass of a checkpoint by a second implementation, which reads configuration and weights by itself.
func (b *bench) stock(dir string) *testmodel.Reference {
	b.t.Helper()
	s := b.open(dir)
	r, err := testmodel.NewReference(b.read(dir, configName), s.ck)
	b.check(err)
	return r
}

func (b *bench) logits64(r *testmodel.Reference, ids []int32) []float64 {
	b.t.Helper()
	out, err := r.Logits(ids)
	b.check(err)
	return out
}

// farthest returns the largest difference of two lists relative to the root mean square of the second.
func farthest[T float32 | float64](t *testing.T, got []T, want []float64) float64 {
	t.Helper()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%d and %d values", len(got), len(want))
	}
	worst, sum := 0.0, 0.0
	for i, w := range want {
		d := math.Abs(float64(got[i]) - w)
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		worst, sum = max(worst, d), sum+w*w
	}
	return worst / math.Sqrt(sum/float64(len(want)))
}

// slices of the source: the rows and columns of each tensor that a cut leaves, by the tensor's name in the result.
type slicer struct {
	t    *testing.T
	s, r *source
	cut  *prune.Cut
	want map[string][]byte
}

// slicesOf cuts the bytes of every tensor of the model out of the source, element by element.
func slicesOf(t *testing.T, s, r *source, c *prune.Cut) map[string][]byte {
	t.Helper()
	z := &slicer{t, s, r, c, map[string][]byte{}}
	m, n, all := s.arch, r.arch, func(n int) []int { return unitList(&prune.Units{}, n) }
	hidden := unitList(&c.Hidden, m.D)
	z.put(n.Embed, m.Embed, all(m.V), hidden)
	z.put(n.PosEmbed, m.PosEmbed, all(m.MaxPosition), hidden)
	z.put(n.LMHead, m.LMHead, all(m.V), hidden)
	z.norm(n.FinalNorm, m.FinalNorm, hidden)
	for i, l := range c.Kept() {
		a, b, cut := &m.Layers[l], &n.Layers[i], &c.Layers[l]
		z.norm(b.AttnNorm, a.AttnNorm, hidden)
		z.norm(b.FFNNorm, a.FFNNorm, hidden)
		z.norm(b.QNorm, a.QNorm, all(a.K))
		z.norm(b.KNorm, a.KNorm, all(a.K))
		keys, ffn := channelsOf(unitList(&cut.Heads, a.G), a.K), unitList(&cut.FFN, a.F)
		queries := keys
		if a.G > 0 {
			queries = channelsOf(unitList(&cut.Heads, a.G), a.H/a.G*a.K)
		}
		for role, lin := range a.Linears {
			in, out := hidden, hidden
			switch arch.Role(role) {
			case arch.Q:
				out = queries
			case arch.K, arch.V:
				out = keys
			case arch.O:
				in = queries
			case arch.Gate, arch.Up:
				out = ffn
			case arch.Down:
				in = ffn
			}
			if lin.Present() && b.Linears[role].Present() {
				z.linear(b.Linears[role], lin, out, in)
			}
		}
	}
	return z.want
}

// channelsOf lists the channels of units that have block of them each.
func channelsOf(units []int, block int) []int {
	var out []int
	for _, u := range units {
		for j := range block {
			out = append(out, u*block+j)
		}
	}
	return out
}

func (z *slicer) norm(to, from arch.Norm, width []int) {
	z.put(to.Weight, from.Weight, nil, width)
	z.put(to.Bias, from.Bias, nil, width)
}

func (z *slicer) linear(to, from arch.Linear, out, in []int) {
	if from.StoredOut != from.Out { // queries, keys and values lie behind each other
		third := out
		out = nil
		for i := range 3 {
			for _, o := range third {
				out = append(out, i*from.Out+o)
			}
		}
	}
	rows, cols := out, in
	if from.Transposed {
		rows, cols = in, out
	}
	z.put(to.Weight, from.Weight, rows, cols)
	z.put(to.Bias, from.Bias, nil, out)
}

// put takes rows and columns of a tensor; nil rows stand for a vector.
func (z *slicer) put(to, from string, rows, cols []int) {
	if to == "" || z.want[to] != nil {
		return
	}
	info, ok := z.s.ck.Lookup(from)
	if !ok {
		z.t.Fatalf("%s: no tensor %q in the source", to, from)
	}
	if rows == nil {
		rows = []int{0}
	}
	raw, size, width := tensorBytes(z.t, z.s.ck, info), info.DType.Size(), int(info.Shape[len(info.Shape)-1])
	out := make([]byte, 0, len(rows)*len(cols)*size)
	for _, r := range rows {
		for _, c := range cols {
			out = append(out, raw[(r*width+c)*size:][:size]...)
		}
	}
	z.want[to] = out
}

// costOfFiles counts a checkpoint by its tensors and its configuration alone: values that are stored, operations of a token at a context
// of length tokens, bytes of a token in the KV cache.
func (b *bench) costOfFiles(dir string, length int) prunedCost {
	b.t.Helper()
	s := b.open(dir)
	var c prunedCost
	for _, info := range s.ck.Tensors() {
		n, err := info.Elements()
		b.check(err)
		c.Params += n
		if looked := info.Name == s.arch.PosEmbed || info.Name == s.arch.Embed && !s.arch.Tied; len(info.Shape) == 2 && !looked {
			c.FLOPs += 2 * n
		}
	}
	for l := range s.arch.Layers {
		a := &s.arch.Layers[l]
		seen := float64(length) / 2 // keys by a query, on average
		if a.Window > 0 && a.Window < length {
			seen = float64(a.Window) - float64(a.Window*a.Window)/float64(2*length)
		}
		c.FLOPs += int64(4 * float64(a.H*a.K) * seen)
		c.KVBytes += int64(2 * 2 * a.G * a.K)
	}
	return c
}

// pruned is a bench's result and what was decided of it.
type pruned struct {
	d    *pruneDecision
	out  string
	rep  *Report
	s, r *source
}

func (b *bench) runPruned() *pruned {
	b.t.Helper()
	p, rep, out := b.run()
	d := &pruneDecision{}
	b.check(decodeDecision(p.Steps[0].Decision, d))
	checkSizes(b.t, p, out)
	return &pruned{d, out, rep, b.open(b.src), b.open(filepath.Clean(out))}
}
