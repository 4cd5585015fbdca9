package prune

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"modelpress/internal/arch"
)

// Rules say which sizes may change, and what to.
type Rules struct {
	Hidden, Heads, FFN bool // channels of the stream, KV heads, FFN channels
	Depth              bool // layers may go; in [FitLayers], sub-layers too
	// HiddenMultiple and FFNMultiple divide what stays; 0 for the ones of DefaultMultiples. The source's own number is always
	// allowed.
	HiddenMultiple, FFNMultiple int
	// AnyHeads allows any number of KV heads; else it is a power of two, or the source's own.
	AnyHeads bool
}

// DefaultMultiples returns the numbers that divide what stays of a model's channels. Those of the stream: 128, or the largest power
// of two within D/16, at least 8, where D is below 2048. Those of the FFN: 256 where every layer's F has it and D is at least
// 2048, else as for the stream.
func DefaultMultiples(m *arch.Model) (hidden, ffn int) {
	hidden = 128
	if m.D < 2048 {
		hidden = max(8, 1<<bits.Len(uint(m.D/16))>>1)
	}
	ffn = hidden
	if m.D >= 2048 && !slices.ContainsFunc(m.Layers, func(a arch.Layer) bool { return a.F%256 != 0 }) {
		ffn = 256
	}
	return hidden, ffn
}

// fill puts the defaults in. A target that a size has no part in leaves it alone.
func (r Rules) fill(m *arch.Model, metric Metric) (Rules, error) {
	hidden, ffn := DefaultMultiples(m)
	if r.HiddenMultiple == 0 {
		r.HiddenMultiple = hidden
	}
	if r.FFNMultiple == 0 {
		r.FFNMultiple = ffn
	}
	if r.HiddenMultiple < 0 || r.FFNMultiple < 0 {
		return r, fmt.Errorf("prune: rules: multiples %d and %d", r.HiddenMultiple, r.FFNMultiple)
	}
	if fused(m) && r.Hidden != r.Heads {
		return r, fmt.Errorf("prune: rules: %s has as many channels as its heads have: both may change, or none", m.Family)
	}
	if metric == ByKV {
		r.FFN, r.Hidden = false, r.Hidden && fused(m)
	}
	if !r.Hidden && !r.Heads && !r.FFN && !r.Depth {
		return r, fmt.Errorf("prune: rules: nothing that %s depends on may change", metric)
	}
	return r, nil
}

// fused reports whether the model's queries, keys and values are one tensor.
func fused(m *arch.Model) bool {
	return slices.ContainsFunc(m.Layers, func(a arch.Layer) bool { return fusedHeads(&a) })
}

// multiples lists the allowed numbers of n channels, ascending; n alone where they may not change.
func multiples(n, of int, change bool) []int {
	var out []int
	for x := of; change && x < n; x += of {
		out = append(out, x)
	}
	return append(out, n)
}

// headCounts lists the allowed numbers of g KV heads, ascending.
func (r Rules) headCounts(g int) []int {
	var out []int
	for n := 1; r.Heads && n < g; n++ {
		if r.AnyHeads || n&(n-1) == 0 {
			out = append(out, n)
		}
	}
	return append(out, g)
}

// nearest returns the element of a list that is closest to v, the larger of two.
func nearest(list []int, v float64) int {
	found := list[0]
	for _, x := range list[1:] {
		if math.Abs(float64(x)-v) <= math.Abs(float64(found)-v) {
			found = x
		}
	}
	return found
}
