package ggml

import "modelpress/internal/num"

// affineBlocks finds grids and codes of Q4_K or Q5_K for two blocks at a time: 16 parts of 32 values.
type affineBlocks struct {
	settings *affineTries
	search   num.AffineSearch
	weights  [512]float32
	head     [2]affineHead
	codes    [512]byte

	// For each 16 values: what is added to them, and the step that they are divided by.
	add, step [32]float32
}

// affineHead is what a block has beside its codes.
type affineHead struct {
	d, dmin float32
	scales  kScales
}

// quantizeQ4K quantizes blocks. importance is nil, or has a weight for each column; src is whole rows of them.
func quantizeQ4K(dst []byte, src, importance []float32) {
	k := affineBlocks{settings: pick(importance, tries4, weightedTries4)}
	k.each(dst, src, importance, 144, func(b []byte, codes *[256]byte) { putQ4K((*[144]byte)(b), codes) })
}

// quantizeQ5K is quantizeQ4K for Q5_K.
func quantizeQ5K(dst []byte, src, importance []float32) {
	k := affineBlocks{settings: pick(importance, tries5, weightedTries5)}
	k.each(dst, src, importance, 176, func(b []byte, codes *[256]byte) { putQ5K((*[176]byte)(b), codes) })
}

func pick(importance []float32, plain, weighted *affineTries) *affineTries {
	if importance == nil {
		return plain
	}
	return weighted
}

// each quantizes blocks of so many bytes; put stores codes.
func (k *affineBlocks) each(dst []byte, src, importance []float32, size int, put func(b []byte, codes *[256]byte)) {
	for at := 0; len(src) > 0; {
		n := min(len(src)/256, 2)
		x := src[:256*n]
		if importance == nil {
			plainWeights(k.weights[:], x)
		} else {
			for b := range n {
				v := x[256*b : 256*b+256]
				num.RootWeights(k.weights[256*b:256*b+256], v, importance[at:], float32(2*sumSquares(v))/256)
				at = (at + 256) % len(importance)
			}
		}
		k.quantize(x, importance != nil)
		for b := range n {
			out := dst[size*b : size*b+size]
			k.head[b].put(out)
			put(out, (*[256]byte)(k.codes[256*b:]))
		}
		src, dst = src[256*n:], dst[size*n:]
	}
}

// put stores the head, the first 16 bytes of a block.
func (h *affineHead) put(b []byte) {
	putF16(b, h.d)
	putF16(b[2:], h.dmin)
	h.scales.put((*[12]byte)(b[4:]))
}

// quantize finds the heads and codes of one or two blocks.
func (k *affineBlocks) quantize(x []float32, weighted bool) {
	k.search.Load(x, k.weights[:len(x)], 32)
	k.search.Run(32, k.settings.top, k.settings.tries)
	for i, v := range k.search.Min {
		k.search.Min[i] = -v
	}
	for b := range len(x) / 256 {
		if weighted {
			k.spreadWeighted(b)
		} else {
			k.spread(b)
		}
	}
	k.code(x)
}

// part returns the eight numbers of block b.
func part(v *[lanes]float32, b int) *[8]float32 { return (*[8]float32)(v[8*b:]) }

// spread takes the largest scale and the largest min of a block for 63.
func (k *affineBlocks) spread(b int) {
	h, scales, mins := &k.head[b], part(&k.search.Scale, b), part(&k.search.Min, b)
	var scale, least, inv, invMin float32
	for j, v := range scales {
		scale, least = max(scale, v), max(least, mins[j])
	}
	if scale > 0 {
		inv = 63 / scale
	}
	if least > 0 {
		invMin = 63 / least
	}
	for j, v := range scales {
		h.scales.scale[j] = min(byte(nearest(float32(inv*v))), 63)
		h.scales.min[j] = min(byte(nearest(float32(invMin*mins[j]))), 63)
	}
	h.d, h.dmin = scale/63, least/63
}

// spreadWeighted searches d and dmin for the scales and mins, each of which counts as much as its values do.
func (k *affineBlocks) spreadWeighted(b int) {
	h, w := &k.head[b], part(&k.search.Weight, b)
	h.d = searchLevels(h.scales.scale[:], part(&k.search.Scale, b)[:], w[:], 63)
	h.dmin = searchLevels(h.scales.min[:], part(&k.search.Min, b)[:], w[:], 63)
}

// code takes for each value the nearest code on the grids as they are stored.
func (k *affineBlocks) code(x []float32) {
	parts := len(x) / 32
	for p := range parts {
		h := &k.head[p/8]
		d, dmin := storedF16(h.d), storedF16(h.dmin)
		step, add := float32(d*float32(h.scales.scale[p%8])), float32(dmin*float32(h.scales.min[p%8]))
		k.step[2*p], k.step[2*p+1] = step, step
		k.add[2*p], k.add[2*p+1] = add, add
	}
	num.PartCodes(k.codes[:], x, k.add[:2*parts], k.step[:2*parts], 0, int32(k.settings.top), 0)
	for p := range parts {
		if k.step[2*p] != 0 {
			continue
		}
		// Where the scale is 0, codes mean nothing and are those of the search, as in ggml.
		for i := 32 * p; i < 32*p+32; i++ {
			k.codes[i] = k.settings.code(x[i], k.search.Base[p], k.search.Inv[p])
		}
	}
}

// plainWeights counts values by their magnitude, and by the root of the mean square of the 32 that they belong to.
func plainWeights(w, x []float32) {
	for ; len(x) >= 32; x, w = x[32:], w[32:] {
		v, w := (*[32]float32)(x), (*[32]float32)(w)
		mean := sqrt(sumSquares(v[:]) / 32)
		for i, f := range v {
			w[i] = mean + abs(f)
		}
	}
}
