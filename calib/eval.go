package calib

import (
	"context"
	"errors"
	"fmt"
	"math"

	"modelpress/formats/manifest"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// ErrNotFinite says that a model's logits hold a NaN or an infinity.
var ErrNotFinite = errors.New("logits are not finite")

// EvalOptions says how a model is run for an evaluation. The zero value is the dense model, all positions, states in
// memory.
type EvalOptions struct {
	// Masks gives the masks of a layer's KV heads; nil, or a nil result, for the layer's own. It has no effect with a Plan.
	Masks func(layer int) []device.Mask
	// Plan is an attention plan to run the model under as a runtime would serve it; nil for none. The prompt of a retrieval
	// task is prefilled and its answer decoded; of other windows the first half is prefilled and the rest decoded.
	Plan *manifest.Plan
	// Chunk is the number of tokens that prefill takes at once under Plan; 0 for the whole prompt.
	Chunk int
	// Served gets what was counted under Plan; it may be nil.
	Served func(s *nn.ServeStats)
	// ScoreFrom leaves out predictions made at earlier positions. llama.cpp scores windows of n from position n/2.
	ScoreFrom int

	Dir      string // where hidden states go once they pass MemLimit; "" for the system's temporary directory
	MemLimit int64  // bytes of hidden states kept in memory; 0 for no limit
	Progress func(done, total int)

	prompt func(window int) int // tokens that are prefilled under Plan
}

// chunkLogits bounds the logits held at a time (64 MiB as f32).
const chunkLogits = 16 << 20

// headRows is the number of rows whose logits are computed at a time.
func headRows(m *nn.Model) int { return min(max(chunkLogits/m.Arch.V, 1), 1024) }

// run feeds windows through the model block by block and hands over their final hidden states, before the final norm, on the device.
func run(ctx context.Context, m *nn.Model, windows [][]int32, opt EvalOptions, each func(i int, h device.Buf) error) error {
	states, err := newStates(windows, m.Arch.D, opt)
	if err != nil {
		return err
	}
	if opt.Plan == nil {
		err = m.Run(ctx, windows, nn.RunOptions{Masks: opt.Masks, States: states, Final: each, Progress: opt.Progress}, nil)
		return errors.Join(err, states.Close())
	}
	prompt := opt.prompt
	if prompt == nil {
		prompt = func(i int) int { return len(windows[i]) / 2 }
	}
	stats, err := m.Serve(ctx, windows, nn.ServeOptions{Plan: opt.Plan, Prompt: prompt, Chunk: opt.Chunk, States: states,
		Final: each, Progress: opt.Progress}, nil)
	if err == nil && opt.Served != nil {
		opt.Served(stats)
	}
	return errors.Join(err, states.Close())
}

// newStates makes room for one hidden state of width d per window.
func newStates(windows [][]int32, d int, opt EvalOptions) (*nn.States, error) {
	lengths := make([]int, len(windows))
	for i, w := range windows {
		lengths[i] = len(w)
	}
	return nn.NewStates(opt.Dir, lengths, d, opt.MemLimit)
}

// rowScore is how well one row of logits predicts its target.
type rowScore struct {
	nll float64 // nats
	top bool    // the target is the arg-max; the lower id wins a tie
}

// scoreRows scores the hidden rows of h from row from on against the tokens that follow them.
func scoreRows(m *nn.Model, h device.Buf, from int, targets []int32) ([]rowScore, error) {
	if err := checkVocab(targets, m.Arch.V); err != nil {
		return nil, err
	}
	scores, nll, top := make([]rowScore, len(targets)), make([]float64, len(targets)), make([]int32, len(targets))
	d := m.Arch.D
	err := m.HeadLogitsBuf(m.Dev.Slice(h, from*d, len(targets)*d), len(targets), headRows(m), func(row0 int, l *nn.Logits) error {
		l.Scores(nll[row0:], top[row0:], targets[row0:])
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, l := range nll {
		if math.IsNaN(l) || math.IsInf(l, 0) {
			return nil, fmt.Errorf("prediction %d: %w", i, ErrNotFinite)
		}
		scores[i] = rowScore{nll: l, top: top[i] == targets[i]}
	}
	return scores, nil
}
