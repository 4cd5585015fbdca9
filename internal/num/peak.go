package num

// peakPasses passes of a peak loop take some milliseconds.
const peakPasses = 1 << 21

// Peak runs loops of multiply-adds on registers alone, n of them at once on par, and returns how many floating point
// operations that were: what benchmarks of products in f32 measure the bound with. Each loop has twelve independent
// chains, which is enough to fill two units of four cycles latency.
func Peak(n int, par Par) float64 {
	lanes, loop := peakLoop()
	each(par, n, func(int) { loop(peakPasses) })
	return 2 * 12 * float64(lanes) * peakPasses * float64(n)
}

// peakGeneric is the loop in plain Go: n passes of 12 multiply-adds.
func peakGeneric(n int) {
	var s [12]float32
	a, b := float32(n&1), float32(n&1^1) // one is 0
	for range n {
		for i := range s {
			s[i] += float32(a * b)
		}
	}
	if s[0] != 0 {
		panic("num: peak")
	}
}
