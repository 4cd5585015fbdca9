package device

import "modelpress/internal/num"

// Optimizer is a device that trains what lies in its own memory.
type Optimizer interface {
	// AdamW moves n parameters p against their gradients g and updates the moments m and v, with the bits of num.AdamW. All are F32.
	AdamW(p, g, m, v Buf, n int, o num.AdamWStep)
	// AdamWHalf is AdamW for parameters in BF16. They are rounded at random: value i by bits 16*(i%4) to 16*(i%4)+15 of number i/4 of the
	// stream draws, which is splitmix64's output for draws + i/4 of its increments.
	AdamWHalf(p, g, m, v Buf, n int, o num.AdamWStep, draws uint64)
	// SumSquares returns Σ x[i]² over n values of F32, in float64.
	SumSquares(x Buf, n int) float64
}

// Sampler is a device that draws the multipliers of learnt masks.
type Sampler interface {
	// SampleMasks: eps are n normal numbers, two for each output of splitmix64's mixing of key, key+1, … by the method of Box and Muller,
	// and z = mu + eps*e^(logD/2). All are F32.
	SampleMasks(eps, z, mu, logD Buf, key uint64, n int)
}
