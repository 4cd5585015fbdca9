package pipeline

import (
	"context"
	"fmt"

	"modelpress/calib"
	"modelpress/heads"
)

// decode narrows what every KV head keeps of the cache, by the recipe's method, but for short sequences.
func (j *headJob) decode(ctx context.Context) error {
	plan := j.static
	switch h := j.r.Heads; {
	case oneOf(h.Method, rankings...):
		plan = j.rank
	case h.Method == "razor":
		plan = j.razor
	case h.Method == "moa":
		plan = j.moa
	case oneOf(h.Method, "headkv", "pyramid", "tidal"):
		plan = j.tokens
	}
	if err := plan(ctx); err != nil {
		return err
	}
	if n := j.r.Heads.MinLength; n > 0 {
		denseUpTo(j.plan, n)
	}
	return nil
}

// rank keeps the heads with the best scores full and lets the others stream.
func (j *headJob) rank(ctx context.Context) error {
	h := j.r.Heads
	if _, err := j.selection(j.nothing()); err != nil {
		return err // no scores can change that
	}
	scores, from, err := j.scores(ctx, h.Method)
	if err != nil {
		return err
	}
	sel, err := j.selection(scores)
	if err != nil {
		return err
	}
	pol := heads.StreamingPolicy{Sink: h.Sink, Recent: h.Recent, Page: h.Page}
	return heads.WriteStreaming(j.plan, j.m.Arch, sel, scores, pol, from)
}

// selection turns scores into the heads that stay full: a share of heads, of whole layers, or as many as a share of bytes allows,
// evenly over the ranks of tensor parallelism where that is asked for.
func (j *headJob) selection(scores *heads.Scores) (heads.Selection, error) {
	h := j.r.Heads
	var sel heads.Selection
	switch {
	case h.Unit == "layer":
		return heads.SelectLayers(scores.KV, *h.FullShare), nil
	case h.KVBudget != nil:
		var err error
		sink, recent := heads.RoundUp(h.Sink, h.Page), heads.RoundUp(h.Recent, h.Page)
		if sel, _, err = heads.SelectBudget(j.m.Arch, scores.KV, *h.KVBudget, sink, recent, j.budgetLength()); err != nil {
			return sel, err
		}
	default:
		sel = heads.Select(scores.KV, *h.FullShare)
	}
	if len(h.TensorParallel) == 0 {
		return sel, nil
	}
	b, err := heads.SelectBalanced(scores.KV, sel.Count, h.Balance, h.TensorParallel...)
	if err != nil {
		return sel, &Error{Kind: KindUsage, Err: err, Hint: "raise heads.balance, or let another number of heads be full"}
	}
	if b.GivenUp > 0 {
		j.env.warn("an even load over %v ranks gives up %s of the scores' sum", h.TensorParallel, number(b.GivenUp))
	}
	return b.Selection, nil
}

// scores measures one score per KV head on the calibration side, larger for heads that need the whole cache.
func (j *headJob) scores(ctx context.Context, method string) (*heads.Scores, heads.Record, error) {
	how, stop := j.options("scoring heads by " + method)
	defer stop()
	from := heads.Record{Seed: j.r.Seed}
	switch method {
	case "wu":
		from.Digest = calib.PromptsDigest(j.set.profile)
		s, err := heads.Wu(ctx, j.m, j.set.profile, how)
		return s, from, err
	case "duo":
		return j.duo(ctx, how)
	case "duo_probe":
		from.Digest = calib.PromptsDigest(j.set.profile)
		h := j.r.Heads
		s, err := heads.DuoProbe(ctx, j.m, j.set.profile, heads.StreamingOptions{Sink: h.Sink, Recent: h.Recent, Options: how})
		return s, from, err
	case "echo", "induction":
		echo, induction, err := heads.Razor(ctx, j.m, j.razorOptions(how))
		if method == "echo" {
			return echo, from, err
		}
		return induction, from, err
	case "projected_error":
		from.Digest = j.set.set.Calib.Digest
		h := j.r.Heads
		loss, err := heads.StreamingLoss(ctx, j.m, j.set.set.Calib, heads.StreamingOptions{Sink: h.Sink, Recent: h.Recent, Options: how})
		if err != nil {
			return nil, from, err
		}
		return loss.Projected, from, nil
	}
	return nil, from, fmt.Errorf("pipeline: no score is called %q", method)
}

func (j *headJob) razorOptions(how heads.Options) heads.RazorOptions {
	opt := heads.RazorOptions{Seed: j.r.Seed, BOS: j.set.bos, Options: how}
	if j.set.bos != nil {
		opt.Exclude = []int32{*j.set.bos}
	}
	return opt
}

// razor keeps induction and echo heads full; the others have a compensation token for what they drop.
func (j *headJob) razor(ctx context.Context) error {
	how, stop := j.options("scoring heads by induction and echo")
	defer stop()
	echo, induction, err := heads.Razor(ctx, j.m, j.razorOptions(how))
	if err != nil {
		return err
	}
	h := j.r.Heads
	return heads.WriteRazor(j.plan, j.m.Arch, echo, induction, heads.RazorPolicy{Sink: h.Sink, MinRecent: h.Recent, Page: h.Page},
		heads.Record{Seed: j.r.Seed})
}

// duo trains gates on prompts of several needles. Training that was stopped goes on where it was; its state is kept until the
// plan is judged, so that an interruption of what comes after costs no training.
func (j *headJob) duo(ctx context.Context, how heads.Options) (*heads.Scores, heads.Record, error) {
	h := j.r.Heads
	opt := heads.DuoOptions{Sink: heads.RoundUp(h.Sink, h.Page), Recent: heads.RoundUp(h.Recent, h.Page), Steps: h.Duo.Steps, LR: h.Duo.LR,
		Reg: h.Duo.Reg, Seed: j.r.Seed, Patience: h.Duo.Stable, StateKey: j.plan.Model.WeightsDigest + "\n" + j.plan.Model.ConfigDigest, Options: how}
	if h.Duo.Stable > 0 {
		sel, err := j.selection(j.nothing())
		if err != nil {
			return nil, heads.Record{}, err
		}
		opt.Share = float64(sel.Count) / float64(max(1, sel.Total))
	}
	keep := j.env.keeper()
	var err error
	if opt.Resume, err = keep.load(); err != nil {
		return nil, heads.Record{}, err
	}
	opt.Save = keep.save
	s, log, err := heads.Duo(ctx, j.m, j.set.train, opt)
	if err != nil {
		return nil, heads.Record{}, keep.explain(err)
	}
	if log.Early {
		j.env.warn("the ranking by gates is stable after %d of %d steps", log.Steps, h.Duo.Steps)
	}
	return s, heads.Record{Seed: j.r.Seed, Digest: calib.PromptsDigest(j.set.train)}, nil
}

// nothing are scores before there are any: they show how many heads can stay full, and whether they can at all.
func (j *headJob) nothing() *heads.Scores {
	even := make([][]float64, len(j.m.Arch.Layers))
	for l, a := range j.m.Arch.Layers {
		if a.HasAttention() {
			even[l] = make([]float64, a.G)
		}
	}
	return &heads.Scores{KV: even}
}
