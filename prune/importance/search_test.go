package importance

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
	"modelpress/prune"
)

// shapeOf is the shape of a model whose layers are alike.
func shapeOf(m *nn.Model) prune.Shape {
	return prune.Shape{D: m.Arch.D, G: m.Arch.Layers[0].G, F: m.Arch.Layers[0].F, Layers: len(m.Arch.Layers)}
}

// slowLoss is the loss of a cut by the oracle: of the view of it, and against that of the source.
func slowLoss(t *testing.T, m *nn.Model, cut *prune.Cut, ids [][]int32, loss Loss) float64 {
	t.Helper()
	v, err := small(m, cut)
	if err != nil {
		t.Fatal(err)
	}
	whole, less := newOracle(t, m.Src, m.Arch), newOracle(t, v.Src, v.Arch)
	if loss == CrossEntropy {
		return less.meanLoss(ids)
	}
	sum, n := 0.0, 0
	for _, w := range ids {
		p, q := whole.logits(w), less.logits(w)
		for i := range len(w) - 1 {
			zp, zq := 0.0, 0.0
			a, b := p[i*m.Arch.V:(i+1)*m.Arch.V], q[i*m.Arch.V:(i+1)*m.Arch.V]
			for c := range a {
				zp += math.Exp(a[c])
				zq += math.Exp(b[c])
			}
			for c := range a {
				sum += math.Exp(a[c]) / zp * (a[c] - math.Log(zp) - b[c] + math.Log(zq))
			}
			n++
		}
	}
	return sum / float64(n)
}

func TestSearch(t *testing.T) {
	for _, o := range []testmodel.Options{
		{D: 16, H: 4, G: 2, K: 4, F: 24, V: 32, Layers: 3, Seed: 51},
		{Family: "gpt2", D: 16, H: 4, F: 24, V: 32, Layers: 3, Seed: 52},
		{Family: "qwen3", D: 16, H: 4, G: 4, K: 4, F: 24, V: 32, Layers: 3, Tied: true, Seed: 53},
	} {
		m := describe(t, testmodel.New(o), 2)
		w := windows(m.Arch)
		s, err := Activations(t.Context(), m, w, ActivationOptions{})
		if err != nil {
			t.Fatal(err)
		}
		g := m.Arch.Layers[0].G
		shapes := []prune.Shape{{D: 8, G: g / 2, F: 16, Layers: 3}, {D: 16, G: g, F: 5, Layers: 3}, {D: 16, G: g, F: 24, Layers: 1}, {D: 8, G: g / 2, F: 24, Layers: 2},
			{D: 16, G: g, F: 12, Layers: 2}, {D: 8, G: g / 2, F: 1, Layers: 2}}
		for _, loss := range []Loss{KL, CrossEntropy} {
			all, err := Search(t.Context(), m, w, shapes, s, SearchOptions{Loss: loss, Most: 100, Options: Options{Dir: t.TempDir(), MemLimit: 1}})
			if err != nil {
				t.Fatal(err)
			}
			if len(all) != len(shapes) {
				t.Errorf("%s: %d of %d shapes are judged", o.Family, len(all), len(shapes))
			}
			for i, j := range all {
				want, err := shaped(m.Arch, j.Shape, s)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(j.Cut, want) || !slices.Contains(shapes, j.Shape) {
					t.Errorf("%s: another cut than the scores say", o.Family)
				}
				if slow := slowLoss(t, m, j.Cut, w.IDs, loss); math.Abs(j.Loss-slow) > 1e-6*max(1, slow) {
					t.Errorf("%s: %s of %+v is %g, want %g", o.Family, loss, j.Shape, j.Loss, slow)
				}
				if i > 0 && j.Loss < all[i-1].Loss {
					t.Errorf("%s: shape %d is better than the one before it", o.Family, i)
				}
			}
			some, err := Search(t.Context(), m, w, shapes, s, SearchOptions{Loss: loss, Most: 4})
			if err != nil {
				t.Fatal(err)
			}
			first := slices.ContainsFunc(some, func(j Judged) bool { return j.Shape == shapes[0] })
			for _, j := range some {
				if i := slices.IndexFunc(all, func(a Judged) bool { return a.Shape == j.Shape }); !reflect.DeepEqual(all[i], j) {
					t.Errorf("%s: %+v is judged in another way among fewer", o.Family, j.Shape)
				}
			}
			if len(some) != 4 || !first {
				t.Errorf("%s: %d shapes are judged, the first among them: %v", o.Family, len(some), first)
			}
		}
	}
}

// TestSearchFindsWhatIsFree: half of the FFN channels are worth nothing, so that a shape without them has no loss.
func TestSearchFindsWhatIsFree(t *testing.T) {
	src := testmodel.New(testmodel.Options{D: 16, H: 4, F: 32, V: 32, Seed: 54})
	m := describe(t, src, 2)
	w := windows(m.Arch)
	for f := range 16 {
		useless(t, src, m.Arch, unit{"ffn", 0, 2 * f}, unit{"ffn", 1, 2*f + 1})
	}
	s, err := Taylor(t.Context(), m, w, TaylorOptions{})
	if err != nil {
		t.Fatal(err)
	}
	whole := shapeOf(m)
	shapes := []prune.Shape{{D: 12, G: 4, F: 32, Layers: 2}, {D: 16, G: 2, F: 24, Layers: 2}, {D: 14, G: 3, F: 24, Layers: 2}, {D: 16, G: 4, F: 16, Layers: 2}, {D: 16, G: 4, F: 32, Layers: 1}}
	for _, most := range []int{4, 0} {
		found, err := Search(t.Context(), m, w, shapes, s, SearchOptions{Most: most})
		if err != nil {
			t.Fatal(err)
		}
		if best := found[0]; best.Shape != shapes[3] || math.Abs(best.Loss) > 1e-9 || found[1].Loss < 1e-4 {
			t.Errorf("the best shapes are %+v with %g and %+v with %g", best.Shape, best.Loss, found[1].Shape, found[1].Loss)
		}
	}
	same, err := Search(t.Context(), m, w, []prune.Shape{whole}, s, SearchOptions{})
	if err != nil || same[0].Loss != 0 {
		t.Errorf("the whole model is at %+v from itself, %v", same, err)
	}
	_, none := Search(t.Context(), m, w, nil, s, SearchOptions{})
	_, loss := Search(t.Context(), m, w, shapes, s, SearchOptions{Loss: "mse"})
	_, wide := Search(t.Context(), m, w, []prune.Shape{{D: 17, G: 4, F: 32, Layers: 2}}, s, SearchOptions{})
	for want, err := range map[string]error{"no shapes": none, "\"mse\"": loss, "D:17": wide} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// Shapes that may be judged are spread first and then gather around the best.
func TestSearchOrder(t *testing.T) {
	var shapes []prune.Shape
	for i := range 21 {
		shapes = append(shapes, prune.Shape{D: 100 + 5*i, G: 1, F: 1, Layers: 1})
	}
	k := &search{shapes: shapes, most: 8, loss: make([]float64, len(shapes))}
	for len(k.judged) < 8 {
		n := k.nearest()
		if len(k.judged) < 4 {
			n = k.farthest()
		}
		k.loss[n] = math.Abs(float64(n) - 8.2)
		k.judged = append(k.judged, n)
	}
	if want := []int{0, 20, 8, 13}; !slices.Equal(k.judged[:4], want) {
		t.Errorf("spread %v, want %v", k.judged[:4], want)
	}
	for _, n := range k.judged[4:] {
		if n < 6 || n > 11 {
			t.Errorf("shape %d is far from the best, 8: %v", n, k.judged)
		}
	}
}

func TestRounds(t *testing.T) {
	for _, o := range []testmodel.Options{
		{D: 16, H: 4, G: 2, K: 4, F: 24, V: 32, Layers: 4, Seed: 55},
		{Family: "gpt2", D: 16, H: 4, F: 24, V: 32, Layers: 4, Seed: 56},
	} {
		m := describe(t, testmodel.New(o), 2)
		w, whole := windows(m.Arch), shapeOf(m)
		to := prune.Shape{D: 8, G: whole.G / 2, F: 10, Layers: 2}
		score := func(ctx context.Context, _ int, v *nn.Model) (*prune.Scores, error) {
			return Score(ctx, v, w, Config{Method: ByTaylor})
		}
		s, err := score(t.Context(), 0, m)
		if err != nil {
			t.Fatal(err)
		}
		once, err := Rounds(t.Context(), m, to, 1, score)
		if err != nil {
			t.Fatal(err)
		}
		want, err := shaped(m.Arch, to, s)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(once, want) {
			t.Errorf("%s: one round is another cut than by the scores of the source", o.Family)
		}
		var sizes []prune.Shape
		thrice, err := Rounds(t.Context(), m, to, 3, func(ctx context.Context, r int, v *nn.Model) (*prune.Scores, error) {
			if r != len(sizes) {
				t.Errorf("round %d after %d", r, len(sizes))
			}
			sizes = append(sizes, shapeOf(v))
			return score(ctx, r, v)
		})
		if err != nil {
			t.Fatal(err)
		}
		// By hand: measure, cut, and go on with the model as it is then.
		now := m
		for r := range 3 {
			if sizes[r] != shapeOf(now) {
				t.Errorf("%s: round %d measures %+v, want %+v", o.Family, r, sizes[r], shapeOf(now))
			}
			s, err := score(t.Context(), r, now)
			if err != nil {
				t.Fatal(err)
			}
			c, err := shaped(now.Arch, between(m.Arch, whole, to, float64(r+1)/3), s)
			if err != nil {
				t.Fatal(err)
			}
			if now, err = small(now, c); err != nil {
				t.Fatal(err)
			}
		}
		v, err := small(m, thrice)
		if err != nil {
			t.Fatal(err)
		}
		if shapeOf(v) != to {
			t.Errorf("%s: three rounds lead to %+v", o.Family, shapeOf(v))
		}
		a, err := v.Logits(w.IDs[0])
		if err != nil {
			t.Fatal(err)
		}
		b, err := now.Logits(w.IDs[0])
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a, b) {
			t.Errorf("%s: three rounds are not three cuts", o.Family)
		}
		nothing, err := Rounds(t.Context(), m, whole, 2, score)
		if err != nil || !nothing.Identity(m.Arch) {
			t.Errorf("%s: a cut to the whole shape: %v, %v", o.Family, nothing, err)
		}
		broken := errors.New("broken")
		_, err = Rounds(t.Context(), m, to, 2, func(ctx context.Context, r int, v *nn.Model) (*prune.Scores, error) {
			if r == 1 {
				return nil, broken
			}
			return score(ctx, r, v)
		})
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "round 2") {
			t.Errorf("%s: %v", o.Family, err)
		}
		if _, err := Rounds(t.Context(), m, to, 0, score); err == nil {
			t.Errorf("%s: no rounds are taken", o.Family)
		}
	}
}
