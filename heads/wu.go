package heads

import (
	"context"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// Wu returns the retrieval score of each head (Wu et al., "Retrieval Head Mechanistically Explains Long-Context
// Factuality", arXiv:2404.15574): the share of answer steps at which the head's most attended position lies in the needle
// and holds the token that the model generates. The model reads each prompt with its answer (teacher forcing), so that one
// pass gives all steps; prompts that the model does not answer do not count. The score of a KV head is the maximum over its
// query heads.
func Wu(ctx context.Context, m *nn.Model, prompts []calib.Prompt, opt Options) (*Scores, error) {
	w := newWu(m.Arch.Layers, prompts)
	gen, keep, err := overPrompts(ctx, m, prompts, opt, w.tap)
	if err != nil {
		return nil, err
	}
	return w.scores(gen, keep), nil
}

// wuScores keeps the most attended position of each (prompt, layer, head, step): the token that the model generates is
// known only after the last layer.
type wuScores struct {
	layers  []arch.Layer
	prompts []calib.Prompt
	top     [][][]int32 // [prompt][layer][head*steps+step]
}

func newWu(layers []arch.Layer, prompts []calib.Prompt) *wuScores {
	w := &wuScores{layers: layers, prompts: prompts, top: make([][][]int32, len(prompts))}
	for i, p := range prompts {
		w.top[i] = make([][]int32, len(layers))
		for l := range layers {
			w.top[i][l] = make([]int32, layers[l].H*len(p.Answer))
		}
	}
	return w
}

func (w *wuScores) tap(layer, prompt int, r rows) {
	p := w.prompts[prompt]
	steps := len(p.Answer)
	out := w.top[prompt][layer]
	if r.reader() != nil {
		for i, at := range r.tops(len(p.IDs)-1, len(p.IDs)-1+steps) {
			out[i] = int32(at)
		}
		return
	}
	r.Read(nn.Queries | nn.Keys)
	r.Dev.For(r.Shape.H, func(h int) {
		for j := range steps {
			out[h*steps+j] = int32(r.argmax(h, len(p.IDs)-1+j))
		}
	})
}

func (w *wuScores) scores(gen *generated, keep []bool) *Scores {
	t := newTable(w.layers, len(w.prompts))
	for i, p := range w.prompts {
		steps := len(p.Answer)
		for l := range w.layers {
			for h := range w.layers[l].H {
				t.v[i][l][h] = copies(p, w.top[i][l][h*steps:(h+1)*steps], gen.tokens[i])
			}
		}
	}
	mean, n := t.mean(keep)
	return t.scores("wu", "share of answer steps", mean, n)
}

// copies returns the share of steps whose most attended position holds, inside the needle, the generated token.
func copies(p calib.Prompt, top, tokens []int32) float64 {
	hits := 0
	for j, at := range top {
		if int(at) >= p.NeedleLo && int(at) < p.NeedleHi && p.IDs[at] == tokens[j] {
			hits++
		}
	}
	return float64(hits) / float64(len(top))
}
