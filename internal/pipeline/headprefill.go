package pipeline

import (
	"context"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/heads"
)

// sampleBlocks is how many blocks of queries a search for patterns looks at in a window: a search at full length would take as
// long as dense attention once for every candidate.
const sampleBlocks = 16

// prefill plans sparse attention over the prompt.
func (j *headJob) prefill(ctx context.Context) error {
	c := j.r.Heads.Prefill
	if c == nil {
		return nil
	}
	if c.Method == "act" {
		return j.act(ctx)
	}
	windows := j.longText()
	how, stop := j.options("searching prefill patterns by " + c.Method)
	defer stop()
	var err error
	switch length := windows.Longest(); c.Method {
	case "minference":
		_, err = heads.MInference(ctx, j.m, windows, j.plan, heads.MInferenceOptions{Sink: j.r.Heads.Sink,
			Recent: heads.WindowOfDensity(length, c.Density), Block: c.Block, From: length / 2, SampleBlocks: sampleBlocks, Options: how})
	case "xattention":
		_, err = heads.XAttention(ctx, j.m, windows, j.plan, heads.XAttentionOptions{Block: c.Block, Stride: max(1, c.Block/8), Share: c.Threshold,
			SampleBlocks: sampleBlocks, Options: how})
	default:
		_, err = heads.Static(ctx, j.m, windows, j.plan, heads.StaticOptions{Density: c.Density, Block: c.Block, Sink: j.r.Heads.Sink, Prefill: true,
			SampleBlocks: sampleBlocks, Options: how})
	}
	j.plan.Phases.Prefill.MinSeq = max(j.plan.Phases.Prefill.MinSeq, c.MinLength)
	return err
}

// longText is what patterns are chosen on: the longest of the retrieval prompts, which must be looked back in, or calibration windows
// where there are none.
func (j *headJob) longText() calib.Windows {
	var list [][]int32
	longest := longestPrompt(j.set.profile)
	for _, p := range j.set.profile {
		if len(p.IDs)+len(p.Answer) >= longest*9/10 {
			list = append(list, p.Sequence())
		}
	}
	if len(list) == 0 {
		return j.set.set.Calib
	}
	return calib.NewWindows(list)
}

// act turns the attention sinks of some query heads down, where answers do not suffer.
func (j *headJob) act(ctx context.Context) error {
	windows := j.longText()
	how, stop := j.options("measuring attention sinks")
	defer stop()
	opt := heads.ACTOptions{Options: how}
	mass, err := heads.SinkMass(ctx, j.m, windows, opt)
	if err != nil {
		return err
	}
	opt.Options.Progress = nil
	tick, done := counter(j.env.Progress, "turning sinks down, head by head")
	defer done()
	opt.Options.Progress = tick
	a, err := heads.ACT(ctx, j.plan, j.m.Arch, mass, opt, func(p *manifest.Plan) (float64, error) {
		r, err := calib.Retrieval(ctx, j.m, j.set.profile, j.env.eval(p, nil))
		return r.AnswerNLL, err
	})
	if err != nil {
		return err
	}
	return a.Write(j.plan, j.m.Arch, mass, heads.Record{Seed: j.r.Seed, Digest: windows.Digest})
}

// static gives every KV head a pattern of positions in both phases.
func (j *headJob) static(ctx context.Context) error {
	how, stop := j.options("searching static patterns")
	defer stop()
	block := 64
	if p := j.r.Heads.Prefill; p != nil {
		block = p.Block
	}
	windows := j.longText()
	_, err := heads.Static(ctx, j.m, windows, j.plan, heads.StaticOptions{Density: *j.r.Heads.KVBudget, Block: min(block, max(8, windows.Longest()/32)),
		Sink: j.r.Heads.Sink, Prefill: true, Decode: true, SampleBlocks: sampleBlocks, Options: how})
	return err
}

// keyChannels leaves out the key channels that scores hardly need.
func (j *headJob) keyChannels(ctx context.Context) error {
	drop := j.r.Heads.KeyChannels
	if drop == 0 {
		return nil
	}
	how, stop := j.options("measuring key channels")
	defer stop()
	k, err := heads.FindLeanK(ctx, j.m, j.set.set.Calib, heads.LeanKOptions{Keep: 1 - drop, Options: how})
	if err != nil {
		return err
	}
	return k.Write(j.plan, j.m.Arch, heads.Record{Seed: j.r.Seed, Digest: j.set.set.Calib.Digest})
}
