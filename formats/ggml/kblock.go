package ggml

import "math"

// The settings that ggml searches Q4_K and Q5_K with, without importance and with it. Q4_1 and Q5_1 have the latter, too.
var (
	steps4, steps5                 = newAffineSteps(15, -1, 0.1, 20), newAffineSteps(31, -0.5, 0.1, 15)
	weightedSteps4, weightedSteps5 = newAffineSteps(15, -0.9, 0.05, 36), newAffineSteps(31, -0.9, 0.05, 36)
)

// affineBlock is a block of 256 values on the grids of Q4_K or Q5_K.
type affineBlock struct {
	d, dmin float32
	scales  kScales
	codes   [256]byte
	fits    [8]affineFit
	weights [256]float32
}

// quantizeQ4K quantizes blocks. importance is nil, or has a weight for each value of src.
func quantizeQ4K(dst []byte, src, importance []float32) {
	steps := pick(importance, steps4, weightedSteps4)
	var k affineBlock
	for len(src) >= 256 && len(dst) >= 144 {
		b := (*[144]byte)(dst)
		importance = k.quantize(b[:16], (*[256]float32)(src), importance, steps)
		putQ4K(b, &k.codes)
		src, dst = src[256:], dst[144:]
	}
}

// quantizeQ5K is quantizeQ4K for Q5_K.
func quantizeQ5K(dst []byte, src, importance []float32) {
	steps := pick(importance, steps5, weightedSteps5)
	var k affineBlock
	for len(src) >= 256 && len(dst) >= 176 {
		b := (*[176]byte)(dst)
		importance = k.quantize(b[:16], (*[256]float32)(src), importance, steps)
		putQ5K(b, &k.codes)
		src, dst = src[256:], dst[176:]
	}
}

func pick(importance []float32, plain, weighted *affineSteps) *affineSteps {
	if importance == nil {
		return plain
	}
	return weighted
}

// quantize finds the grids and codes of x, writes d, dmin and the scales to head, and returns the importance of what follows.
func (k *affineBlock) quantize(head []byte, x *[256]float32, importance []float32, steps *affineSteps) (rest []float32) {
	if importance == nil {
		plainWeights(&k.weights, x)
	} else {
		importance, rest = importance[:256], importance[256:]
		importantWeights(k.weights[:], x[:], importance, float32(2*sumSquares(x[:]))/256)
	}
	for j := range k.fits {
		k.fits[j] = steps.search(x[32*j:32*j+32], k.weights[32*j:32*j+32])
	}
	if importance == nil {
		k.spread()
	} else {
		k.spreadWeighted()
	}
	k.d, k.dmin = putF16(head, k.d), putF16(head[2:], k.dmin)
	k.scales.put((*[12]byte)(head[4:]))
	k.code(x, steps)
	return rest
}

// spread takes the largest scale and the largest min for 63.
func (k *affineBlock) spread() {
	var scale, least float32
	for _, f := range k.fits {
		scale, least = max(scale, f.scale), max(least, f.min)
	}
	var inv, invMin float32
	if scale > 0 {
		inv = 63 / scale
	}
	if least > 0 {
		invMin = 63 / least
	}
	for j, f := range k.fits {
		k.scales.scale[j] = min(byte(nearest(float32(inv*f.scale))), 63)
		k.scales.min[j] = min(byte(nearest(float32(invMin*f.min))), 63)
	}
	k.d, k.dmin = scale/63, least/63
}

// spreadWeighted searches d and dmin for the scales and mins, each of which counts as much as its values do.
func (k *affineBlock) spreadWeighted() {
	var scale, least, w [8]float32
	for j, f := range k.fits {
		scale[j], least[j] = f.scale, f.min
		w[j] = sum(k.weights[32*j : 32*j+32])
	}
	k.d = searchLevels(k.scales.scale[:], scale[:], w[:], 63)
	k.dmin = searchLevels(k.scales.min[:], least[:], w[:], 63)
}

// code takes for each value the nearest code on the grids as they are stored. Where the scale is 0, codes mean nothing and are those of the
// search, as in ggml.
func (k *affineBlock) code(x *[256]float32, steps *affineSteps) {
	for j, f := range k.fits {
		v, codes := (*[32]float32)(x[32*j:]), (*[32]byte)(k.codes[32*j:])
		d, dm := float32(k.d*float32(k.scales.scale[j])), float32(k.dmin*float32(k.scales.min[j]))
		if d == 0 {
			for i := range codes {
				codes[i] = byte(steps.code(v[i], f))
			}
			continue
		}
		top := int32(steps.top)
		for i := range codes {
			codes[i] = byte(min(max(nearest((v[i]+dm)/d), 0), top))
		}
	}
}

// plainWeights counts values by their magnitude, and by the root of the mean square of the 32 that they belong to.
func plainWeights(w, x *[256]float32) {
	for j := 0; j < 256; j += 32 {
		mean := sqrt(sumSquares(x[j:j+32]) / 32)
		for i, v := range x[j : j+32] {
			w[j+i] = mean + abs(v)
		}
	}
}

// importantWeights counts values by the importance of their columns and by sqrt(sigma2 + x²).
func importantWeights(w, x, importance []float32, sigma2 float32) {
	x, importance = x[:len(w)], importance[:len(w)]
	for i, v := range x {
		w[i] = float32(importance[i] * sqrt(sigma2+float32(v*v)))
	}
}

func sumSquares(x []float32) (sum float32) {
	for _, v := range x {
		sum += float32(v * v)
	}
	return sum
}

func sum(x []float32) (sum float32) {
	for _, v := range x {
		sum += v
	}
	return sum
}

func sqrt(v float32) float32 { return float32(math.Sqrt(float64(v))) }
