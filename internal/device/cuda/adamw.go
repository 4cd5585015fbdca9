//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

var (
	_ device.Optimizer = (*Device)(nil)
	_ device.Sampler   = (*Device)(nil)
)

// AdamW implements device.Optimizer.
func (d *Device) AdamW(p, g, m, v device.Buf, n int, o num.AdamWStep) {
	c := d.begin("AdamW")
	defer c.end()
	c.launch("adamw", "adamw", mapBlocks(n), [3]int{rowThreads, 1, 1}, 0,
		append([]any{c.out(p, n), c.in(g, n), c.out(m, n), c.out(v, n), int64(n)}, adamFactors(o)...)...)
}

// AdamWHalf implements device.Optimizer.
func (d *Device) AdamWHalf(p, g, m, v device.Buf, n int, o num.AdamWStep, draws uint64) {
	c := d.begin("AdamWHalf")
	defer c.end()
	b := d.own(c.op, p)
	if b.kind != device.BF16 || n < 0 || b.n < n {
		panic(fmt.Sprintf("cuda: AdamWHalf: buffer of kind %d with %d elements where %d of bfloat16 are needed", b.kind, b.n, n))
	}
	c.launch("adamw", "adamw_bf16", mapBlocks(n), [3]int{rowThreads, 1, 1}, 0,
		append([]any{c.use(b, true), c.in(g, n), c.out(m, n), c.out(v, n), int64(n), int64(draws)}, adamFactors(o)...)...)
}

// adamFactors are the last arguments of both kernels.
func adamFactors(o num.AdamWStep) (args []any) {
	for _, f := range o.Factors() {
		args = append(args, f)
	}
	return args
}

// squaresChunk is how many values one sum of squares is over.
const squaresChunk = 1 << 16

// SumSquares implements device.Optimizer: sums of chunks of 65,536 values, added in order. Scratch: 8 bytes a chunk.
func (d *Device) SumSquares(x device.Buf, n int) (sum float64) {
	c := d.begin("SumSquares")
	defer c.end()
	from, count := c.in(x, n), ceilDiv(n, squaresChunk)
	if count == 0 {
		return 0
	}
	parts, host := c.scratch(8*int64(count)), make([]float64, count)
	c.launch("adamw", "squares_chunk", [3]int{count, 1, 1}, [3]int{rowThreads, 1, 1}, 0, parts, from, int64(n), squaresChunk)
	c.fetch(doubleBytes(host), parts)
	for _, v := range host {
		sum += v
	}
	return sum
}

// SampleMasks implements device.Sampler.
func (d *Device) SampleMasks(eps, z, mu, logD device.Buf, key uint64, n int) {
	c := d.begin("SampleMasks")
	defer c.end()
	c.launch("sample", "sample_masks", mapBlocks(n), [3]int{rowThreads, 1, 1}, 0,
		c.out(eps, n), c.out(z, n), c.in(mu, n), c.in(logD, n), int64(key), int64(n))
}
