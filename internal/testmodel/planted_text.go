package testmodel

import "math/rand/v2"

// The lines of [Planted.Text]: token t is the character of code t, so that a text is also one in ASCII.
const (
	textFirst, textLast = 33, 126 // the characters of lines, each in one line only
	textEnd             = '\n'
	textLine            = 15 // characters of a line
	textGap             = 3  // lines at least between two occurrences of a line
)

// Text returns n sequences of the given length, each made of six random lines of fifteen characters, in random order and
// over and over. No two lines share a character, so that all of a line after its first character can be known from its last
// occurrence, 64 tokens or more before, and perplexity tells whether induction works: where an induction head sees only
// nearer tokens, each such token costs log 2 nats more for every bit of its part of the code.
func (p *Planted) Text(n, length int, seed uint64) [][]int32 {
	out := make([][]int32, n)
	for i := range out {
		rng := rand.New(rand.NewPCG(seed, uint64(i)^0x74657874))
		chars := rng.Perm(textLast - textFirst + 1)
		lines := len(chars) / textLine
		var recent []int
		ids := make([]int32, 0, length+textLine+2)
		if p.opt.BOS {
			ids = append(ids, plantedBOS)
		}
		for len(ids) < length {
			line := rng.IntN(lines)
			if contains(recent, line) {
				continue
			}
			if recent = append(recent, line); len(recent) > textGap {
				recent = recent[1:]
			}
			for _, c := range chars[line*textLine : (line+1)*textLine] {
				ids = append(ids, int32(textFirst+c))
			}
			ids = append(ids, textEnd)
		}
		out[i] = ids[:length]
	}
	return out
}

func contains(list []int, x int) bool { return len(without(list, x)) < len(list) }

// Known says of each token of a text whether induction can know it: the token before it, no end of a line, occurred
// earlier.
func Known(ids []int32) []bool {
	known, seen := make([]bool, len(ids)), map[int32]bool{}
	for i := 1; i < len(ids); i++ {
		before := ids[i-1]
		known[i] = seen[before] && before != textEnd
		seen[before] = true
	}
	return known
}

// PartBits returns the bits of a token that each induction head of Places carries.
func (p *Planted) PartBits() []int { return append([]int(nil), p.stream.bits...) }
