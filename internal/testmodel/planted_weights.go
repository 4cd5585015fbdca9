package testmodel

import (
	"fmt"
	"math"
)

// edit changes a weight [out, in].
func (h head) edit(module string, in int, f func(at func(row, col int) *float32)) {
	name := fmt.Sprintf("model.layers.%d.self_attn.%s.weight", h.layer, module)
	v, err := h.Values(name)
	if err != nil {
		panic(err)
	}
	f(func(row, col int) *float32 { return &v[row*in+col] })
	h.Set(name, v)
}

// clear silences queries and keys, and where the head is to write a code, values and output.
func (h head) clear(output bool) {
	k := h.opt.K
	zero := func(module string, head int) {
		h.edit(module, plantedD, func(at func(row, col int) *float32) {
			for r := head * k; r < (head+1)*k; r++ {
				for c := range plantedD {
					*at(r, c) = 0
				}
			}
		})
	}
	zero("k_proj", h.g)
	for _, q := range h.queries() {
		zero("q_proj", q)
	}
	if !output {
		return
	}
	zero("v_proj", h.g)
	h.edit("o_proj", h.opt.H*k, func(at func(row, col int) *float32) {
		for r := range plantedD {
			for _, q := range h.queries() {
				for c := q * k; c < (q+1)*k; c++ {
					*at(r, c) = 0
				}
			}
		}
	})
}

// query sets value dim of the queries to x times value from of the stream.
func (h head) query(set func(q func(dim, from int, x float64))) {
	h.edit("q_proj", plantedD, func(at func(row, col int) *float32) {
		for _, q := range h.queries() {
			set(func(dim, from int, x float64) { *at(q*h.opt.K+dim, from) = float32(x) })
		}
	})
}

// key sets value dim of the key to x times value from of the stream.
func (h head) key(set func(k func(dim, from int, x float64))) {
	h.edit("k_proj", plantedD, func(at func(row, col int) *float32) {
		set(func(dim, from int, x float64) { *at(h.g*h.opt.K+dim, from) = float32(x) })
	})
}

// copyValues carries n values of the stream from one place to another through values at and after dim of the head, shared
// by its query heads. Where sequences have a start, size is relative to what stands there before the norm, and values are no
// larger than those of noise, so that the other query heads of the group write no more than noise does.
func (h head) copyValues(dim, from, to, n int, size float32) {
	queries, value := h.queries(), float32(1)
	if h.stream.bos {
		value = h.opt.Noise
		size /= value * float32(math.Sqrt(h.gain))
	}
	h.edit("v_proj", plantedD, func(at func(row, col int) *float32) {
		for c := range n {
			*at(h.g*h.opt.K+dim+c, from+c) = value
		}
	})
	h.edit("o_proj", h.opt.H*h.opt.K, func(at func(row, col int) *float32) {
		for _, q := range queries {
			for c := range n {
				*at(to+c, q*h.opt.K+dim+c) = size / float32(len(queries))
			}
		}
	})
}

// aside lets the head write a random image of what it reads, of root mean square plantedAside where it reads one token:
// its values and its output are noise, of which the output is scaled.
func (h head) aside() {
	queries := h.queries()
	// The weights of values have a deviation of Noise/sqrt(D), those of the output Noise/sqrt(H·K); a sum of the output has
	// len(queries)·K terms.
	size := plantedAside * float32(math.Sqrt(float64(h.opt.H)/float64(len(queries)))) / (h.opt.Noise * h.opt.Noise)
	h.edit("o_proj", h.opt.H*h.opt.K, func(at func(row, col int) *float32) {
		for r := range plantedD {
			for _, q := range queries {
				for c := q * h.opt.K; c < (q+1)*h.opt.K; c++ {
					*at(r, c) *= size
				}
			}
		}
	})
}
