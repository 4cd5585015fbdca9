package importance

import (
	"fmt"
	"math"

	"modelpress/internal/num"
)

// Aggregation says how the activations of a unit become one number, over the tokens of a window or over windows (Muralidharan et
// al., arXiv:2407.14679, section 2.2 and table 11).
type Aggregation string

// The aggregations. Over windows they are of the numbers of windows, none of which is negative.
const (
	Mean     Aggregation = "mean" // mean of the absolute values
	L2       Aggregation = "l2"   // root of the sum of the squares
	Variance Aggregation = "var"  // mean squared distance from the mean
)

// or returns the aggregation, def where none is named.
func (a Aggregation) or(def Aggregation) (Aggregation, error) {
	switch a {
	case "":
		return def, nil
	case Mean, L2, Variance:
		return a, nil
	}
	return "", fmt.Errorf("importance: aggregation %.40q is none of %q, %q and %q", string(a), Mean, L2, Variance)
}

// columnBlock is how many columns one call of a body takes.
const columnBlock = 128

// columns aggregates each column of x [t, n] into dst [n], in float64 and in the order of rows.
func (a Aggregation) columns(dst []float64, x []float32, t, n int, par num.Par) {
	par((n+columnBlock-1)/columnBlock, func(i int) {
		lo, hi := i*columnBlock, min(n, (i+1)*columnBlock)
		d := dst[lo:hi]
		sum := func(f func(s, v float64) float64) {
			for r := range t {
				for c, v := range x[r*n+lo : r*n+hi] {
					d[c] = f(d[c], float64(v))
				}
			}
		}
		clear(d)
		switch a {
		case Mean:
			sum(func(s, v float64) float64 { return s + math.Abs(v) })
		case L2:
			sum(func(s, v float64) float64 { return s + float64(v*v) })
		case Variance:
			variances(d, x[lo:], t, n)
		}
		for c := range d {
			if a == L2 {
				d[c] = math.Sqrt(d[c])
			} else {
				d[c] /= float64(t)
			}
		}
	})
}

// variances sums the squared distances of the first columns of x, of stride n, from their means.
func variances(dst []float64, x []float32, t, n int) {
	for c := range dst {
		mean := 0.0
		for r := range t {
			mean += float64(x[r*n+c])
		}
		mean /= float64(t)
		for r := range t {
			v := float64(x[r*n+c]) - mean
			dst[c] += float64(v * v)
		}
	}
}

// hook aggregates the activations at one place of a model: over the tokens of a window, then over windows. Memory is 24 bytes a
// channel.
type hook struct {
	batch, sequence  Aggregation
	window, sum, dev []float64 // of this window; over windows: the sum, or mean and squared distances from it
	n                int
}

func newHook(batch, sequence Aggregation, channels int) *hook {
	return &hook{batch: batch, sequence: sequence, window: make([]float64, channels), sum: make([]float64, channels),
		dev: make([]float64, channels)}
}

// add takes in a window of activations x [t, channels].
func (h *hook) add(x []float32, t int, par num.Par) {
	h.sequence.columns(h.window, x, t, len(h.window), par)
	h.n++
	for c, v := range h.window {
		switch h.batch {
		case Mean:
			h.sum[c] += v
		case L2:
			h.sum[c] += float64(v * v)
		case Variance: // Welford, Technometrics 4 (1962)
			d := v - h.sum[c]
			h.sum[c] += d / float64(h.n)
			h.dev[c] += float64(d * (v - h.sum[c]))
		}
	}
}

// scores returns one number for each channel.
func (h *hook) scores() []float64 {
	out := make([]float64, len(h.sum))
	for c, s := range h.sum {
		switch h.batch {
		case Mean:
			out[c] = s / float64(h.n)
		case L2:
			out[c] = math.Sqrt(s)
		case Variance:
			out[c] = h.dev[c] / float64(h.n)
		}
	}
	return out
}
