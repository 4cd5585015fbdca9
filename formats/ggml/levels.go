package ggml

// searchLevels finds codes from 0 to top, and the scale that it returns, with the least Σ w*(x - scale*code)² for x that are not negative: the
// scales of the parts of a block, as whole multiples of one. Nine scales near the largest x over top are tried; then single codes are moved
// while that helps. This is the search that llama.cpp calls make_qp_quants, in its order of operations.
func searchLevels(codes []byte, x, w []float32, top float32) float32 {
	codes, w = codes[:len(x)], w[:len(x)]
	clear(codes)
	var largest float32
	for _, v := range x {
		largest = max(largest, v)
	}
	if largest < tiny {
		return 0
	}
	loss := func(inv float32) (sum float32) {
		scale := 1 / inv
		for i, v := range x {
			d := v - float32(scale*level(v, inv, top))
			sum += float32(float32(w[i]*d) * d)
		}
		return sum
	}
	inv := top / largest
	least := loss(inv)
	for i := -4; i <= 4; i++ {
		if i == 0 {
			continue
		}
		other := (float32(0.1*float32(i)) + top) / largest
		if e := loss(other); e < least {
			least, inv = e, other
		}
	}
	var sumXL, sumL2 float32
	for i, v := range x {
		l := level(v, inv, top)
		codes[i] = byte(l)
		sumXL += float32(float32(w[i]*v) * l)
		sumL2 += float32(float32(w[i]*l) * l)
	}
	for range 5 {
		if !moveLevels(codes, x, w, top, &sumXL, &sumL2) {
			break
		}
	}
	if sumL2 > 0 {
		return sumXL / sumL2
	}
	return 0
}

// moveLevels gives each x the code that is best for it beside the others, where that helps. The sums are those of least squares.
func moveLevels(codes []byte, x, w []float32, top float32, sumXL, sumL2 *float32) (moved bool) {
	for i, v := range x {
		l := float32(codes[i])
		wx := float32(w[i] * v)
		xl, l2 := *sumXL-float32(wx*l), *sumL2-float32(float32(w[i]*l)*l)
		if !(xl > 0 && l2 > 0) {
			continue
		}
		to := held(float32(v*l2)/xl, top)
		if to == l {
			continue
		}
		xl += float32(wx * to)
		l2 += float32(float32(w[i]*to) * to)
		if float32(float32(xl*xl)**sumL2) > float32(float32(*sumXL**sumXL)*l2) {
			codes[i], *sumXL, *sumL2, moved = byte(to), xl, l2, true
		}
	}
	return moved
}

// level returns the code of a value, a whole number.
func level(v, inv, top float32) float32 { return held(float32(v*inv), top) }

// held rounds v to nearest, ties to even, in [0, top].
func held(v, top float32) float32 { return min(max(float32(v+roundingMagic)-roundingMagic, 0), top) }
