package testmodel

import "math/rand/v2"

// Texts are made of printable ASCII: token t is the character of code t.
const (
	textFirst, textLast = 33, 126
	textShortest        = 64 // the shortest passage
)

// Text returns n sequences of the given length, each a passage of 64 to 94 different random characters said over and over,
// after the start that the model expects. From the second time on induction knows every token, from 64 tokens before or
// more, so that perplexity tells whether it works: where an induction head sees neither that far nor the place among its
// sinks, and the model has a start of the sequence, each such token costs log 2 nats for every bit of the head's part
// ([Planted.PartBits]).
func (p *Planted) Text(n, length int, seed uint64) [][]int32 {
	out := make([][]int32, n)
	for i := range out {
		rng := rand.New(rand.NewPCG(seed, uint64(i)^0x74657874))
		passage := rng.Perm(textLast - textFirst + 1)
		passage = passage[:textShortest+rng.IntN(len(passage)-textShortest+1)]
		var ids []int32
		if p.opt.BOS {
			ids = append(ids, plantedBOS)
		}
		for j := 0; len(ids) < length; j++ {
			ids = append(ids, int32(textFirst+passage[j%len(passage)]))
		}
		out[i] = ids[:length]
	}
	return out
}

// PartBits returns the bits of a token that each induction head of Places carries.
func (p *Planted) PartBits() []int { return append([]int(nil), p.stream.bits...) }

// BOS says whether sequences start with token 0.
func (p *Planted) BOS() bool { return p.opt.BOS }
