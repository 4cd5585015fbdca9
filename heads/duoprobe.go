package heads

import (
	"context"
	"fmt"
	"math"

	"modelpress/calib"
	"modelpress/internal/nn"
	"modelpress/internal/num"
)

// DuoProbe estimates without training what gates say: for each KV head the magnitude, averaged over prompts, of the change of
// the mean answer NLL where its output becomes that of a streaming head, to first order: Σ dL/dout·(out_stream - out_full), the
// slope of the gated model's loss by its gate at 1. One forward and one backward pass over all prompts serve every head.
// Where the model is sure of its answers the slope is small and says less than a trained gate.
//
// Memory is that of [nn.Model.Back] for all prompts and 4*(D + V) bytes for some rows of logits.
func DuoProbe(ctx context.Context, m *nn.Model, prompts []calib.Prompt, opt StreamingOptions) (*Scores, error) {
	d, err := newDuo(m, prompts, DuoOptions{Sink: opt.Sink, Recent: opt.Recent, Steps: 1, LR: 1, Every: 1, Patience: 1, MinSteps: 1, SaveEvery: 1})
	if err != nil {
		return nil, err
	}
	s := &Scores{Method: "duo-probe", Unit: "first-order change of answer nll", KV: rowsOf(m.Arch.Layers, kvHeads), Samples: len(prompts)}
	mixes, width := d.mixes(), m.Arch.D
	back := nn.BackOptions{Dir: opt.Dir, MemLimit: opt.MemLimit, Progress: opt.Progress,
		Mix: func(l int) *nn.Mix { return mixes[l] },
		Tap: func(l, _ int, g *nn.AttnGradState) error {
			for kv, v := range g.DAlpha {
				s.KV[l][kv] += math.Abs(v) / float64(len(prompts))
			}
			return nil
		}}
	err = m.Back(ctx, d.windows, back, func(i int, hidden, grad []float32) error {
		answer := prompts[i].Answer
		from := len(hidden) - len(answer)*width
		if _, err := m.HeadBack(grad[from:], hidden[from:], answer, profileRows(m)); err != nil {
			return fmt.Errorf("heads: prompt %d: %w", i, err)
		}
		num.Scale(grad[from:], 1/float32(len(answer)))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}
