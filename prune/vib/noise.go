package vib

import "math"

// noise draws standard normal numbers by counter: number (a, b, c) is the same whatever was drawn before, so that a run that is
// resumed and windows in any order see what an uninterrupted run sees.
type noise struct{ seed uint64 }

// mix is the output function of splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// normal fills dst with the numbers (a, b, 0), (a, b, 1), ... by the method of Box and Muller, two for each pair of uniform
// numbers of 32 bits, in (0, 1).
func (n noise) normal(dst []float32, a, b uint64) {
	key := mix(mix(mix(n.seed)^a) ^ b)
	for i := 0; i < len(dst); i += 2 {
		bits := mix(key + uint64(i/2))
		u := (float64(bits>>32) + 0.5) / (1 << 32)
		v := (float64(bits&0xFFFFFFFF) + 0.5) / (1 << 32)
		r := math.Sqrt(-2 * math.Log(u))
		sin, cos := math.Sincos(2 * math.Pi * v)
		dst[i] = float32(r * cos)
		if i+1 < len(dst) {
			dst[i+1] = float32(r * sin)
		}
	}
}
