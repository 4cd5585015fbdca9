package main

import (
	"context"

	"modelpress/formats/hf"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// forwardJob runs n windows of m tokens through a model, each block read once per run as everywhere in this program. The
// head is left out, as prompt processing leaves it out for all tokens but the last. Its value is the mean square of
// the last window's hidden states.
func forwardJob(dev device.Device, q *request) (*job, error) {
	ckpt, err := hf.Open(q.path)
	if err != nil {
		return nil, err
	}
	a, err := arch.Describe(ckpt.Config(), ckpt)
	if err != nil {
		ckpt.Close()
		return nil, err
	}
	model := nn.New(dev, ckpt, a)
	windows := make([][]int32, q.n)
	for i := range windows {
		windows[i] = tokens(q.m, a.V, uint32(i))
	}
	var last float64
	return &job{
		run: func() error {
			return model.Run(context.Background(), windows, nn.RunOptions{}, func(_ int, hidden []float32) error {
				last = meanSquare(hidden)
				return nil
			})
		},
		value: func() float64 { return last },
		close: func() { model.Release(); ckpt.Close() },
	}, nil
}

// tokens returns a window of token ids, the same as in peers.py.
func tokens(n, vocabulary int, seed uint32) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		seed = seed*1664525 + 1013904223
		ids[i] = int32(uint64(seed) * uint64(vocabulary) >> 32)
	}
	return ids
}

func meanSquare(x []float32) float64 {
	var sum float64
	for _, v := range x {
		sum += float64(float64(v) * float64(v))
	}
	return sum / float64(len(x))
}
