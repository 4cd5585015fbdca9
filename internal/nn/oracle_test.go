package nn

import (
	"math"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// oracle is the transformer in float64, one loop after another, written from the papers and sharing nothing with the
// package but the description of the model.
type oracle struct {
	t   testing.TB
	src formats.Source
	m   *arch.Model
	// masks, where set, gives the masks of a layer.
	masks func(layer int) []device.Mask
	// sites collects the input of each site of each layer, sums the column sums [H, T] of each layer.
	sites map[[2]int][]float64
	sums  map[int][]float64
	// nudge, where set, may change the input of a site before it is used.
	nudge func(layer int, s Site, v []float64)
	// other and alpha, where set, blend attention with that under the other masks.
	other func(layer int) []device.Mask
	alpha [][]float64 // [layer][KV head]
	read  map[string][]float64
	// gates, where set, holds those of each layer; embedGate multiplies the embedded tokens.
	gates     []oracleGates
	embedGate []float64
	// width, where not 0, is the number of channels that norms over D take means of; keep multiplies LayerNorm's gain and bias.
	width float64
	keep  []float64
}

// oracleGates multiply what a block adds to the stream [D], its KV heads' outputs [G] and its FFN's activations [F].
type oracleGates struct{ hidden, heads, ffn []float64 }

// scaled multiplies the columns of x by z, each for per columns.
func scaled(x, z []float64, per int) []float64 {
	for i := range x {
		if z != nil {
			x[i] *= z[i/per%len(z)]
		}
	}
	return x
}

func (o *oracle) gatesOf(l int) oracleGates {
	if o.gates == nil {
		return oracleGates{}
	}
	return o.gates[l]
}

func (o *oracle) vector(name string) []float64 {
	if v, ok := o.read[name]; ok {
		return v
	}
	info, ok := o.src.Lookup(name)
	if !ok {
		o.t.Fatalf("no tensor %s", name)
	}
	n, err := info.Elements()
	if err != nil {
		o.t.Fatal(err)
	}
	v := make([]float32, n)
	if err := formats.ReadF32(o.src, name, v, 0); err != nil {
		o.t.Fatal(err)
	}
	out := make([]float64, n)
	for i, x := range v {
		out[i] = float64(x)
	}
	if o.read == nil {
		o.read = map[string][]float64{}
	}
	o.read[name] = out
	return out
}

// apply computes x·Wᵀ + b.
func (o *oracle) apply(l arch.Linear, x []float64, t int) []float64 {
	w, y := o.vector(l.Weight), make([]float64, t*l.Out)
	at := func(out, in int) float64 { return w[(l.Row+out)*l.In+in] }
	if l.Transposed {
		at = func(out, in int) float64 { return w[in*l.StoredOut+l.Row+out] }
	}
	var bias []float64
	if l.Bias != "" {
		bias = o.vector(l.Bias)[l.Row:]
	}
	row := make([]float64, l.In)
	for j := range l.Out {
		for c := range row {
			row[c] = at(j, c)
		}
		for i := range t {
			s := 0.0
			for c, v := range x[i*l.In : (i+1)*l.In] {
				s += v * row[c]
			}
			if bias != nil {
				s += bias[j]
			}
			y[i*l.Out+j] = s
		}
	}
	return y
}

func (o *oracle) norm(n arch.Norm, x []float64, width int) []float64 {
	w, y := o.vector(n.Weight), make([]float64, len(x))
	var bias []float64
	if n.Bias != "" {
		bias = o.vector(n.Bias)
	}
	for i := 0; i < len(x); i += width {
		row := x[i : i+width]
		mean, sq, over := 0.0, 0.0, float64(width)
		if o.width != 0 && width == o.m.D && n != o.m.Layers[0].QNorm && n != o.m.Layers[0].KNorm {
			over = o.width
		}
		if n.Bias != "" {
			for _, v := range row {
				mean += v / over
			}
		}
		for _, v := range row {
			sq += v * v / over
		}
		sq -= mean * mean
		for j, v := range row {
			y[i+j] = (v - mean) / math.Sqrt(sq+float64(o.m.Eps)) * w[j]
			if n.Bias != "" {
				y[i+j] += bias[j]
				if o.keep != nil {
					y[i+j] *= o.keep[j]
				}
			}
		}
	}
	return y
}

// frequency returns the angle per position of pair j and the factor on cosine and sine.
func frequency(r *arch.Rope, dim, t, j int) (freq, factor float64) {
	theta := r.Theta
	pair := 2 * float64(j) / float64(dim)
	if r.Type == "dynamic" && t > r.OriginalMaxPosition {
		grow := r.Factor*float64(t)/float64(r.OriginalMaxPosition) - r.Factor + 1
		theta *= math.Pow(grow, float64(dim)/float64(dim-2))
	}
	freq = math.Pow(theta, -pair)
	old := float64(r.OriginalMaxPosition)
	switch r.Type {
	case "linear":
		return freq / r.Factor, 1
	case "llama3":
		turns := old * freq / (2 * math.Pi) // rotations within the old context
		if turns < r.LowFreqFactor {
			return freq / r.Factor, 1
		}
		if turns > r.HighFreqFactor {
			return freq, 1
		}
		smooth := (turns - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
		return (1-smooth)*freq/r.Factor + smooth*freq, 1
	case "yarn":
		dimOf := func(turns float64) float64 {
			return float64(dim) * math.Log(old/(turns*2*math.Pi)) / (2 * math.Log(theta))
		}
		low, high := math.Max(math.Floor(dimOf(r.BetaFast)), 0), math.Min(math.Ceil(dimOf(r.BetaSlow)), float64(dim-1))
		if low == high {
			high += 0.001
		}
		ramp := math.Min(math.Max((float64(j)-low)/(high-low), 0), 1)
		return freq/r.Factor*ramp + freq*(1-ramp), 0.1*math.Log(r.Factor) + 1
	}
	return freq, 1
}

func (o *oracle) rotate(x []float64, t, heads, k int) {
	for j := range k / 2 {
		f, factor := frequency(o.m.Rope, k, t, j)
		for i := range t {
			s, c := math.Sincos(float64(i) * f)
			for h := range heads {
				v := x[(i*heads+h)*k : (i*heads+h+1)*k]
				a, b := v[j], v[j+k/2]
				v[j], v[j+k/2] = (a*c-b*s)*factor, (b*c+a*s)*factor
			}
		}
	}
}

func (o *oracle) attention(l int, n []float64, t int) []float64 {
	a := &o.m.Layers[l]
	q, k, v := o.apply(a.Linears[arch.Q], n, t), o.apply(a.Linears[arch.K], n, t), o.apply(a.Linears[arch.V], n, t)
	if a.QNorm.Present() {
		q, k = o.norm(a.QNorm, q, a.K), o.norm(a.KNorm, k, a.K)
	}
	if o.m.Rope != nil {
		o.rotate(q, t, a.H, a.K)
		o.rotate(k, t, a.G, a.K)
	}
	out, sums := o.attend(l, q, k, v, t, func(g, i, j int) bool { return o.sees(l, g, i, j) })
	o.sums[l] = sums
	if o.other == nil {
		return out
	}
	masks := o.other(l)
	other, _ := o.attend(l, q, k, v, t, func(g, i, j int) bool { return seen(masks[g], i, j) })
	for i := range out {
		w := o.alpha[l][i/a.K%a.H/(a.H/a.G)]
		out[i] = w*out[i] + (1-w)*other[i]
	}
	return out
}

func (o *oracle) attend(l int, q, k, v []float64, t int, sees func(g, i, j int) bool) (out, sums []float64) {
	a := &o.m.Layers[l]
	out, sums = make([]float64, t*a.H*a.K), make([]float64, a.H*t)
	for h := range a.H {
		g := h / (a.H / a.G)
		for i := range t {
			p, total := make([]float64, t), 0.0
			for j := range i + 1 {
				if sees(g, i, j) {
					dot := 0.0
					for c := range a.K {
						dot += q[(i*a.H+h)*a.K+c] * k[(j*a.G+g)*a.K+c]
					}
					p[j] = math.Exp(dot / math.Sqrt(float64(a.K)))
					total += p[j]
				}
			}
			for j := range i + 1 {
				sums[h*t+j] += p[j] / total
				for c := range a.K {
					out[(i*a.H+h)*a.K+c] += p[j] / total * v[(j*a.G+g)*a.K+c]
				}
			}
		}
	}
	return out, sums
}

func (o *oracle) sees(l, g, i, j int) bool {
	if o.masks != nil {
		return seen(o.masks(l)[g], i, j)
	}
	w := o.m.Layers[l].Window
	return w == 0 || i-j < w
}

func seen(m device.Mask, i, j int) bool { return m.Recent == 0 || j < m.Sink || i-j < m.Recent }

func (o *oracle) activate(gate, up []float64) []float64 {
	y := make([]float64, len(up))
	for i, u := range up {
		switch {
		case gate != nil:
			y[i] = gate[i] / (1 + math.Exp(-gate[i])) * u
		case o.m.Act == arch.GELUTanh:
			y[i] = u / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(u+0.044715*u*u*u)))
		default:
			y[i] = u / 2 * (1 + math.Erf(u/math.Sqrt2))
		}
	}
	return y
}

// logits returns [T, V].
func (o *oracle) logits(ids []int32) []float64 {
	x := o.embed(ids)
	o.blocks(x, len(ids), 0)
	return o.head(x, len(ids))
}

func (o *oracle) head(x []float64, t int) []float64 {
	return o.apply(arch.Linear{Weight: o.m.LMHead, In: o.m.D, Out: o.m.V}, o.norm(o.m.FinalNorm, x, o.m.D), t)
}

// embed returns the input of the first block, [T, D].
func (o *oracle) embed(ids []int32) []float64 {
	t, d := len(ids), o.m.D
	o.sites, o.sums = map[[2]int][]float64{}, map[int][]float64{}
	table, x := o.vector(o.m.Embed), make([]float64, t*d)
	for i, id := range ids {
		copy(x[i*d:(i+1)*d], table[int(id)*d:])
	}
	if o.m.PosEmbed != "" {
		add(x, o.vector(o.m.PosEmbed)[:t*d])
	}
	return scaled(x, o.embedGate, 1)
}

// blocks runs the blocks from one on over x, in place.
func (o *oracle) blocks(x []float64, t, from int) {
	d := o.m.D
	for l := from; l < len(o.m.Layers); l++ {
		a, g := &o.m.Layers[l], o.gatesOf(l)
		site := func(s Site, v []float64) []float64 {
			if o.nudge != nil {
				o.nudge(l, s, v)
			}
			o.sites[[2]int{l, int(s)}] = v
			return v
		}
		if a.HasAttention() {
			n := site(SiteQKV, o.norm(a.AttnNorm, x, d))
			out := scaled(o.attention(l, n, t), g.heads, a.H/a.G*a.K)
			add(x, scaled(o.apply(a.Linears[arch.O], site(SiteO, out), t), g.hidden, 1))
		}
		if a.HasFFN() {
			n := site(SiteGateUp, o.norm(a.FFNNorm, x, d))
			var gate []float64
			if a.Linears[arch.Gate].Present() {
				gate = o.apply(a.Linears[arch.Gate], n, t)
			}
			hid := scaled(o.activate(gate, o.apply(a.Linears[arch.Up], n, t)), g.ffn, 1)
			add(x, scaled(o.apply(a.Linears[arch.Down], site(SiteDown, hid), t), g.hidden, 1))
		}
	}
}

func add(y, x []float64) {
	for i, v := range x {
		y[i] += v
	}
}

// far returns the largest distance to the oracle, relative to the larger of 1 and its value.
func far(t testing.TB, got []float32, want []float64) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values where %d are expected", len(got), len(want))
	}
	worst := 0.0
	for i, w := range want {
		d := math.Abs(float64(got[i])-w) / max(1, math.Abs(w))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		worst = max(worst, d)
	}
	return worst
}
