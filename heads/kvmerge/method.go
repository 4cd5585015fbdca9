package kvmerge

import "math"

// Method says what a group shares.
type Method string

// The ways of merging.
const (
	PCA        Method = "pca"        // the linear image that loses least, as queries and output projection weigh it
	Procrustes Method = "procrustes" // the mean of heads that were turned towards each other (AlignGQA, EMNLP Findings 2025)
	Mean       Method = "mean"       // the mean of the projections (GQA, arXiv:2305.13245)
	First      Method = "first"      // the first member's
	Select     Method = "select"     // the member that stands best for all: for keys that are normalized head by head
)

// Methods lists the ways of merging, for keys that no norm follows and for values.
func Methods() []Method { return []Method{PCA, Procrustes, Mean, First, Select} }

func scaledIdentity(r int, w float64) []float64 {
	out := make([]float64, r*r)
	for i := range r {
		out[i*r+i] = w
	}
	return out
}

func scale64(x []float64, f float64) {
	for i := range x {
		x[i] *= f
	}
}

// scaleFor is the factor that brings an energy to another one, 1 where one of them is zero.
func scaleFor(have, want float64) float64 {
	if !(have > 0) || !(want > 0) {
		return 1
	}
	return math.Sqrt(want / have)
}
