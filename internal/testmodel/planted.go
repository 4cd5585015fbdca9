package testmodel

import (
	"fmt"
	"math"

	"modelpress/formats"
)

// Planted describes a model whose retrieval heads are known because they were put there by hand: see [NewPlanted].
type Planted struct {
	*Model
	// Retrieval says which KV heads the model needs to look far back with, [layer][KV head].
	Retrieval [][]bool
	// Previous is the KV head of layer 0 that looks at the previous token.
	Previous int
}

// The residual stream of a planted model: the code of the token, the code of the token before it, the code of the token
// to come, and a constant.
const (
	plantedCode  = 32 // values of a token's code: two halves, each one of 16 patterns
	plantedHalf  = plantedCode / 2
	plantedV     = 256 // a token is (first pattern, second pattern)
	plantedD     = 128
	plantedK     = 64
	plantedH     = 8
	plantedG     = 4
	plantedConst = 3 * plantedCode
)

// NewPlanted builds a three-layer Llama with grouped queries that continues a repeated passage by an induction circuit
// (Olsson et al., arXiv:2209.11895) whose parts are known:
//
// a head of layer 0 copies the code of the previous token into the residual stream; one KV head of layer 1 looks for the
// position whose previous token is the current one, and writes the first half of that position's code to the output; one
// KV head of layer 2 does the same for the second half. The answer needs both halves, so the two heads cannot stand in
// for each other, and no rule that treats a layer as a whole can keep them at the price of two. All other heads are noise.
func NewPlanted(seed uint64) *Planted {
	m := New(Options{Layers: 3, D: plantedD, H: plantedH, G: plantedG, K: plantedK, F: 64, V: plantedV, Context: 2048,
		Theta: 1e8, DType: formats.F32, Seed: seed})
	p := &Planted{Model: m, Retrieval: make([][]bool, 3), Previous: 1}
	for l := range p.Retrieval {
		p.Retrieval[l] = make([]bool, plantedG)
	}
	p.quiet()
	codes := hadamardCodes()
	p.embeddings(codes)
	p.previousHead(p.Previous)
	p.inductionHead(1, 2, 0)
	p.inductionHead(2, 0, plantedHalf)
	p.Retrieval[1][2], p.Retrieval[2][0] = true, true
	return p
}

// hadamardCodes returns 16 patterns of ±1 that are orthogonal to each other (Sylvester's construction).
func hadamardCodes() [][]float32 {
	codes := make([][]float32, plantedHalf)
	for i := range codes {
		codes[i] = make([]float32, plantedHalf)
		for j := range codes[i] {
			codes[i][j] = 1
			for b := i & j; b != 0; b &= b - 1 {
				codes[i][j] = -codes[i][j]
			}
		}
	}
	return codes
}

// quiet turns all weights of blocks into weak noise, the FFN off and the norms to ones.
func (p *Planted) quiet() {
	for _, t := range p.Tensors() {
		v, err := p.Values(t.Name)
		if err != nil {
			panic(err)
		}
		for i := range v {
			if len(t.Shape) == 1 {
				v[i] = 1
			} else {
				v[i] *= 0.02
			}
		}
		p.Set(t.Name, v)
	}
	for l := range 3 {
		p.Set(fmt.Sprintf("model.layers.%d.mlp.down_proj.weight", l), make([]float32, plantedD*p.Options.F))
	}
}

// embeddings writes each token's code and the constant, and an output that reads the third part of the stream.
func (p *Planted) embeddings(codes [][]float32) {
	embed, head := make([]float32, plantedV*plantedD), make([]float32, plantedV*plantedD)
	for t := range plantedV {
		code := append(append([]float32(nil), codes[t/plantedHalf]...), codes[t%plantedHalf]...)
		copy(embed[t*plantedD:], code)
		embed[t*plantedD+plantedConst] = 1
		copy(head[t*plantedD+2*plantedCode:], code)
	}
	p.Set("model.embed_tokens.weight", embed)
	p.Set("lm_head.weight", head)
}

// edit changes a weight [out, in] of a layer.
func (p *Planted) edit(layer int, module string, in int, f func(set func(row, col int, v float32))) {
	name := fmt.Sprintf("model.layers.%d.self_attn.%s.weight", layer, module)
	v, err := p.Values(name)
	if err != nil {
		panic(err)
	}
	f(func(row, col int, x float32) { v[row*in+col] = x })
	p.Set(name, v)
}

// previousHead makes KV head g of layer 0 and its query heads look at the previous token. Queries and keys are
// constants; with the query turned back by one position, the rotated score Σ_f cos(θ_f·(i−j−1)) is largest at j = i−1.
func (p *Planted) previousHead(g int) {
	const half, freqs, sharp = plantedK / 2, 12, 10
	group := plantedH / plantedG
	p.clear(0, g)
	p.edit(0, "q_proj", plantedD, func(set func(row, col int, v float32)) {
		for h := g * group; h < (g+1)*group; h++ {
			for f := range freqs {
				angle := math.Pow(p.Options.Theta, -float64(f)/half)
				set(h*plantedK+f, plantedConst, float32(sharp*math.Cos(angle)))
				set(h*plantedK+f+half, plantedConst, float32(-sharp*math.Sin(angle)))
			}
		}
	})
	p.edit(0, "k_proj", plantedD, func(set func(row, col int, v float32)) {
		for f := range freqs {
			set(g*plantedK+f, plantedConst, sharp)
		}
	})
	p.copyCode(0, g, 0, plantedCode, plantedCode)
}

// inductionHead makes KV head g of a layer look for the position whose previous token is the current one, and copy half
// of that position's code, from offset from on. Codes lie in the slowest frequencies, which hardly turn.
func (p *Planted) inductionHead(layer, g, from int) {
	const half, sharp = plantedK / 2, 3
	group := plantedH / plantedG
	p.clear(layer, g)
	slow := func(c int) int { // dimension of a head for value c of a code
		return c%plantedHalf + half/2 + c/plantedHalf*half
	}
	p.edit(layer, "q_proj", plantedD, func(set func(row, col int, v float32)) {
		for h := g * group; h < (g+1)*group; h++ {
			for c := range plantedCode {
				set(h*plantedK+slow(c), c, sharp)
			}
		}
	})
	p.edit(layer, "k_proj", plantedD, func(set func(row, col int, v float32)) {
		for c := range plantedCode {
			set(g*plantedK+slow(c), plantedCode+c, sharp)
		}
	})
	p.copyCode(layer, g, from, 2*plantedCode+from, plantedHalf)
}

// clear silences the queries, keys and values of KV head g.
func (p *Planted) clear(layer, g int) {
	group := plantedH / plantedG
	zero := func(module string, from, rows int) {
		p.edit(layer, module, plantedD, func(set func(row, col int, v float32)) {
			for r := from; r < from+rows; r++ {
				for c := range plantedD {
					set(r, c, 0)
				}
			}
		})
	}
	zero("q_proj", g*group*plantedK, group*plantedK)
	zero("k_proj", g*plantedK, plantedK)
	zero("v_proj", g*plantedK, plantedK)
	p.edit(layer, "o_proj", plantedH*plantedK, func(set func(row, col int, v float32)) {
		for r := range plantedD {
			for c := g * group * plantedK; c < (g+1)*group*plantedK; c++ {
				set(r, c, 0)
			}
		}
	})
}

// copyCode lets KV head g carry n values of the stream from one place to another, shared by its query heads.
func (p *Planted) copyCode(layer, g, from, to, n int) {
	group := plantedH / plantedG
	p.edit(layer, "v_proj", plantedD, func(set func(row, col int, v float32)) {
		for c := range n {
			set(g*plantedK+c, from+c, 1)
		}
	})
	p.edit(layer, "o_proj", plantedH*plantedK, func(set func(row, col int, v float32)) {
		for h := g * group; h < (g+1)*group; h++ {
			for c := range n {
				set(to+c, h*plantedK+c, 1/float32(group))
			}
		}
	})
}

// PlantedPrompt is a passage of random tokens whose needle, a key and the tokens after it, is asked for by the key.
type PlantedPrompt struct {
	IDs, Answer        []int32
	NeedleLo, NeedleHi int // the answer's span in IDs
}

// Prompts returns n prompts of the given length; the needle starts between positions 2 and length/2. Its tokens differ
// and appear nowhere else. answer is the number of tokens asked for.
func (p *Planted) Prompts(n, length, answer int, seed uint64) []PlantedPrompt {
	out := make([]PlantedPrompt, n)
	for i, ids := range Windows(n, length, plantedV, seed) {
		key := splitmix64(seed ^ splitmix64(uint64(i)))
		needle, used := distinct(answer+1, key)
		for j, t := range ids {
			for used[t] {
				t = (t + 1) % plantedV
			}
			ids[j] = t
		}
		at := 2 + int(key%uint64(length/2-2))
		copy(ids[at:], needle)
		ids[length-1] = needle[0]
		out[i] = PlantedPrompt{IDs: ids, Answer: needle[1:], NeedleLo: at + 1, NeedleHi: at + 1 + answer}
	}
	return out
}

// distinct draws n different tokens.
func distinct(n int, key uint64) ([]int32, map[int32]bool) {
	used := map[int32]bool{}
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
