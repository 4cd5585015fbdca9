package distill

import (
	"fmt"
	"math"

	"modelpress/internal/num"
)

// normChunk is the number of values whose squares are one partial sum.
const normChunk = 1 << 14

// GradNorm returns the square root of the sum of squares over all values of the gradients; nil slices are passed over. Squares
// are summed in float64, over chunks of 16384 values of a slice, and the chunks in order.
func GradNorm(grads [][]float32, par num.Par) float64 {
	type chunk struct{ grad, from int }
	var chunks []chunk
	for i, g := range grads {
		for at := 0; at < len(g); at += normChunk {
			chunks = append(chunks, chunk{i, at})
		}
	}
	parts := make([]float64, len(chunks))
	each(par, len(chunks), func(i int) {
		g := grads[chunks[i].grad][chunks[i].from:]
		parts[i] = squares(g[:min(len(g), normChunk)])
	})
	total := 0.0
	for _, s := range parts {
		total += s
	}
	return math.Sqrt(total)
}

// squares returns Σ x[i]². The square of an f32 is exact in float64.
func squares(x []float32) float64 {
	s := 0.0
	for _, v := range x {
		s += float64(v) * float64(v)
	}
	return s
}

// ClipScale returns what gradients of the given global norm are multiplied by so that it does not exceed limit (Pascanu et al.,
// arXiv:1211.5063): 1, or limit/norm. A limit of 0 means none. A norm that is not finite is an error.
func ClipScale(norm, limit float64) (float64, error) {
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return 0, fmt.Errorf("distill: gradient: the norm is %g", norm)
	}
	if limit <= 0 || norm <= limit {
		return 1, nil
	}
	return limit / norm, nil
}
