package heads

import (
	"slices"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// losses are those of every rule at each objective's length, [objective][layer][KV head][rule], apart for answers and text.
type losses struct {
	lengths       []int
	answers, text [][][][]float64
}

// tables scales the profile to what its inputs really lose and adds up inputs of one length; the lengths beyond the profile come last.
func (r *MoAResult) tables(m *arch.Model, rules []manifest.Policy, opt MoAOptions) *losses {
	var t losses
	longest := r.Profile.Lengths[len(r.Profile.Lengths)-1].Length
	add := func(i, length int) {
		p := &r.Profile.Lengths[i]
		o := slices.Index(t.lengths, length)
		if o < 0 {
			o = len(t.lengths)
			t.lengths = append(t.lengths, length)
			t.answers, t.text = append(t.answers, noLosses(m, len(rules))), append(t.text, noLosses(m, len(rules)))
		}
		to := t.text[o]
		if opt.Inputs[i].Samples[0].Answer != nil {
			to = t.answers[o]
		}
		addTables(to, scaled(ruleLosses(m, p, length, rules, opt.Grid.Sink, opt.Additive), r.Weights[i]), 1)
	}
	for i, p := range r.Profile.Lengths {
		add(i, p.Length)
	}
	for _, n := range opt.Beyond {
		for i, p := range r.Profile.Lengths {
			if p.Length == longest {
				add(i, n)
			}
		}
	}
	return &t
}

// search fills in the front: the choices that trade one length for another, and for each emphasis the one of the least losses over all
// lengths with answers counted that much more. The latter have no length of their own.
func (r *MoAResult) search(m *nn.Model, rules []manifest.Policy, opt MoAOptions) error {
	t := r.tables(m.Arch, rules, opt)
	caches, err := CacheLimits(m.Arch.Layers, rules, t.lengths, opt.Budget, 0)
	if err != nil {
		return err
	}
	for o := range t.lengths {
		both := noLosses(m.Arch, len(rules))
		addTables(both, t.answers[o], 1)
		addTables(both, t.text[o], 1)
		r.loss = append(r.loss, both)
	}
	f := &Frontier{Lengths: t.lengths, Loss: r.loss, Caches: caches, Distinct: opt.PerLayer, Ranges: opt.Ranges, For: m.Dev.For}
	if f.Ranges == 0 && len(t.lengths) > 3 {
		f.Ranges = 2
	}
	if r.Front, r.Solves, err = f.Solve(); err != nil {
		return err
	}
	found, errs := make([]*Candidate, len(opt.Emphases)), make([]error, len(opt.Emphases))
	m.Dev.For(len(found), func(i int) {
		k := &Knapsack{Loss: noLosses(m.Arch, len(rules)), Caches: caches, Distinct: opt.PerLayer}
		for o := range t.lengths {
			addTables(k.Loss, t.answers[o], opt.Emphases[i])
			addTables(k.Loss, t.text[o], 1)
		}
		s, err := k.Solve()
		if errs[i] = err; err == nil {
			found[i] = &Candidate{Rule: s.Rule, Loss: f.losses(s.Rule), Density: s.Density, Gap: s.Gap}
		}
	})
	for i, c := range found {
		if errs[i] != nil {
			return errs[i]
		}
		r.Front, r.Solves = append(r.Front, *c), r.Solves+1
	}
	return nil
}

func noLosses(m *arch.Model, rules int) [][][]float64 {
	out := make([][][]float64, len(m.Layers))
	for l, layer := range m.Layers {
		out[l] = make([][]float64, kvHeads(layer))
		for g := range out[l] {
			out[l][g] = make([]float64, rules)
		}
	}
	return out
}

// scaled multiplies losses so that they add up to total where each head has its worst rule. A table of zeros stays one.
func scaled(table [][][]float64, total float64) [][][]float64 {
	var worst float64
	for _, layer := range table {
		for _, row := range layer {
			worst += slices.Max(row)
		}
	}
	if worst == 0 {
		return table
	}
	for _, layer := range table {
		for _, row := range layer {
			for r := range row {
				row[r] *= total / worst
			}
		}
	}
	return table
}

// addTables adds by times src to dst.
func addTables(dst, src [][][]float64, by float64) {
	for l, layer := range src {
		for g, row := range layer {
			for r, v := range row {
				dst[l][g][r] += float64(by * v)
			}
		}
	}
}

// ruleLosses is the loss of every rule at a length, [layer][KV head][rule], from a profile of the same length or a shorter
// one: what lies beyond a span of a longer sequence is taken to matter as what lies beyond the same part of the profiled one. A rule is
// judged by the bands that lie wholly in what its sinks leave of its span, at least one, so that a plan never keeps less than was
// measured. In a layer with a sliding window, a rule that keeps as much loses nothing.
func ruleLosses(m *arch.Model, p *LengthProfile, length int, rules []manifest.Policy, sink int, additive bool) [][][]float64 {
	loss := p.Joint
	if additive {
		loss = p.Additive
	}
	out := noLosses(m, len(rules))
	for l, layer := range m.Layers {
		for g := range out[l] {
			for r := range rules {
				if span := rules[r].Span(length); span < int(tokensKept(length, layer.Window)) {
					out[l][g][r] = loss(l, g, max(1, (span-sink)*p.Length/length/p.Width*p.Width))
				}
			}
		}
	}
	return out
}
