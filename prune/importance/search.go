package importance

import (
	"context"
	"fmt"
	"math"
	"slices"

	"modelpress/calib"
	"modelpress/internal/nn"
	"modelpress/prune"
)

// SearchOptions refine [Search].
type SearchOptions struct {
	Options      // Progress counts the shapes
	Most    int  // shapes that are judged at most; 0 for 12
	Loss    Loss // "" for KL
}

// Judged is a shape and what the model is worth that is cut to it.
type Judged struct {
	Shape prune.Shape
	Cut   *prune.Cut
	Loss  float64 // nats per token
}

// Search cuts a model to several of the shapes that meet a target ([prune.Shapes]), by one set of scores, and returns what it has judged
// by the loss over the windows, the best first, of equals the first of the list. Scores do not say which kind of unit is worth more
// than another; the loss does. The best shape is often far from an even one, so that the list should have all shapes there are
// ([prune.Wish] Most).
//
// Where there are more shapes than may be judged, half of them lie far apart: the first of the list, then always the one that is
// farthest from all so far, by Σ|log| of the ratios of sizes. The other half are always the nearest to the best so far. Of equals
// the first in the list is taken.
//
// Each shape costs a forward pass of the smaller model over the windows, and one of the source's output head for KL, for which the source
// runs once and 4*D bytes are kept for each token of all windows, past the limit on disk. Other memory is that of [nn.Model.Run] and the
// logits of 64 MiB of rows, twice, and the cuts: 8 bytes for each unit that stays.
func Search(ctx context.Context, m *nn.Model, w calib.Windows, shapes []prune.Shape, s *prune.Scores, opt SearchOptions) ([]Judged, error) {
	loss, err := opt.Loss.check()
	if err != nil {
		return nil, err
	}
	if len(shapes) == 0 {
		return nil, fmt.Errorf("importance: no shapes to search")
	}
	if err := checkWindows(w, 2); err != nil {
		return nil, err
	}
	if opt.Most <= 0 {
		opt.Most = 12
	}
	j, err := newJudge(ctx, m, w, loss, opt.Options)
	if err != nil {
		return nil, err
	}
	k := &search{judge: j, m: m, s: s, shapes: shapes, most: min(opt.Most, len(shapes)), loss: make([]float64, len(shapes))}
	err = j.close(k.all(ctx))
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(k.judged, func(a, b int) int { return k.compare(a, b) })
	out := make([]Judged, len(k.judged))
	for i, n := range k.judged {
		out[i] = Judged{Shape: shapes[n], Loss: k.loss[n]}
		if out[i].Cut, err = shaped(m.Arch, shapes[n], s); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// search is one call of Search.
type search struct {
	*judge
	m      *nn.Model
	s      *prune.Scores
	shapes []prune.Shape
	most   int
	judged []int // indices of shapes
	loss   []float64
}

// compare orders judged shapes, the best first.
func (k *search) compare(a, b int) int {
	switch {
	case k.loss[a] < k.loss[b]:
		return -1
	case k.loss[a] > k.loss[b]:
		return 1
	}
	return a - b
}

func (k *search) all(ctx context.Context) error {
	for len(k.judged) < k.most {
		next := k.nearest()
		if len(k.judged) < (k.most+1)/2 || k.most == len(k.shapes) {
			next = k.farthest()
		}
		if err := k.one(ctx, next); err != nil {
			return fmt.Errorf("importance: shape %+v: %w", k.shapes[next], err)
		}
		if k.Progress != nil {
			k.Progress(len(k.judged), k.most)
		}
	}
	return nil
}

// one judges a shape.
func (k *search) one(ctx context.Context, n int) error {
	cut, err := shaped(k.m.Arch, k.shapes[n], k.s)
	if err != nil {
		return err
	}
	v, err := small(k.m, cut)
	if err != nil {
		return err
	}
	defer v.Release()
	if k.loss[n], err = k.of(ctx, v); err != nil {
		return err
	}
	k.judged = append(k.judged, n)
	return nil
}

// farthest returns the shape whose distance from all judged ones is largest.
func (k *search) farthest() int {
	far := func(n int) float64 {
		d := math.Inf(1)
		for _, j := range k.judged {
			d = min(d, apart(k.shapes[n], k.shapes[j]))
		}
		return d
	}
	return k.pick(func(n int) float64 { return -far(n) })
}

// nearest returns the shape that is nearest to the best judged one.
func (k *search) nearest() int {
	if len(k.judged) == 0 {
		return 0
	}
	best := slices.MinFunc(k.judged, k.compare)
	return k.pick(func(n int) float64 { return apart(k.shapes[n], k.shapes[best]) })
}

// pick returns the shape that is not judged yet with the least cost.
func (k *search) pick(cost func(n int) float64) int {
	best, least := -1, 0.0
	for n := range k.shapes {
		if slices.Contains(k.judged, n) {
			continue
		}
		if c := cost(n); best < 0 || c < least {
			best, least = n, c
		}
	}
	return best
}

// apart is the distance of two shapes, rounded to 1e-9 so that it compares alike everywhere.
func apart(a, b prune.Shape) float64 {
	log := func(x, y int) float64 { return math.Abs(math.Log(float64(x) / float64(y))) }
	return math.Round((log(a.D, b.D)+log(a.G, b.G)+log(a.F, b.F)+log(a.Layers, b.Layers))*1e9) / 1e9
}
