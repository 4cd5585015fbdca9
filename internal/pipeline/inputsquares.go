package pipeline

import (
	"context"

	"modelpress/formats"
	"modelpress/internal/nn"
)

// InputSquares runs a model over calibration data and returns, for each linear module of a decoder block, the mean square of each of its
// inputs: what an error in that column of its weight costs. o.Data, Windows, Skip, Length, BOS and ReplaceFirst choose the windows.
//
// Peak memory: the forward pass of one block, 4·D·Σ T_i bytes of states (spilled past half a gigabyte), and 8 bytes for each input
// of each layer.
func InputSquares(ctx context.Context, o EvalOptions) (map[string][]float32, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s, err := openSource(o.ModelDir, o.AllowRemoteCode)
	if err != nil {
		return nil, err
	}
	defer s.close()
	e := &evaluator{o: o, s: s, m: s.model(o.Env.Device)}
	if err := e.loadTokenizer(); err != nil {
		return nil, err
	}
	w, err := e.windows()
	if err != nil {
		return nil, err
	}
	if len(w.IDs) == 0 {
		return nil, formats.Errorf(o.Data, "", "has no window of %d tokens", o.Length)
	}
	return inputSquares(ctx, e.m, w.IDs, o.Env)
}

func inputSquares(ctx context.Context, m *nn.Model, windows [][]int32, env Env) (map[string][]float32, error) {
	lengths := make([]int, len(windows))
	tokens := 0
	for i, w := range windows {
		lengths[i] = len(w)
		tokens += len(w)
	}
	states, err := nn.NewStates(env.Scratch, lengths, m.Arch.D, stateMemory)
	if err != nil {
		return nil, err
	}
	defer states.Close()
	sums := make([]map[nn.Site][]float64, len(m.Arch.Layers))
	tick, stop := counter(env.Progress, "squares of inputs")
	defer stop()
	opt := nn.RunOptions{States: states, Progress: tick, Pass: func(layer, _ int) *nn.Pass {
		return &nn.Pass{Tap: func(site nn.Site, x []float32, _, cols int) {
			if sums[layer] == nil {
				sums[layer] = map[nn.Site][]float64{}
			}
			if sums[layer][site] == nil {
				sums[layer][site] = make([]float64, cols)
			}
			addSquares(sums[layer][site], x, env)
		}}
	}}
	if err := m.Run(ctx, windows, opt, nil); err != nil {
		return nil, err
	}
	out := map[string][]float32{}
	for l := range m.Arch.Layers {
		for _, site := range m.Arch.Layers[l].Sites() {
			for _, r := range site.Roles() {
				lin := m.Arch.Layers[l].Linears[r]
				if !lin.Present() {
					continue
				}
				mean := make([]float32, len(sums[l][site]))
				for c, v := range sums[l][site] {
					mean[c] = float32(v / float64(tokens))
				}
				out[lin.Module()] = mean
			}
		}
	}
	return out, nil
}

// addSquares adds the squares of each column of x [rows, len(sum)], in the order of rows.
func addSquares(sum []float64, x []float32, env Env) {
	const block = 256
	n := len(sum)
	env.Device.For((n+block-1)/block, func(i int) {
		lo, hi := i*block, min((i+1)*block, n)
		for at := 0; at < len(x); at += n {
			for c, v := range x[at+lo : at+hi] {
				sum[lo+c] += float64(float64(v) * float64(v))
			}
		}
	})
}
