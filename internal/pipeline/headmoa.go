package pipeline

import (
	"context"
	"fmt"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/heads"
)

// moa chooses an elastic span for every KV head.
func (j *headJob) moa(ctx context.Context) error {
	h := j.r.Heads
	longest := h.MoA.Lengths[len(h.MoA.Lengths)-1]
	grid, err := heads.MoAGrid(longest, h.Sink, h.Recent)
	if err != nil {
		return err
	}
	grid.Block = heads.RoundUp(grid.Block, h.Page)
	how, stop := j.options("profiling influence")
	defer stop()
	tick, end := counter(j.env.Progress, "comparing plans")
	defer end()
	compared := func(done, total int) {
		stop() // one bar at a time
		tick(done, total)
	}
	opt := heads.MoAOptions{Budget: *h.KVBudget, Grid: grid, PerLayer: h.MoA.RulesPerLayer, Additive: h.MoA.Influence == "additive",
		HeldOut: j.probe(ctx), Compared: compared, Options: how}
	for i, n := range h.MoA.Lengths {
		answers, err := heads.PromptSamples(j.set.profiled[i].prompts)
		if err != nil {
			return err
		}
		opt.Inputs = append(opt.Inputs, heads.ProfileInput{Length: n, Samples: answers},
			heads.ProfileInput{Length: n, Samples: heads.WindowSamples(j.set.profiled[i].windows.IDs, n/2)})
	}
	if n := 2 * longest; n <= j.m.Arch.MaxPosition {
		opt.Beyond = []int{n}
	}
	if h.BudgetLength > 0 {
		opt.At = []int{h.BudgetLength}
	}
	r, err := heads.MoA(ctx, j.m, opt)
	if err != nil {
		return err
	}
	r.Plan.Seed, r.Plan.Digest = j.r.Seed, j.set.profiled[len(j.set.profiled)-1].digest()
	if r.WorstGap > 0.01 {
		j.env.warn("the plans of the search may be up to %.1f %% from the best", 100*r.WorstGap)
	}
	return heads.WriteMoA(j.plan, r.Plan)
}

// probe returns the losses by which candidates are compared: divergence on text, nll of answers and the share of wrong ones, of the
// calibration side, in questions and at a length that no span was chosen by, and as far as there is enough of it in other text.
func (j *headJob) probe(ctx context.Context) func(p *manifest.Plan) ([]float64, error) {
	return func(p *manifest.Plan) ([]float64, error) {
		quiet := j.env.eval(p, nil)
		text, err := calib.Compare(ctx, j.m, j.m, j.set.probe.windows, quiet)
		if err != nil {
			return nil, err
		}
		answers, err := calib.Retrieval(ctx, j.m, j.set.probe.prompts, quiet)
		return []float64{text.KL, answers.AnswerNLL, 1 - answers.Accuracy}, err
	}
}

// sample is what a search looks at: windows and prompts of one length, of the calibration side.
type sample struct {
	windows calib.Windows
	prompts []calib.Prompt
}

func (s sample) digest() string {
	return sumDigest([]byte(s.windows.Digest + "\n" + calib.PromptsDigest(s.prompts) + "\n"))
}

// Sizes of the samples of a search.
const (
	profileWindows = 8
	profilePrompts = 4 // for each depth
	probePrompts   = 8
)

// profileDepths reach back to the start: a span that no needle lay beyond in the profile may miss some at other lengths.
var profileDepths = []float64{0, 0.25, 0.5, 0.75}

// probeDepths are denser at the start, where spans are told apart.
var probeDepths = []float64{0, 0.1, 0.25, 0.5, 0.75}

// samples makes what MoA profiles at each length, and a further sample to compare candidates by, twice as long as the longest, or half
// as long again, where the model has the positions: what a span misses shows beyond the lengths that it was chosen at.
func (d *dataset) samples(s *source, r *Recipe, enc calib.Encoder) error {
	flat := d.set.Calib.Flat(1)
	make := func(length int, number uint64, depths []float64, perCell, from int) (sample, error) {
		opt := r.Retrieval.options(d.bos)
		opt.Kind, opt.Lengths, opt.Depths, opt.PerCell, opt.Seed = calib.MultiKey, []int{length}, depths, perCell, r.Seed*2+1+1000*number
		prompts, err := calib.MakePrompts(enc, flat, opt)
		if err != nil {
			return sample{}, fmt.Errorf("heads.moa: %w", err)
		}
		w := cutWindows(flat[min(from, len(flat)):], d.bos, length, profileWindows)
		if len(w) == 0 {
			w = cutWindows(flat, d.bos, length, profileWindows)
		}
		if len(w) == 0 {
			return sample{}, errKind(KindUsage, "give more calibration data, or shorter heads.moa.lengths",
				"heads.moa: the calibration side has %d tokens, fewer than a window of %d", len(flat), length)
		}
		return sample{calib.NewWindows(w), prompts}, nil
	}
	lengths := r.Heads.MoA.Lengths
	longest := lengths[len(lengths)-1]
	for i, n := range lengths {
		p, err := make(n, uint64(i+1), profileDepths, profilePrompts, 0)
		if err != nil {
			return err
		}
		d.profiled = append(d.profiled, p)
	}
	beyond := longest
	for _, n := range []int{longest + longest/2, 2 * longest} {
		if n <= s.arch.MaxPosition && n <= d.set.Calib.Tokens()/2 {
			beyond = n
		}
	}
	var err error
	d.probe, err = make(beyond, uint64(len(lengths)+1), probeDepths, probePrompts, profileWindows*longest)
	return err
}
