package heads

import (
	"context"
	"fmt"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// MoAOptions describes a search for elastic spans. Zero values stand for those in brackets.
type MoAOptions struct {
	Inputs   []ProfileInput // what the model sees at each length, ascending
	Budget   float64        // mean density of the cache at each of these lengths, at most
	Beyond   []int          // further lengths at which the budget holds
	Grid     RuleGrid       // the rules
	PerLayer int            // distinct rules in a layer, at most; 0 for any number
	// Additive judges a span by the sum of its keys' influences, as published, instead of by their joint effect.
	Additive bool
	Ranges   int // of the epsilon constraints [4]
	// Candidates is how many of the front's plans are measured by HeldOut, at even distances from one end to the other [12]. HeldOut returns the
	// loss of a plan on data that no rule was chosen by; nil takes the plan with the least loss at the longest length.
	Candidates int
	HeldOut    func(p *manifest.Plan) (float64, error)

	Options
}

// MoAResult is the plan that was found and what was known of it.
type MoAResult struct {
	Plan     *MoAPlan
	Profile  *Profile
	Front    []Candidate // not dominated at any length
	Solves   int         // knapsacks
	WorstGap float64     // of them
	Winner   int         // in Front
	Measured []int       // indices of Front whose held-out loss was measured
	HeldOut  []float64   // these losses
}

// MoA chooses an elastic span for every KV head (Fu et al., arXiv:2406.14909): the influence of distant keys at several lengths, the
// knapsack of rules under the budgets with several lengths as several objectives, and of their Pareto front the plan with the least held-out
// loss. Sinks lie inside the spans. Memory is that of [MoAProfile] and of [Frontier].
func MoA(ctx context.Context, m *nn.Model, opt MoAOptions) (*MoAResult, error) {
	set(&opt.Ranges, 4)
	set(&opt.Candidates, 12)
	rules, err := opt.Grid.Rules()
	if err != nil {
		return nil, err
	}
	profile, err := MoAProfile(ctx, m, opt.Inputs, ProfileOptions{Width: opt.Grid.Block, Sink: opt.Grid.Sink, Options: opt.Options})
	if err != nil {
		return nil, err
	}
	f := &Frontier{Distinct: opt.PerLayer, Ranges: opt.Ranges, For: m.Dev.For}
	for i := range profile.Lengths {
		p := &profile.Lengths[i]
		f.Lengths = append(f.Lengths, p.Length)
		f.Loss = append(f.Loss, ruleLosses(m.Arch, p, rules, opt.Grid.Sink, opt.Additive))
	}
	if f.Caches, err = CacheLimits(m.Arch.Layers, rules, append(append([]int(nil), f.Lengths...), opt.Beyond...), opt.Budget, 0); err != nil {
		return nil, err
	}
	r := &MoAResult{Profile: profile}
	if r.Front, r.Solves, err = f.Solve(); err != nil {
		return nil, err
	}
	for _, c := range r.Front {
		r.WorstGap = max(r.WorstGap, c.Gap)
	}
	return r, r.choose(ctx, m.Arch, rules, opt)
}

// choose takes the candidate with the least held-out loss, or without one that of the least loss at the longest length.
func (r *MoAResult) choose(ctx context.Context, m *arch.Model, rules []manifest.Policy, opt MoAOptions) error {
	last := len(r.Profile.Lengths) - 1
	for i, c := range r.Front {
		if c.Loss[last] < r.Front[r.Winner].Loss[last] {
			r.Winner = i
		}
	}
	if opt.HeldOut != nil {
		var list []Candidate
		n := min(opt.Candidates, len(r.Front))
		for i := range n {
			at := r.Winner
			if n > 1 {
				at = (i*(len(r.Front)-1) + (n-1)/2) / (n - 1) // both ends are among them
			}
			list, r.Measured = append(list, r.Front[at]), append(r.Measured, at)
		}
		best, losses, err := Winner(list, func(c *Candidate) (float64, error) {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			p := Draft(m)
			if err := WriteMoA(p, r.plan(m, rules, c, opt)); err != nil {
				return 0, err
			}
			return opt.HeldOut(p)
		})
		if err != nil {
			return err
		}
		r.Winner, r.HeldOut = r.Measured[best], losses
	}
	r.Plan = r.plan(m, rules, &r.Front[r.Winner], opt)
	return nil
}

// plan is a candidate as [WriteMoA] takes it; a head's evidence is its loss at the longest length.
func (r *MoAResult) plan(m *arch.Model, rules []manifest.Policy, c *Candidate, opt MoAOptions) *MoAPlan {
	last := &r.Profile.Lengths[len(r.Profile.Lengths)-1]
	loss := rowsOf(m.Layers, kvHeads)
	table := ruleLosses(m, last, rules, opt.Grid.Sink, opt.Additive)
	for l, row := range c.Rule {
		for g, rule := range row {
			loss[l][g] = table[l][g][rule]
		}
	}
	unit := "nats of the response, joint effect of the dropped span"
	if opt.Additive {
		unit = "nats of the response, sum of the dropped keys' influences"
	}
	return &MoAPlan{Rules: rules, Rule: c.Rule, Loss: loss, Unit: unit, Samples: last.Samples, Density: opt.Budget}
}

// ruleLosses is the loss of every rule at one length, [layer][KV head][rule]. A rule is judged by the bands that lie wholly in what its
// sinks leave of its span, at least one, so that a plan never keeps less than was measured. In a layer with a sliding window, a
// rule that keeps as much loses nothing.
func ruleLosses(m *arch.Model, p *LengthProfile, rules []manifest.Policy, sink int, additive bool) [][][]float64 {
	out := make([][][]float64, len(m.Layers))
	for l, layer := range m.Layers {
		out[l] = make([][]float64, kvHeads(layer))
		for g := range out[l] {
			out[l][g] = make([]float64, len(rules))
			for r := range rules {
				span := rules[r].Span(p.Length)
				whole := max(1, (span-sink)/p.Width*p.Width)
				switch {
				case span >= int(tokensKept(p.Length, layer.Window)):
				case additive:
					out[l][g][r] = p.Additive(l, g, whole)
				default:
					out[l][g][r] = p.Joint(l, g, whole)
				}
			}
		}
	}
	return out
}

// MoAGrid scales the published grid of rules to profiles of up to length tokens: sinks and a least window as given, blocks of a
// 32nd of the length in multiples of 8, at most 64. length below 256 is taken for 256.
func MoAGrid(length, sink, recent int) (RuleGrid, error) {
	if sink < 0 || recent < 1 {
		return RuleGrid{}, fmt.Errorf("heads: moa: %d sinks and a least window of %d tokens", sink, recent)
	}
	block := min(64, max(8, length/32/8*8))
	return RuleGrid{Length: max(256, length) / 8 * 8, Sink: sink, Block: block, Min: sink + recent}, nil
}
