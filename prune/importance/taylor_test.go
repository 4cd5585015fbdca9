package importance

import (
	"math"
	"testing"

	"modelpress/calib"
	"modelpress/internal/testmodel"
)

// gradients are those of the mean losses of single windows by every stored value, by central differences.
type gradients map[weight][]float64

func newGradients(o *oracle, w calib.Windows, of map[weight][]unit) gradients {
	out := gradients{}
	for k := range of {
		const h = 1e-5
		v := &o.values[k.name][k.index]
		was, g := *v, make([]float64, len(w.IDs))
		for i, ids := range w.IDs {
			*v = was + h
			up := o.loss(ids)
			*v = was - h
			g[i] = (up - o.loss(ids)) / (2 * h) / float64(len(ids)-1)
			*v = was
		}
		out[k] = g
	}
	return out
}

// slowTaylor sums what every value counts for, one at a time.
func slowTaylor(o *oracle, w calib.Windows, of map[weight][]unit, grads gradients, term Term) map[unit]float64 {
	out, predicted := units(o.m), 0
	for _, ids := range w.IDs {
		predicted += len(ids) - 1
	}
	for k, list := range of {
		x, g, h := o.values[k.name][k.index], 0.0, 0.0
		for i, v := range grads[k] {
			g += v * float64(len(w.IDs[i])-1) / float64(predicted)
			h += v * v / float64(len(w.IDs))
		}
		for _, u := range list {
			out[u] += map[Term]float64{Mix: math.Abs(x*g - x*x*h/2), First: math.Abs(x * g), Second: x * x * h / 2, Vector: x * g}[term]
		}
	}
	for u, v := range out {
		out[u] = math.Abs(v)
	}
	return out
}

func TestTaylor(t *testing.T) {
	for _, c := range models() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			src := testmodel.New(c.Options)
			m := describe(t, src, 2)
			o, w, of := newOracle(t, src, m.Arch), windows(m.Arch), unitsOf(m.Arch)
			grads := newGradients(o, w, of)
			for _, term := range []Term{Mix, First, Second, Vector} {
				got, err := Taylor(t.Context(), m, w, TaylorOptions{Term: term})
				if err != nil {
					t.Fatal(err)
				}
				same(t, string(term), got, slowTaylor(o, w, of, grads, term), 1e-4)
			}
		})
	}
}

// TestTaylorIsTheChangeOfLoss shrinks the weights of a unit by a little and compares what the loss does with the first-order score.
func TestTaylorIsTheChangeOfLoss(t *testing.T) {
	for _, c := range models() {
		src := testmodel.New(c.Options)
		m := describe(t, src, 2)
		o, w := newOracle(t, src, m.Arch), windows(m.Arch)
		got, err := Taylor(t.Context(), m, w, TaylorOptions{Term: Vector})
		if err != nil {
			t.Fatal(err)
		}
		members := map[unit][]weight{}
		for k, list := range unitsOf(m.Arch) {
			for _, u := range list {
				members[u] = append(members[u], k)
			}
		}
		want := map[unit]float64{}
		for u := range units(m.Arch) {
			scaled := func(f float64) float64 {
				was := make([]float64, len(members[u]))
				for i, k := range members[u] {
					was[i] = o.values[k.name][k.index]
					o.values[k.name][k.index] *= f
				}
				loss := o.meanLoss(w.IDs)
				for i, k := range members[u] {
					o.values[k.name][k.index] = was[i]
				}
				return loss
			}
			const eps = 1e-4
			want[u] = math.Abs(scaled(1+eps)-scaled(1-eps)) / (2 * eps)
		}
		same(t, c.Name, got, want, 1e-4)
	}
}

// Gradients that go to disk, and the memory of a window at a time, change no bit.
func TestTaylorOnDisk(t *testing.T) {
	for _, c := range models() {
		m := describe(t, testmodel.New(c.Options), 2)
		w := windows(m.Arch)
		a, err := Taylor(t.Context(), m, w, TaylorOptions{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := Taylor(t.Context(), m, w, TaylorOptions{Options: Options{Dir: t.TempDir(), MemLimit: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if !equalBits(a, b) {
			t.Errorf("%s: scores depend on where states are kept", c.Name)
		}
	}
}
