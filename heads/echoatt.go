package heads

import (
	"context"
	"fmt"
	"math"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// EchoAttOptions says which layers count as alike. Zero values stand for those in brackets.
type EchoAttOptions struct {
	Threshold float64 // least similarity of neighbours that could share attention [0.9]
	Outer     int     // layers with attention at either end that are not candidates [1]; −1 for none
	Options
}

func (o *EchoAttOptions) fill() error {
	set(&o.Threshold, 0.9)
	set(&o.Outer, 1)
	if !(o.Threshold > 0 && o.Threshold <= 1) || o.Outer < -1 {
		return fmt.Errorf("heads: shared attention from a similarity of %g, %d outer layers", o.Threshold, o.Outer)
	}
	o.Outer = max(o.Outer, 0)
	return nil
}

// EchoAtt tells which neighbouring layers attend alike, the candidates for sharing one attention (EchoAtt,
// arXiv:2409.14595). Sharing needs re-training, so that this changes no policy: it is evidence.
type EchoAtt struct {
	// Similarity is for each layer the cosine between its attention and that of the layer with attention before it, both
	// taken as vectors of all (query, key) pairs of a window: the mean over query heads of the same index and windows. It is
	// 0 where there is none before or its number of query heads differs.
	Similarity []float64
	// Runs lists the candidates: first and last layer of each run of at least two inner layers whose neighbours are all at
	// least Threshold alike.
	Runs    [][2]int
	Windows int
}

// FindEchoAtt compares the attention of neighbouring layers row by row. Memory beyond the forward pass is what a layer's
// attention is made from, 4·T·((H+G)·K + H) bytes for each window, and 16·T bytes a thread.
func FindEchoAtt(ctx context.Context, m *nn.Model, w calib.Windows, opt EchoAttOptions) (*EchoAtt, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	if len(w.IDs) == 0 {
		return nil, fmt.Errorf("heads: no windows")
	}
	before := make([]rows, len(w.IDs)) // the latest layer with attention
	e := &EchoAtt{Similarity: make([]float64, len(m.Arch.Layers)), Windows: len(w.IDs)}
	tap := func(layer, window int, r rows) {
		if b := before[window]; b.AttnState != nil && b.Shape.H == r.Shape.H {
			e.Similarity[layer] += alike(r, b) / float64(len(w.IDs))
		}
		before[window] = r.kept(before[window])
	}
	if err := opt.observe(ctx, m, w.IDs, tap, nil); err != nil {
		return nil, err
	}
	e.Runs = alikeRuns(m.Arch, e.Similarity, opt)
	return e, nil
}

// kept copies what attention is made from, into the memory of old where it fits.
func (r rows) kept(old rows) rows {
	var a nn.AttnState
	if old.AttnState != nil {
		a = *old.AttnState
	}
	a.Shape = r.Shape
	a.Q, a.K, a.LSE = append(a.Q[:0], r.Q...), append(a.K[:0], r.K...), append(a.LSE[:0], r.LSE...)
	return rows{AttnState: &a, window: r.window}
}

// alike is the mean over heads of the cosine of two layers' attention.
func alike(a, b rows) float64 {
	cos := make([]float64, a.Shape.H)
	a.Dev.For(a.Shape.H, func(h int) {
		x, y := make([]float64, a.Shape.T), make([]float64, a.Shape.T)
		var xy, xx, yy float64
		for i := range a.Shape.T {
			a.row(x[:i+1], h, i)
			b.row(y[:i+1], h, i)
			for j, v := range x[:i+1] {
				xy += float64(v * y[j])
				xx += float64(v * v)
				yy += float64(y[j] * y[j])
			}
		}
		cos[h] = xy / math.Sqrt(xx*yy)
	})
	return sum(cos) / float64(len(cos))
}

// alikeRuns finds runs of inner layers that are alike.
func alikeRuns(m *arch.Model, similarity []float64, opt EchoAttOptions) [][2]int {
	var with []int
	for l, a := range m.Layers {
		if a.HasAttention() {
			with = append(with, l)
		}
	}
	if len(with) < 2*opt.Outer+2 {
		return nil
	}
	inner := with[opt.Outer : len(with)-opt.Outer]
	var runs [][2]int
	first := 0
	for i := 1; i <= len(inner); i++ {
		if i < len(inner) && Round(similarity[inner[i]]) >= opt.Threshold {
			continue
		}
		if i-first > 1 {
			runs = append(runs, [2]int{inner[first], inner[i-1]})
		}
		first = i
	}
	return runs
}

// Write records the similarities as evidence.
func (e *EchoAtt) Write(p *manifest.Plan, m *arch.Model, from Record) error {
	w, err := newWriter(p, m)
	if err != nil {
		return err
	}
	ev := manifest.Evidence{Method: "echoatt", Unit: "cosine of attention", Samples: e.Windows, Seed: from.Seed, DataDigest: from.Digest, Per: "layer"}
	for _, v := range e.Similarity {
		ev.Scores = append(ev.Scores, []float64{Round(v)})
	}
	w.evidence(ev)
	w.finish()
	return nil
}
