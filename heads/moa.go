package heads

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// MoAOptions describes a search for elastic spans. Zero values stand for those in brackets.
type MoAOptions struct {
	// Inputs is what the model sees, by length ascending. Inputs of one length are sets of their own, such as questions and
	// text. What each loses is scaled to what it really loses, in nats per token, where every span is the shortest.
	Inputs   []ProfileInput
	Budget   float64 // mean density of the cache, at most, at the lengths At; nil for all of Inputs and Beyond
	At       []int
	Beyond   []int    // further lengths at which the budget holds
	Grid     RuleGrid // the rules
	PerLayer int      // distinct rules in a layer, at most; 0 for any number
	// Additive judges a span by the sum of its keys' influences, as published, instead of by their joint effect.
	Additive bool
	Ranges   int // of the epsilon constraints [4; 2 for more than 3 lengths]
	// Emphases are factors by which the losses of answers count more in further searches [0, 4, 16]; others keep the heads whole that
	// answers rest on most. What answers rest on is lost all at once, and heads stand in for each other, where first-order
	// losses add up evenly. Which of the plans is best is for HeldOut to say.
	Emphases []float64
	// Candidates is how many of the front's plans are measured by HeldOut [12], those of the least losses, besides those of further
	// searches. HeldOut returns losses of a plan on data that no rule was chosen by, such as those of answers and of text,
	// which are divided by those of one window for all heads of the same budget: the least sum wins, of the plans that are
	// behind that window in nothing, if there are such. nil takes the plan with the least loss at the longest length.
	Candidates int
	HeldOut    func(p *manifest.Plan) ([]float64, error)
	Compared   func(done, total int) // called after each of these measurements; may be nil

	Options
}

// MoAResult is the plan that was found and what was known of it.
type MoAResult struct {
	Plan     *MoAPlan
	Profile  *Profile
	Front    []Candidate // not dominated at any length, and those of further searches
	Solves   int         // knapsacks
	WorstGap float64     // of them
	Winner   int         // in Front
	Measured []int       // indices of Front whose held-out loss was measured
	HeldOut  []float64   // what is left of Uniform's losses; see againstUniform
	Uniform  []float64   // held-out losses of one window for all heads

	Weights []float64       // nats that each of the inputs loses under the shortest spans
	loss    [][][][]float64 // [length][layer][KV head][rule]
}

// MoA chooses an elastic span for every KV head (Fu et al., arXiv:2406.14909): the influence of distant keys at several lengths, the
// knapsack of rules under the budgets with several lengths as several objectives, and of their Pareto front the plan with the least held-out
// loss. Sinks lie inside the spans. Memory is that of [MoAProfile] and of [Frontier].
func MoA(ctx context.Context, m *nn.Model, opt MoAOptions) (*MoAResult, error) {
	set(&opt.Candidates, 12)
	if opt.Emphases == nil {
		opt.Emphases = []float64{0, 4, 16}
	}
	rules, err := opt.Grid.Rules()
	if err != nil {
		return nil, err
	}
	if err := feasible(m.Arch, rules, opt); err != nil {
		return nil, err
	}
	profile, err := MoAProfile(ctx, m, opt.Inputs, ProfileOptions{Width: opt.Grid.Block, Sink: opt.Grid.Sink, Options: opt.Options})
	if err != nil {
		return nil, err
	}
	weights, err := rises(ctx, m, profile, rules, opt)
	if err != nil {
		return nil, err
	}
	r := &MoAResult{Profile: profile, Weights: weights}
	if err := r.search(m, rules, opt); err != nil {
		return nil, err
	}
	for _, c := range r.Front {
		r.WorstGap = max(r.WorstGap, c.Gap)
	}
	return r, r.choose(ctx, m.Arch, rules, opt)
}

// choose takes the candidate with the least held-out loss, or without one that of the least loss at the longest length.
func (r *MoAResult) choose(ctx context.Context, m *arch.Model, rules []manifest.Policy, opt MoAOptions) error {
	last := len(r.loss) - 1
	for i, c := range r.Front {
		if c.Loss[last] < r.Front[r.Winner].Loss[last] {
			r.Winner = i
		}
	}
	if opt.HeldOut != nil {
		if err := r.measure(ctx, m, rules, opt); err != nil {
			return err
		}
	}
	r.Plan = r.plan(m, rules, &r.Front[r.Winner], opt)
	return nil
}

// measure compares candidates by their held-out losses.
func (r *MoAResult) measure(ctx context.Context, m *arch.Model, rules []manifest.Policy, opt MoAOptions) error {
	var err error
	r.Measured = r.promising(opt.Candidates)
	done := 0
	tick := func() {
		if done++; opt.Compared != nil {
			opt.Compared(done, len(r.Measured)+1)
		}
	}
	if r.Uniform, err = opt.HeldOut(uniformPlan(m, rules[0], opt.Budget)); err != nil {
		return err
	}
	tick()
	var list []Candidate
	for _, at := range r.Measured {
		list = append(list, r.Front[at])
	}
	best, losses, err := Winner(list, func(c *Candidate) (float64, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		p := Draft(m)
		if err := WriteMoA(p, r.plan(m, rules, c, opt)); err != nil {
			return 0, err
		}
		loss, err := opt.HeldOut(p)
		tick()
		return r.againstUniform(loss), err
	})
	if err != nil {
		return err
	}
	r.Winner, r.HeldOut = r.Measured[best], losses
	return nil
}

// againstUniform is the sum of the roots of what is left of the uniform window's losses, each a share of its own, since nats of text and of
// answers do not compare; and behind for each that is larger. By roots, what is nearly as it was without a plan is told apart
// from what is as it was.
func (r *MoAResult) againstUniform(loss []float64) float64 {
	const (
		behind = 1000 // more than shares are apart
		least  = 1e-3 // nats, below which no plan is told from another
	)
	total := 0.0
	for i, v := range loss {
		total += math.Sqrt(math.Max(v, least) / math.Max(r.Uniform[i], least))
		if v > math.Max(r.Uniform[i], least) {
			total += behind
		}
	}
	return total
}

// uniformPlan lets every head keep the same share of any sequence, sinks included.
func uniformPlan(m *arch.Model, like manifest.Policy, share float64) *manifest.Plan {
	p := Draft(m)
	like.Alpha, like.Beta = 0, share
	p.Policies["uniform"] = like
	for l := range p.Layers {
		for g := range p.Layers[l].KVHeads {
			p.Layers[l].KVHeads[g].Decode, p.Layers[l].KVHeads[g].Prefill = manifest.Always("uniform"), "uniform"
		}
	}
	p.Requires = p.Needs()
	return p
}

// promising returns indices of the front, ascending: all of the further searches, and the n others with the least sum of losses over
// lengths.
func (r *MoAResult) promising(n int) []int {
	var order, keep []int
	for i, c := range r.Front {
		if c.Length == 0 {
			keep = append(keep, i)
		} else {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(sum(r.Front[a].Loss), sum(r.Front[b].Loss)) })
	order = append(keep, order[:min(n, len(order))]...)
	slices.Sort(order)
	return order
}

// plan is a candidate as [WriteMoA] takes it; a head's evidence is its loss at the longest length.
func (r *MoAResult) plan(m *arch.Model, rules []manifest.Policy, c *Candidate, opt MoAOptions) *MoAPlan {
	loss, table := rowsOf(m.Layers, kvHeads), r.loss[len(r.loss)-1]
	for l, row := range c.Rule {
		for g, rule := range row {
			loss[l][g] = table[l][g][rule]
		}
	}
	unit := "nats per token of the response, joint effect of what is dropped"
	if opt.Additive {
		unit = "nats per token of the response, sum of influences of what is dropped"
	}
	last := r.Profile.Lengths[len(r.Profile.Lengths)-1]
	return &MoAPlan{Rules: rules, Rule: c.Rule, Loss: loss, Unit: unit, Samples: last.Samples, Density: opt.Budget}
}

// MoAGrid scales the published grid of rules to profiles of up to length tokens: sinks and a least window as given, blocks of a
// 64th of the length in multiples of 4, 4 to 64, and short rules besides. length below 256 is taken for 256.
func MoAGrid(length, sink, recent int) (RuleGrid, error) {
	if sink < 0 || recent < 1 {
		return RuleGrid{}, fmt.Errorf("heads: moa: %d sinks and a least window of %d tokens", sink, recent)
	}
	block := min(64, max(4, length/64/4*4))
	return RuleGrid{Length: max(256, length) / 8 * 8, Sink: sink, Block: block, Min: sink + recent, Short: true}, nil
}
