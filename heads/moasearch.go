package heads

import (
	"errors"
	"fmt"
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

// feasible reports a budget that no choice of rules keeps, before anything is measured.
func feasible(m *arch.Model, rules []manifest.Policy, opt MoAOptions) error {
	caches, err := opt.caches(m, rules)
	if err != nil {
		return err
	}
	_, err = (&Knapsack{Loss: noLosses(m, len(rules)), Caches: caches, Distinct: opt.PerLayer}).Solve()
	var limit *LimitError
	if errors.As(err, &limit) {
		return fmt.Errorf("heads: moa: %w; lower the sinks and the least window (together %d tokens), or allow more of the cache", err, opt.Grid.Min)
	}
	return err
}

// caches are the budget's limits.
func (o *MoAOptions) caches(m *arch.Model, rules []manifest.Policy) ([]CacheLimit, error) {
	at := o.At
	if at == nil {
		for _, in := range o.Inputs {
			at = append(at, in.Length)
		}
		at = slices.Compact(append(at, o.Beyond...))
	}
	return CacheLimits(m.Layers, rules, at, o.Budget, 0)
}

// search fills in the front: the choices that trade one length for another, and those of further searches, which have no length
// of their own.
func (r *MoAResult) search(m *nn.Model, rules []manifest.Policy, opt MoAOptions) error {
	t := r.tables(m.Arch, rules, opt)
	caches, err := opt.caches(m.Arch, rules)
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
	specs := r.further(m.Arch, rules, t, opt)
	found, errs := make([]*Candidate, len(specs)), make([]error, len(specs))
	m.Dev.For(len(found), func(i int) {
		k := &Knapsack{Loss: specs[i], Caches: caches, Distinct: opt.PerLayer}
		s, err := k.Solve()
		if errs[i] = err; err == nil {
			found[i] = &Candidate{Rule: s.Rule, Loss: f.losses(s.Rule), Density: s.Density, Gap: s.Gap}
		}
	})
	for i, c := range found {
		var limit *LimitError
		if errors.As(errs[i], &limit) {
			continue // more heads kept than the budget has room for
		}
		if errs[i] != nil {
			return errs[i]
		}
		r.Front, r.Solves = append(r.Front, *c), r.Solves+1
	}
	return nil
}

// further lists the losses of further searches, summed over lengths: with answers counted more by each emphasis, and with the heads
// that answers rest on most kept whole, 1, 2, 3, 4, 6, 8, 12, … of them.
func (r *MoAResult) further(m *arch.Model, rules []manifest.Policy, t *losses, opt MoAOptions) [][][][]float64 {
	sum := func(answers float64) [][][]float64 {
		out := noLosses(m, len(rules))
		for o := range t.lengths {
			addTables(out, t.answers[o], answers)
			addTables(out, t.text[o], 1)
		}
		return out
	}
	var list [][][][]float64
	for _, e := range opt.Emphases {
		list = append(list, sum(e))
	}
	scores, total := t.answerScores(m, rules, opt.Budget)
	for k, step := 1, 1; k <= total/2; k += step {
		list = append(list, keepWhole(sum(1), SelectCount(scores, k).Full, rules, t.lengths[len(t.lengths)-1]))
		if k == 4 || k > 4 && k&(k-1) == 0 {
			step = k / 2
		}
	}
	return list
}

// answerScores is what answers lose by each head, over all lengths, under the longest rule within the budget, and the number of heads.
func (t *losses) answerScores(m *arch.Model, rules []manifest.Policy, budget float64) ([][]float64, int) {
	length, even := t.lengths[len(t.lengths)-1], 0
	within := func(r int) bool { return float64(rules[r].Span(length)) <= budget*float64(length) }
	for r := range rules {
		if s, have := rules[r].Span(length), rules[even].Span(length); within(r) && (s > have || !within(even)) {
			even = r
		}
	}
	scores, n := rowsOf(m.Layers, kvHeads), 0
	for l := range scores {
		for g := range scores[l] {
			n++
			for o := range t.lengths {
				scores[l][g] += t.answers[o][l][g][even]
			}
		}
	}
	return scores, n
}

// keepWhole makes every rule of the marked heads that does not keep all of a sequence of length tokens cost more than anything else can.
func keepWhole(table [][][]float64, full [][]bool, rules []manifest.Policy, length int) [][][]float64 {
	most := 1.0
	for _, layer := range table {
		for _, row := range layer {
			most += slices.Max(row)
		}
	}
	for l, layer := range table {
		for g, row := range layer {
			for r := range row {
				if full[l][g] && rules[r].Span(length) < length {
					row[r] += most
				}
			}
		}
	}
	return table
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
					part := span - sink
					if layer.Window == 0 { // a sliding window does not grow with the text
						part = part * p.Length / length
					}
					out[l][g][r] = loss(l, g, max(1, part/p.Width*p.Width))
				}
			}
		}
	}
	return out
}
