package num

import (
	"fmt"
	"math"
)

// AdamWStep holds the settings of one step of AdamW.
type AdamWStep struct {
	LR, Beta1, Beta2 float64
	Eps              float64 // added to the root of the second moment, after its correction
	Decay            float64 // weight decay, which the rate multiplies; 0 for none
	GradScale        float64 // multiplies gradients before anything else, as clipping by a norm does; 1 for none
	Step             int     // 1 for the first step
}

// AdamW moves the parameters p against their gradients g and updates the moments m and v, all of one length, m and v zero
// before the first step (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2, with the rate also on the decay as PyTorch
// has it):
//
//	g' = GradScale*g
//	p *= 1 - LR*Decay
//	m = Beta1*m + (1-Beta1)*g',  v = Beta2*v + (1-Beta2)*g'²
//	p -= LR * (m/(1-Beta1^Step)) / (sqrt(v/(1-Beta2^Step)) + Eps)
//
// Factors are computed in float64 and rounded once, values are f32, and every product is rounded: a value depends on its own
// place alone, and the bits are the same on every machine. g is not changed. Values that are not finite stay so.
func AdamW(p, g, m, v []float32, o AdamWStep, par Par) {
	const op = "AdamW"
	checkLen(op, "g", len(g), len(p))
	checkLen(op, "m", len(m), len(p))
	checkLen(op, "v", len(v), len(p))
	if o.Step < 1 {
		panic(fmt.Sprintf("num: AdamW: step %d, the first is 1", o.Step))
	}
	f := o.factors()
	byChunk(par, len(p), func(lo, hi int) { adamW(p[lo:hi], g[lo:hi], m[lo:hi], v[lo:hi], &f) })
}

// adamFactors are the constants of a step, in the order in which kernels read them.
type adamFactors struct {
	scale, keep            float32 // of the gradient, of the parameter
	old1, new1, old2, new2 float32
	rate, root, eps        float32 // rate and root hold the corrections of the moments
}

func (o AdamWStep) factors() adamFactors {
	one, two := 1-math.Pow(o.Beta1, float64(o.Step)), 1-math.Pow(o.Beta2, float64(o.Step))
	return adamFactors{
		scale: float32(o.GradScale), keep: float32(1 - float64(o.LR*o.Decay)),
		old1: float32(o.Beta1), new1: float32(1 - o.Beta1), old2: float32(o.Beta2), new2: float32(1 - o.Beta2),
		rate: float32(o.LR / one), root: float32(1 / math.Sqrt(two)), eps: float32(o.Eps),
	}
}

// Factors returns the constants of a step, rounded once, in the order in which a kernel takes them: what multiplies the gradient and the
// parameter; Beta1, 1-Beta1, Beta2, 1-Beta2; the rate and the factor of the root with the corrections of the moments; Eps.
func (o AdamWStep) Factors() [9]float32 {
	if o.Step < 1 {
		panic(fmt.Sprintf("num: AdamW: step %d, the first is 1", o.Step))
	}
	f := o.factors()
	return [9]float32{f.scale, f.keep, f.old1, f.new1, f.old2, f.new2, f.rate, f.root, f.eps}
}

func (f *adamFactors) step(p, g, m, v []float32) {
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	for i, w := range p {
		s := f.scale * g[i]
		a := float32(f.old1*m[i]) + float32(f.new1*s)
		b := float32(f.old2*v[i]) + float32(f.new2*float32(s*s))
		m[i], v[i] = a, b
		root := float32(float32(math.Sqrt(float64(b)))*f.root) + f.eps
		p[i] = float32(w*f.keep) - float32(f.rate*a)/root
	}
}
