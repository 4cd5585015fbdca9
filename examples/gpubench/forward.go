package main

import (
	"context"
	"fmt"
	"time"

	"modelpress/formats/hf"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// open returns the model and what closes it.
func (b *bench) open() (*nn.Model, func(), error) {
	ckpt, err := hf.Open(b.model)
	if err != nil {
		return nil, nil, err
	}
	a, err := arch.Describe(ckpt.Config(), ckpt)
	if err != nil {
		ckpt.Close()
		return nil, nil, err
	}
	m := nn.New(b.dev, ckpt, a)
	return m, func() { m.Release(); ckpt.Close() }, nil
}

// tokens returns windows of token ids below v.
func (b *bench) tokens(v int) [][]int32 {
	out, seed := make([][]int32, b.windows), uint32(1)
	for i := range out {
		out[i] = make([]int32, b.length)
		for j := range out[i] {
			seed = seed*1664525 + 1013904223
			out[i][j] = int32(uint64(seed) * uint64(v) >> 32)
		}
	}
	return out
}

// ops is the number of operations of a pass over n windows, without embedding and output head: two for each weight of a
// projection and token, and those of causal attention.
func (b *bench) ops(m *arch.Model, n int) float64 {
	total, t := 0.0, float64(b.length)
	for l := range m.Layers {
		a := &m.Layers[l]
		for _, lin := range a.Linears {
			total += 2 * float64(lin.In) * float64(lin.Out) * t
		}
		total += 2 * float64(a.H*a.K) * t * (t + 1)
	}
	return total * float64(n)
}

// together is how many positions go through a layer at once where windows are shorter.
const together = 8192

// pass is the time of a pass over windows, each block being read once.
func (b *bench) pass(m *nn.Model, windows [][]int32) (float64, error) {
	start := time.Now()
	err := m.Run(context.Background(), windows, nn.RunOptions{Together: together}, nil)
	if err == nil {
		err = b.wait()
	}
	return time.Since(start).Seconds(), err
}

// forward measures passes over all windows.
func (b *bench) forward() error {
	m, done, err := b.open()
	if err != nil {
		return err
	}
	defer done()
	windows := b.tokens(m.Arch.V)
	t, err := b.best(func() error { _, err := b.pass(m, windows); return err })
	if err != nil {
		return err
	}
	b.line(fmt.Sprintf("forward, %d x %d tokens, %d layers", b.windows, b.length, len(m.Arch.Layers)), b.ops(m.Arch, b.windows), t)
	return nil
}

// stream compares passes over few and many windows with their parts: the time in which all blocks are copied to the device with nothing
// computed, and that of computing, which is what twice as many windows take longer. Were both to run at once at full speed, a pass
// would take the longer of the two.
func (b *bench) stream() error {
	m, done, err := b.open()
	if err != nil {
		return err
	}
	defer done()
	all := b.tokens(m.Arch.V)
	half := max(1, len(all)/2)
	if _, err := b.pass(m, all); err != nil { // pages of the file, scratch
		return err
	}
	copied, err := b.best(func() error { return b.blocks(m) })
	if err != nil {
		return err
	}
	long, err := b.pass(m, all)
	if err != nil {
		return err
	}
	short, err := b.pass(m, all[:half])
	if err != nil {
		return err
	}
	each := (long - short) / float64(max(1, len(all)-half)) // of computing, by window
	fmt.Fprintf(b.out, "stream: all blocks copied in %.3f s, a window computed in %.4f s\n", copied, each)
	for n := 1; ; n = min(4*n, len(all)) {
		t, err := b.pass(m, all[:n])
		if err != nil {
			return err
		}
		longer := max(copied, each*float64(n))
		fmt.Fprintf(b.out, "stream: %4d windows %8.3f s, the longer of copy and compute %8.3f s, ratio %.2f\n", n, t, longer, t/longer)
		if n == len(all) {
			return nil
		}
	}
}

// blocks copies one block after the other to the device and waits for each.
func (b *bench) blocks(m *nn.Model) error {
	for l := range m.Arch.Layers {
		m.Prefetch(l + 1)
		block, err := m.LoadBlock(l)
		if err != nil {
			return err
		}
		err = b.wait()
		block.Free()
		if err != nil {
			return err
		}
	}
	return nil
}
