package testmodel

import (
	"fmt"
	"math/rand/v2"
)

// PlantedPrompt is a passage of random tokens whose needle, a key and the tokens after it, is asked for by the key.
type PlantedPrompt struct {
	IDs, Answer        []int32
	NeedleLo, NeedleHi int // the answer's span in IDs
	Extra              int // other needles, whose keys are not asked for
}

// Prompts returns n prompts of the given length; the needle starts between positions 2 and length/2. Its tokens differ
// and appear nowhere else. answer is the number of tokens asked for.
func (p *Planted) Prompts(n, length, answer int, seed uint64) []PlantedPrompt {
	out := make([]PlantedPrompt, n)
	for i, ids := range Windows(n, length, plantedV, seed) {
		key := splitmix64(seed ^ splitmix64(uint64(i)))
		needle, used := p.distinct(answer+1, key)
		p.filler(ids, used)
		at := 2 + int(key%uint64(length/2-2))
		copy(ids[at:], needle)
		ids[length-1] = needle[0]
		out[i] = PlantedPrompt{IDs: ids, Answer: needle[1:], NeedleLo: at + 1, NeedleHi: at + 1 + answer}
	}
	return out
}

// MultiKey is [Planted.Prompts] with distractors: that many other needles of the same length, at random places. Their keys
// differ from the one asked for in a single part of the code, so that a head which matches keys loosely finds the wrong one.
// All tokens of needles differ. It panics where needles have no room or keys run out.
func (p *Planted) MultiKey(n, length, answer, distractors int, seed uint64) []PlantedPrompt {
	width := answer + 2 // a token of filler between needles
	slots := (length - 3) / width
	first := max(1, length/2/width) // slots in which the needle asked for may stand
	if slots <= distractors {
		panic(fmt.Sprintf("testmodel: %d needles of %d tokens in %d", distractors+1, answer+1, length))
	}
	out := make([]PlantedPrompt, n)
	for i, ids := range Windows(n, length, plantedV, seed) {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		needles, used := p.needles(answer, distractors, rng)
		p.filler(ids, used)
		at := rng.IntN(first)
		order := append([]int{at}, rng.Perm(slots)...)
		order = append(order[:1], without(order[1:], at)...)
		for k, needle := range needles {
			copy(ids[2+order[k]*width:], needle)
		}
		ids[length-1] = needles[0][0]
		lo := 2 + at*width + 1
		out[i] = PlantedPrompt{IDs: ids, Answer: needles[0][1:], NeedleLo: lo, NeedleHi: lo + answer, Extra: distractors}
	}
	return out
}

// needles draws the needle asked for and its distractors, each a key and an answer.
func (p *Planted) needles(answer, distractors int, rng *rand.Rand) ([][]int32, map[int32]bool) {
	used := p.reserved()
	draw := func() int32 {
		for {
			if t := int32(rng.IntN(plantedV)); !used[t] {
				used[t] = true
				return t
			}
		}
	}
	if (answer+1)*(distractors+1) > plantedV/2 {
		panic("testmodel: needles use up the vocabulary")
	}
	out := [][]int32{{draw()}}
	key := int(out[0][0])
	for d := 0; len(out) <= distractors; d++ {
		near := key
		for range 1 + d/p.stream.parts() {
			near = p.stream.replace(near, d%p.stream.parts())
		}
		if d > plantedV {
			panic("testmodel: no more keys that differ in one part")
		}
		if t := int32(near); !used[t] {
			used[t] = true
			out = append(out, []int32{t})
		}
	}
	for i := range out {
		for range answer {
			out[i] = append(out[i], draw())
		}
	}
	return out, used
}

// filler replaces the tokens of a prompt that are used, and starts it as the model expects.
func (p *Planted) filler(ids []int32, used map[int32]bool) {
	for j, t := range ids {
		for used[t] {
			t = (t + 1) % plantedV
		}
		ids[j] = t
	}
	if p.opt.BOS {
		ids[0] = plantedBOS
	}
}

// reserved holds the tokens that stand for nothing.
func (p *Planted) reserved() map[int32]bool {
	used := map[int32]bool{}
	if p.opt.BOS {
		used[plantedBOS] = true
	}
	return used
}

// distinct draws n different tokens.
func (p *Planted) distinct(n int, key uint64) ([]int32, map[int32]bool) {
	used := p.reserved()
	var out []int32
	for len(out) < n {
		key = splitmix64(key)
		if t := int32(key % plantedV); !used[t] {
			used[t] = true
			out = append(out, t)
		}
	}
	return out, used
}

func without(list []int, x int) []int {
	var out []int
	for _, v := range list {
		if v != x {
			out = append(out, v)
		}
	}
	return out
}
