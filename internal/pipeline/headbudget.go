package pipeline

import (
	"context"
	"fmt"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/heads"
)

// tokens shares the budget out in tokens that are chosen at run time: per head (HeadKV), per layer (PyramidKV), or by layers that
// select for others (TidalDecode).
func (j *headJob) tokens(ctx context.Context) error {
	h := j.r.Heads
	budget := int(*h.KVBudget * float64(j.budgetLength()))
	if budget < 2 {
		return fmt.Errorf("heads: kv_budget %g of %d tokens leaves a head %d: give a larger kv_budget or budget_length", *h.KVBudget, j.budgetLength(), budget)
	}
	window := min(32, max(1, budget/2))
	pol := heads.BudgetPolicy{Base: budget, Window: window, Page: h.Page}
	from := heads.Record{Seed: j.r.Seed}
	if h.Method == "pyramid" {
		return heads.WritePyramid(j.plan, j.m.Arch, pol)
	}
	how, stop := j.options("scoring by " + h.Method)
	defer stop()
	if h.Method == "headkv" {
		from.Digest = calib.PromptsDigest(j.set.profile)
		scores, err := heads.HeadKV(ctx, j.m, j.set.profile, how)
		if err != nil {
			return err
		}
		return heads.WriteHeadKV(j.plan, j.m.Arch, scores, pol, from)
	}
	windows := calib.NewWindows(sequences(j.set.profile))
	from.Digest = windows.Digest
	t, err := heads.FindTidal(ctx, j.m, windows, heads.TidalOptions{Budget: budget, Window: window, Options: how})
	if err != nil {
		return err
	}
	return t.Write(j.plan, j.m.Arch, from)
}

// sequences are the prompts with their answers.
func sequences(prompts []calib.Prompt) [][]int32 {
	list := make([][]int32, len(prompts))
	for i, p := range prompts {
		list[i] = p.Sequence()
	}
	return list
}

// denseUpTo lets sequences of up to length tokens decode and prefill with everything: short ones gain nothing.
func denseUpTo(p *manifest.Plan, length int) {
	for l := range p.Layers {
		for g := range p.Layers[l].KVHeads {
			h := &p.Layers[l].KVHeads[g]
			if len(h.Decode) == 1 && h.Decode[0].Use == heads.PolicyFull {
				continue
			}
			rules := manifest.Rules{{MaxLen: length, Use: heads.PolicyFull}}
			for _, r := range h.Decode {
				if r.MaxLen == 0 || r.MaxLen > length {
					rules = append(rules, r)
				}
			}
			h.Decode = rules
		}
	}
	p.Phases.Prefill.MinSeq = max(p.Phases.Prefill.MinSeq, length+1)
}

// evidence records further measures beside those that the plan is made by.
func (j *headJob) evidence(ctx context.Context) error {
	for _, name := range j.r.Heads.Evidence {
		if err := j.record(ctx, name); err != nil {
			return fmt.Errorf("heads.evidence %s: %w", name, err)
		}
	}
	return nil
}

// record measures one thing and writes it into the plan.
func (j *headJob) record(ctx context.Context, name string) error {
	from := heads.Record{Seed: j.r.Seed, Digest: j.set.set.Calib.Digest}
	if oneOf(name, rankings...) || name == "duo_probe" {
		scores, from, err := j.scores(ctx, name)
		if err != nil {
			return err
		}
		return heads.WriteEvidence(j.plan, j.m.Arch, scores, from)
	}
	how, stop := j.options("measuring " + name)
	defer stop()
	switch name {
	case "attention_sink":
		s, err := heads.FindSinks(ctx, j.m, j.set.set.Calib, heads.SinkOptions{Options: how})
		if err != nil {
			return err
		}
		if s.Count > j.r.Heads.Sink {
			j.env.warn("attention sinks reach to position %d, and streaming heads keep %d sink tokens", s.Count-1, j.r.Heads.Sink)
		}
		return s.Write(j.plan, j.m.Arch, from)
	case "echoatt":
		e, err := heads.FindEchoAtt(ctx, j.m, j.set.set.Calib, heads.EchoAttOptions{Options: how})
		if err != nil {
			return err
		}
		return e.Write(j.plan, j.m.Arch, from)
	}
	return fmt.Errorf("pipeline: no measure is called %q", name)
}
