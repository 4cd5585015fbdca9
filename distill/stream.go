package distill

import "math/bits"

// gamma is the increment of splitmix64.
const gamma = 0x9e3779b97f4a7c15

// mix is the output function of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
func mix(x uint64) uint64 {
	x += gamma
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// stream is a sequence of random numbers any of which can be had without those before it: the outputs of splitmix64 from one
// state.
type stream uint64

// newStream returns the stream of a tuple of numbers, such as seed, step and tensor.
func newStream(key ...uint64) stream {
	s := uint64(len(key))
	for _, k := range key {
		s = mix(s ^ mix(k))
	}
	return stream(s)
}

// at returns number i of the stream.
func (s stream) at(i uint64) uint64 { return mix(uint64(s) + i*gamma) }

// uniform returns number i of the stream as a float64 in [0, 1), a multiple of 2⁻⁵³.
func (s stream) uniform(i uint64) float64 { return float64(s.at(i)>>11) / (1 << 53) }

// below draws a number in [0, n) without bias (Lemire, arXiv:1805.10941) from the numbers of the stream from *i on, and counts
// up *i.
func (s stream) below(n uint64, i *uint64) uint64 {
	for {
		hi, lo := bits.Mul64(s.at(*i), n)
		*i++
		if lo >= n || lo >= -n%n {
			return hi
		}
	}
}
