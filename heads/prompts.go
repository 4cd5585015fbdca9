package heads

import (
	"context"
	"fmt"

	"modelpress/calib"
	"modelpress/internal/nn"
)

// teacherForced returns each prompt followed by all of its answer but the last token: row len(IDs)-1+j of the result
// predicts answer token j.
func teacherForced(prompts []calib.Prompt) ([][]int32, error) {
	if len(prompts) == 0 {
		return nil, fmt.Errorf("heads: no prompts")
	}
	windows := make([][]int32, len(prompts))
	for i, p := range prompts {
		switch {
		case len(p.IDs) == 0 || len(p.Answer) == 0:
			return nil, fmt.Errorf("heads: prompt %d: %d ids and an answer of %d", i, len(p.IDs), len(p.Answer))
		case p.NeedleLo < 0 || p.NeedleHi <= p.NeedleLo || p.NeedleHi > len(p.IDs):
			return nil, fmt.Errorf("heads: prompt %d: needle [%d, %d) of %d ids", i, p.NeedleLo, p.NeedleHi, len(p.IDs))
		}
		windows[i] = p.Sequence()
	}
	return windows, nil
}

// generated collects the token that the model itself gives at each answer step.
type generated struct {
	m       *nn.Model
	prompts []calib.Prompt
	tokens  [][]int32
}

func newGenerated(m *nn.Model, prompts []calib.Prompt) *generated {
	return &generated{m: m, prompts: prompts, tokens: make([][]int32, len(prompts))}
}

// each is the callback of a run: hidden is [T, D], of which the last rows predict the answer.
func (g *generated) each(window int, hidden []float32) error {
	steps := len(g.prompts[window].Answer)
	d := g.m.Arch.D
	tail := append([]float32(nil), hidden[len(hidden)-steps*d:]...)
	out := make([]int32, steps)
	err := g.m.HeadLogits(tail, steps, steps, func(row0 int, l *nn.Logits) error {
		l.Scores(make([]float64, l.Rows), out[row0:], nil)
		return nil
	})
	g.tokens[window] = out
	return err
}

// answered says for each prompt whether the ROUGE-1 recall of the answer exceeds a half: the rule of
// retrieval_head_detection.py (Wu et al., arXiv:2404.15574) for the samples that count.
func (g *generated) answered() []bool {
	keep := make([]bool, len(g.prompts))
	for i, p := range g.prompts {
		keep[i] = 2*recalled(p.Answer, g.tokens[i]) > len(p.Answer)
	}
	return keep
}

// recalled counts the tokens of want that got holds, each occurrence once.
func recalled(want, got []int32) int {
	have := map[int32]int{}
	for _, t := range got {
		have[t]++
	}
	n := 0
	for _, t := range want {
		if have[t] > 0 {
			have[t]--
			n++
		}
	}
	return n
}

// overPrompts runs the teacher-forced prompts through the model and returns which of them the model answers.
func overPrompts(ctx context.Context, m *nn.Model, prompts []calib.Prompt, opt Options,
	tap func(layer, prompt int, r rows)) (*generated, []bool, error) {
	windows, err := teacherForced(prompts)
	if err != nil {
		return nil, nil, err
	}
	gen := newGenerated(m, prompts)
	if err := opt.observe(ctx, m, windows, tap, gen.each); err != nil {
		return nil, nil, err
	}
	keep := gen.answered()
	for _, k := range keep {
		if k {
			return gen, keep, nil
		}
	}
	return nil, nil, fmt.Errorf("heads: the model answers none of %d prompts, so they say nothing about its heads",
		len(prompts))
}
