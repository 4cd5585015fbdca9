package testmodel

import "math"

const (
	plantedV     = 256 // 8 bits, shared out among the parts of a code
	plantedBits  = 8
	plantedD     = 128
	plantedTheta = 1e8
	plantedBOS   = 0
)

// stream says what stands where in the residual stream of a planted model: the code of the token, the code of the token
// before it, the code of the token to come, each in room values of which parts·length are used; then a constant, and where
// sequences have a start, the flag of the start and the flag of the token after it.
type stream struct {
	room   int         // values set aside for a code
	length int         // values of one part
	bits   []int       // of the token's id that each part stands for, the highest first
	codes  [][]float32 // orthogonal patterns of ±1
	bos    bool
}

// newStream divides the bits of a token among the parts. A code is matched in the slowest half of a head's rotary
// frequencies, which hardly turn, so that it has at most K/2 values. It panics where the patterns are too few.
func newStream(k, parts int, bos bool) stream {
	s := stream{room: min(32, k/2), length: 1, bits: make([]int, parts), bos: bos}
	for 2*s.length*parts <= s.room {
		s.length *= 2
	}
	for i := range plantedBits {
		s.bits[i%parts]++
	}
	if 2*s.length < 1<<s.bits[0] {
		panic("testmodel: too few patterns for the parts of a code")
	}
	s.codes = hadamardCodes(s.length)
	return s
}

// hadamardCodes returns n patterns of ±1 that are orthogonal to each other (Sylvester's construction).
func hadamardCodes(n int) [][]float32 {
	codes := make([][]float32, n)
	for i := range codes {
		codes[i] = make([]float32, n)
		for j := range codes[i] {
			codes[i][j] = 1
			for b := i & j; b != 0; b &= b - 1 {
				codes[i][j] = -codes[i][j]
			}
		}
	}
	return codes
}

func (s stream) parts() int    { return len(s.bits) }
func (s stream) used() int     { return s.parts() * s.length }
func (s stream) constant() int { return 3 * s.room }
func (s stream) flag() int     { return 3*s.room + 1 }
func (s stream) after() int    { return 3*s.room + 2 }

// flagSize gives the start of a sequence the norm of every other token.
func (s stream) flagSize() float32 { return float32(math.Sqrt(float64(s.used()))) }

// part returns the value of part i of a token.
func (s stream) part(t, i int) int {
	shift := 0
	for _, b := range s.bits[i+1:] {
		shift += b
	}
	return t >> shift & (1<<s.bits[i] - 1)
}

// token returns the code of a token: a pattern per part. Where there are more values than patterns, their negatives serve
// as well (biorthogonal codes).
func (s stream) token(t int) []float32 {
	var code []float32
	for i := range s.parts() {
		v := s.part(t, i)
		for _, x := range s.codes[v%s.length] {
			if v >= s.length {
				x = -x
			}
			code = append(code, x)
		}
	}
	return code
}

// replace returns the token that differs from t in part i, whose value grows by one.
func (s stream) replace(t, i int) int {
	shift := 0
	for _, b := range s.bits[i+1:] {
		shift += b
	}
	v := s.part(t, i)
	return t + ((v+1)%(1<<s.bits[i])-v)<<shift
}

// writes is how strongly induction heads write. Half of a code leaves the norm of the stream almost as it was, so that a
// match always scores alike; without a start of the sequence, nothing is compared with a match.
func (s stream) writes() float32 {
	if s.bos {
		return 0.5
	}
	return 1
}

// sharpness is the scale of the output: a right part of a code adds 10 to the logit.
func (s stream) sharpness() float32 {
	if !s.bos {
		return 1
	}
	w := float64(s.writes())
	energy := float64(s.used())*(2+w*w) + 1
	return float32(10 / (float64(s.length) * w) * math.Sqrt(energy/plantedD))
}

// gain returns the square of what the norm in front of a layer multiplies the stream by, with and without the code of the
// previous token.
func (s stream) gain(previous bool) float64 {
	if previous {
		return plantedD / float64(2*s.used()+1)
	}
	return plantedD / float64(s.used()+1)
}
