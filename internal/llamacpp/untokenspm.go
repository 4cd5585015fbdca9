package llamacpp

import (
	"cmp"
	"slices"
	"strings"
)

// maxPiece bounds the length of tokens whose halves are looked for: time grows with its square.
const maxPiece = 512

// sentencePiece writes a model with scores as BPE. Its merges are all ways to make a token of two others, those of tokens with higher
// scores first (transformers 4.47, convert_slow_tokenizer.py, generate_merges).
func (r *tokenReader) sentencePiece() {
	v, _ := r.file.Lookup(keyScores)
	scores, ok := v.Floats()
	if !ok || len(scores) != len(r.tokens) {
		r.warn("the tokenizer is left out: %s has not a score for each token", keyScores)
		return
	}
	vocab := r.vocab()
	for b := range 256 {
		if !vocab[byteToken(b)] {
			r.warn("the tokenizer is left out: it has no token %s", byteToken(b))
			return
		}
	}
	r.scored(scores)
	prefix := r.flag(keySpacePrefix, true)
	d := tokenDocument{r: r, bos: r.flag(keyAddBOS, true), eos: r.flag(keyAddEOS, false)}
	d.sentencePiece(prefix)
}

// scored makes the merges.
func (r *tokenReader) scored(scores []float64) {
	ids := make(map[string]int, len(r.tokens))
	for id, t := range r.tokens {
		if r.kinds[id] == tokenNormal {
			ids[t] = id
		}
	}
	type merge struct {
		left, right int
		score       float64
	}
	var merges []merge
	for id, t := range r.tokens {
		if r.kinds[id] != tokenNormal || len(t) > maxPiece {
			continue
		}
		from := len(merges)
		for i := range t {
			left, okLeft := ids[t[:i]]
			right, okRight := ids[t[i:]]
			if okLeft && okRight {
				merges = append(merges, merge{left, right, scores[id]})
			}
		}
		slices.SortFunc(merges[from:], func(a, b merge) int { return cmp.Or(cmp.Compare(a.left, b.left), cmp.Compare(a.right, b.right)) })
	}
	slices.SortStableFunc(merges, func(a, b merge) int { return cmp.Compare(b.score, a.score) })
	for _, m := range merges {
		left, right := r.tokens[m.left], r.tokens[m.right]
		if !strings.Contains(left+right, " ") {
			r.merges = append(r.merges, [2]string{left, right})
		}
	}
}
