package num

import "math"

// AttentionBackReference is the definition of AttentionBack in float64, over whole rows of scores, for tests: dq, dk and
// dv are [T, Dim], and dk and dv are added to. Only DOut of g is read. Where each is not nil it is called with every pair
// of a query and a key that it sees: the attention a, the slope DOut[i]·V[j] and the mean of the slopes of the row.
func AttentionBackReference(dq, dk, dv []float64, h AttnHead, g AttnGrad, each func(i, j int, a, slope, mean float64)) {
	h.check("AttentionBackReference", true, 0, h.T)
	dot := func(a, b []float32) (s float64) {
		for d, v := range a[:h.Dim] {
			s += float64(v) * float64(b[d])
		}
		return s
	}
	p, slope := make([]float64, h.T), make([]float64, h.T)
	for i := range h.T {
		q, do := h.Q[i*h.LDQ:], g.DOut[i*g.LDO:]
		total, mean := 0.0, 0.0
		for j := range i + 1 {
			p[j] = 0
			if h.Recent <= 0 || j < h.Sink || i-j < h.Recent {
				p[j] = math.Exp(dot(q, h.K[j*h.LDK:]) * float64(h.Scale))
			}
			slope[j] = dot(do, h.V[j*h.LDV:])
			total += p[j]
			mean += p[j] * slope[j]
		}
		mean /= total
		for j := range i + 1 {
			a := p[j] / total
			if a == 0 {
				continue
			}
			if each != nil {
				each(i, j, a, slope[j], mean)
			}
			ds := a * (slope[j] - mean) * float64(h.Scale)
			for d := 0; d < h.Dim && dq != nil; d++ {
				dq[i*h.Dim+d] += ds * float64(h.K[j*h.LDK+d])
				dk[j*h.Dim+d] += ds * float64(q[d])
				dv[j*h.Dim+d] += a * float64(do[d])
			}
		}
	}
}
