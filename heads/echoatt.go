package heads

import (
	"context"
	"errors"
	"fmt"
	"math"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/num"
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

// FindEchoAtt compares the attention of neighbouring layers some rows at a time. Memory beyond the forward pass is what a
// layer's attention is made from, 4·T·(H+G)·K bytes for each window, and 256·T bytes a thread; where the device reads attention, as many
// bytes for one window there, and its log-sum-exp.
func FindEchoAtt(ctx context.Context, m *nn.Model, w calib.Windows, opt EchoAttOptions) (*EchoAtt, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	if len(w.IDs) == 0 {
		return nil, fmt.Errorf("heads: no windows")
	}
	before := make([]rows, len(w.IDs)) // the latest layer with attention
	var failed error
	e := &EchoAtt{Similarity: make([]float64, len(m.Arch.Layers)), Windows: len(w.IDs)}
	tap := func(layer, window int, r rows) {
		if b := before[window]; b.AttnState != nil && b.Shape.H == r.Shape.H && failed == nil {
			var v float64
			v, failed = r.like(b)
			e.Similarity[layer] += v / float64(len(w.IDs))
		}
		before[window] = r.kept(before[window])
	}
	if err := errors.Join(opt.observe(ctx, m, w.IDs, tap, nil), failed); err != nil {
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
	a.Shape, a.Dev, a.Masks = r.Shape, r.Dev, append([]device.Mask(nil), r.Masks...)
	r.Read(nn.Queries | nn.Keys)
	a.Q, a.K = append(a.Q[:0], r.Q...), append(a.K[:0], r.K...)
	if r.reader() != nil {
		r.Read(nn.LSE)
		a.LSE = append(a.LSE[:0], r.LSE...)
	}
	return rows{AttnState: &a, window: r.window}
}

// like is the mean over heads of the cosine of the attention of a layer and of one that was kept.
func (r rows) like(b rows) (float64, error) {
	d := r.reader()
	if d == nil {
		r.Read(nn.Queries | nn.Keys)
		return alike(r, b), nil
	}
	q, k, _, _, lse, err := b.onDevice(nn.Queries | nn.Keys | nn.LSE)
	if err != nil {
		return 0, err
	}
	defer freeAll(q, k, lse)
	sums, mean := make([][3]float64, r.Shape.H), 0.0
	d.AttnLikeness(sums, device.AttnInput{Q: r.DevQ, K: r.DevK, LSE: r.DevLSE, Shape: r.Shape, Masks: r.Masks},
		device.AttnInput{Q: q, K: k, LSE: lse, Shape: b.Shape, Masks: b.Masks})
	for _, s := range sums {
		mean += s[0] / math.Sqrt(s[1]*s[2])
	}
	return mean / float64(len(sums)), nil
}

// alikeRows is the number of queries that are compared at a time: enough for products of matrices instead of vectors.
const alikeRows = 32

// alike is the mean over heads of the cosine of two layers' attention. Sums over a row are f32, those over rows f64.
func alike(a, b rows) float64 {
	cos := make([]float64, a.Shape.H)
	t := a.Shape.T
	a.Dev.For(a.Shape.H, func(h int) {
		x, y := make([]float32, alikeRows*t), make([]float32, alikeRows*t)
		var xy, xx, yy float64
		for lo := 0; lo < t; lo += alikeRows {
			hi := min(lo+alikeRows, t)
			a.weights(x, h, lo, hi)
			b.weights(y, h, lo, hi)
			for i := lo; i < hi; i++ {
				p, q := x[(i-lo)*t:][:i+1], y[(i-lo)*t:][:i+1]
				xy += float64(num.Dot(p, q))
				xx += float64(num.Dot(p, p))
				yy += float64(num.Dot(q, q))
			}
		}
		cos[h] = xy / math.Sqrt(xx*yy)
	})
	return sum(cos) / float64(len(cos))
}

// weights writes A[h, i, j] for the queries i of [lo, hi) and all j ≤ i to dst, [hi-lo, T].
func (r rows) weights(dst []float32, h, lo, hi int) {
	s, from := r.Shape, r.low(lo)
	g := h / (s.H / s.G)
	num.GemmNT(dst[from:], s.T, r.Q[lo*s.H*s.K+h*s.K:], s.H*s.K, num.F32Weights(r.K[from*s.G*s.K+g*s.K:], s.G*s.K), hi-lo, hi-from,
		s.K, 0, nil)
	for i := lo; i < hi; i++ {
		row := dst[(i-lo)*s.T:][:i+1]
		clear(row[:r.low(i)])
		seen := row[r.low(i):]
		num.Scale(seen, s.Scale)
		num.Softmax(seen, seen)
	}
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
