package num

import "math"

// AttentionReference is the definition of AttentionHead and AttentionColumnSums in float64, one row at a time, for
// tests: out is [T, Dim], lse and sums are [T], and each may be nil.
func AttentionReference(out, lse, sums []float64, h AttnHead) {
	h.check("AttentionReference", out != nil, 0, h.T)
	clear(sums)
	p := make([]float64, h.T)
	for i := range h.T {
		top := math.Inf(-1)
		for j := range i + 1 {
			p[j] = math.Inf(-1)
			if h.Recent <= 0 || j < h.Sink || i-j < h.Recent {
				p[j] = 0
				for d := range h.Dim {
					p[j] += float64(h.Q[i*h.LDQ+d]) * float64(h.K[j*h.LDK+d])
				}
				p[j] *= float64(h.Scale)
			}
			top = max(top, p[j])
		}
		total := 0.0
		for j := range i + 1 {
			p[j] = math.Exp(p[j] - top)
			total += p[j]
		}
		if lse != nil {
			lse[i] = top + math.Log(total)
		}
		for j := range i + 1 {
			if sums != nil {
				sums[j] += p[j] / total
			}
			for d := 0; d < h.Dim && out != nil; d++ {
				if j == 0 {
					out[i*h.Dim+d] = 0
				}
				out[i*h.Dim+d] += p[j] / total * float64(h.V[j*h.LDV+d])
			}
		}
	}
}
