package calib

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"modelpress/formats"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// RetrievalResult is how well a model answers retrieval prompts. A prompt counts as right when every token of its answer
// is the arg-max given the true tokens before it, which is what greedy decoding would have produced.
type RetrievalResult struct {
	Accuracy  float64 // share of prompts answered right
	AnswerNLL float64 // mean negative log-likelihood of answer tokens, nats per token
	Prompts   int
	Correct   int
	Tokens    int             // answer tokens scored
	Grid      []RetrievalCell // by length, then depth
	Right     []bool          // for each prompt
	NLL       []float64       // for each prompt, mean over its answer
}

// RetrievalCell is the result for one nominal length and depth.
type RetrievalCell struct {
	Length   int
	Depth    float64
	Prompts  int
	Correct  int
	Accuracy float64
	NLL      float64 // mean over prompts
}

// Retrieval feeds every prompt with its answer through the model, block by block, and scores the answer tokens.
// opt.ScoreFrom has no meaning here.
func Retrieval(ctx context.Context, m *nn.Model, prompts []Prompt, opt EvalOptions) (RetrievalResult, error) {
	if len(prompts) == 0 {
		return RetrievalResult{}, formats.Errorf(promptName, "", "there are none")
	}
	sequences := make([][]int32, len(prompts))
	for i, p := range prompts {
		if len(p.IDs) == 0 || len(p.Answer) == 0 {
			return RetrievalResult{}, formats.Errorf(promptName, "", "prompt %d has no ids or no answer", i)
		}
		sequences[i] = p.Sequence()
		if err := checkVocab(sequences[i], m.Arch.V); err != nil {
			return RetrievalResult{}, formats.Errorf(promptName, "", "prompt %d: %w", i, err)
		}
	}
	r := RetrievalResult{Prompts: len(prompts), Right: make([]bool, len(prompts)), NLL: make([]float64, len(prompts))}
	opt.prompt = func(i int) int { return len(prompts[i].IDs) }
	err := run(ctx, m, sequences, opt, func(i int, h device.Buf) error {
		p := prompts[i]
		scores, err := scoreRows(m, h, len(p.IDs)-1, p.Answer)
		if err != nil {
			return fmt.Errorf("prompt %d: %w", i, err)
		}
		r.Right[i] = true
		for _, s := range scores {
			r.Right[i] = r.Right[i] && s.top
			r.NLL[i] += s.nll
		}
		return nil
	})
	if err != nil {
		return RetrievalResult{}, err
	}
	r.sum(prompts)
	return r, nil
}

// sum turns sums into means and fills the grid.
func (r *RetrievalResult) sum(prompts []Prompt) {
	type key struct {
		length int
		depth  float64
	}
	cells := map[key]*RetrievalCell{}
	for i, p := range prompts {
		r.AnswerNLL += r.NLL[i]
		r.Tokens += len(p.Answer)
		r.NLL[i] /= float64(len(p.Answer))
		c := cells[key{p.Length, p.Depth}]
		if c == nil {
			c = &RetrievalCell{Length: p.Length, Depth: p.Depth}
			cells[key{p.Length, p.Depth}] = c
		}
		c.Prompts++
		c.NLL += r.NLL[i]
		if r.Right[i] {
			c.Correct++
			r.Correct++
		}
	}
	r.AnswerNLL /= float64(r.Tokens)
	r.Accuracy = float64(r.Correct) / float64(r.Prompts)
	for _, c := range cells {
		c.NLL /= float64(c.Prompts)
		c.Accuracy = float64(c.Correct) / float64(c.Prompts)
		r.Grid = append(r.Grid, *c)
	}
	slices.SortFunc(r.Grid, func(a, b RetrievalCell) int {
		return cmp.Or(cmp.Compare(a.Length, b.Length), cmp.Compare(a.Depth, b.Depth))
	})
}
