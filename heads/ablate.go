package heads

import (
	"context"

	"modelpress/calib"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// Ablate returns the rise of the mean answer NLL (nats per token) when one KV head alone is a streaming head, for every
// KV head: the direct measure, at the price of one evaluation per head. Heads that stand in for each other all look
// dispensable to it.
func Ablate(ctx context.Context, m *nn.Model, prompts []calib.Prompt, opt StreamingOptions) (*Scores, error) {
	if _, err := teacherForced(prompts); err != nil {
		return nil, err
	}
	dense, err := calib.Retrieval(ctx, m, prompts, opt.eval(nil))
	if err != nil {
		return nil, err
	}
	s := &Scores{Method: "ablate", Unit: "rise of answer nll", KV: rowsOf(m.Arch.Layers, kvHeads), Samples: len(prompts)}
	total := 0
	for _, row := range s.KV {
		total += len(row)
	}
	done := 0
	for l, row := range s.KV {
		for g := range row {
			masks := Masks(allBut(s.KV, l, g), opt.Sink, opt.Recent, m.Arch)
			res, err := calib.Retrieval(ctx, m, prompts, opt.eval(masks))
			if err != nil {
				return nil, err
			}
			row[g] = res.AnswerNLL - dense.AnswerNLL
			if done++; opt.Progress != nil {
				opt.Progress(done, total)
			}
		}
	}
	return s, nil
}

// eval gives the options of one evaluation under masks.
func (o Options) eval(masks func(layer int) []device.Mask) calib.EvalOptions {
	return calib.EvalOptions{Masks: masks, Dir: o.Dir, MemLimit: o.MemLimit}
}

// allBut returns a plan in which only KV head g of one layer streams.
func allBut(shape [][]float64, layer, g int) [][]bool {
	full := make([][]bool, len(shape))
	for l, row := range shape {
		full[l] = make([]bool, len(row))
		for i := range row {
			full[l][i] = l != layer || i != g
		}
	}
	return full
}
