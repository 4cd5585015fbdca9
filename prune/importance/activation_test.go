package importance

import (
	"errors"
	"math"
	"strings"
	"testing"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// aggregate is one number for a list of them, by the definitions.
func aggregate(a Aggregation, v []float64) float64 {
	sum, squares, mean, spread := 0.0, 0.0, 0.0, 0.0
	for _, x := range v {
		sum += math.Abs(x)
		squares += x * x
		mean += x / float64(len(v))
	}
	for _, x := range v {
		spread += (x - mean) * (x - mean) / float64(len(v))
	}
	return map[Aggregation]float64{Mean: sum / float64(len(v)), L2: math.Sqrt(squares), Variance: spread}[a]
}

// slowActivations keeps every activation and aggregates them by column.
func slowActivations(o *oracle, w calib.Windows, batch, sequence Aggregation) map[unit]float64 {
	type place struct {
		layer int
		site  arch.Site
		c     int
	}
	byWindow := map[place][]float64{}
	tokens := 0
	out := units(o.m)
	for _, ids := range w.IDs {
		o.see = func(l int, s arch.Site, x []float64) {
			n := len(x) / len(ids)
			for c := range n {
				var column []float64
				for i := range ids {
					column = append(column, x[i*n+c])
				}
				at := place{l, s, c}
				byWindow[at] = append(byWindow[at], aggregate(sequence, column))
			}
		}
		o.layer = func(l int, in, y []float64) {
			for i := range ids {
				ab, aa, bb := 0.0, 0.0, 0.0
				for c := range o.m.D {
					p, q := in[i*o.m.D+c], y[i*o.m.D+c]
					ab, aa, bb = ab+p*q, aa+p*p, bb+q*q
				}
				out[unit{"layer", l, 0}] += 1 - ab/math.Sqrt(aa*bb)
			}
		}
		o.logits(ids)
		tokens += len(ids)
	}
	o.see, o.layer = nil, nil
	for l := range o.m.Layers {
		out[unit{"layer", l, 0}] /= float64(tokens)
	}
	for l := range o.m.Layers { // a fixed order, since sums are compared
		a := &o.m.Layers[l]
		for s := range arch.NumSites {
			for c := range a.Width(s) {
				v := aggregate(batch, byWindow[place{l, s, c}])
				switch s {
				case arch.SiteO:
					out[unit{"head", l, c / a.K / (a.H / a.G)}] += v * v
				case arch.SiteDown:
					out[unit{"ffn", l, c}] = v
				default:
					out[unit{"hidden", -1, c}] += v
				}
			}
		}
		for g := 0; g < a.G && a.HasAttention(); g++ {
			out[unit{"head", l, g}] = math.Sqrt(out[unit{"head", l, g}])
		}
	}
	return out
}

func TestActivations(t *testing.T) {
	for _, c := range models() {
		src := testmodel.New(c.Options)
		m := describe(t, src, 2)
		o := newOracle(t, src, m.Arch)
		w := windows(m.Arch)
		for _, batch := range []Aggregation{L2, Mean, Variance} {
			for _, sequence := range []Aggregation{Mean, L2, Variance} {
				got, err := Activations(t.Context(), m, w, ActivationOptions{Batch: batch, Sequence: sequence})
				if err != nil {
					t.Fatal(err)
				}
				same(t, c.Name+" "+string(batch)+" of "+string(sequence), got, slowActivations(o, w, batch, sequence), 2e-5)
			}
		}
		byDefault, err := Activations(t.Context(), m, w, ActivationOptions{})
		if err != nil {
			t.Fatal(err)
		}
		named, err := Activations(t.Context(), m, w, ActivationOptions{Batch: L2, Sequence: Mean})
		if err != nil {
			t.Fatal(err)
		}
		if !equalBits(byDefault, named) {
			t.Errorf("%s: the default is not l2 of mean", c.Name)
		}
		influence, err := BlockInfluence(t.Context(), m, w, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for l, v := range influence {
			if v != named.Layers[l].Layer {
				t.Errorf("%s: influence of layer %d is %g alone and %g with activations", c.Name, l, v, named.Layers[l].Layer)
			}
		}
	}
}

// Columns of many blocks and long windows, whatever the threads.
func TestColumns(t *testing.T) {
	const rows, n = 37, 3*columnBlock + 5
	x := make([]float32, rows*n)
	for i := range x {
		x[i] = float32(math.Sin(float64(i) * 1.7))
	}
	for _, a := range []Aggregation{Mean, L2, Variance} {
		got := make([]float64, n)
		a.columns(got, x, rows, n, func(k int, body func(int)) {
			for i := range k {
				body(k - 1 - i)
			}
		})
		for c, v := range got {
			var column []float64
			for r := range rows {
				column = append(column, float64(x[r*n+c]))
			}
			if want := aggregate(a, column); !near(v, want, 1e-12) {
				t.Fatalf("%s: column %d is %g, want %g", a, c, v, want)
			}
		}
	}
}

func TestCosine(t *testing.T) {
	for _, c := range []struct {
		a, b []float32
		want float64
	}{
		{[]float32{1, 0}, []float32{3, 0}, 1}, {[]float32{1, 0}, []float32{0, 2}, 0}, {[]float32{1, 1}, []float32{-1, -1}, -1},
		{[]float32{0, 0}, []float32{0, 0}, 1}, {[]float32{0, 0}, []float32{1, 0}, 0}, {[]float32{1, 0}, []float32{0, 0}, 0},
	} {
		if got := cosine(c.a, c.b); !near(got, c.want, 1e-15) {
			t.Errorf("cosine of %v and %v is %g, want %g", c.a, c.b, got, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	src := testmodel.New(models()[0].Options)
	m := describe(t, src, 1)
	ctx, good := t.Context(), windows(m.Arch)
	short, none := calib.NewWindows([][]int32{{1, 2}, {3}}), calib.NewWindows(nil)
	_, activation := Activations(ctx, m, good, ActivationOptions{Batch: "max"})
	_, sequence := Activations(ctx, m, good, ActivationOptions{Sequence: "max"})
	_, empty := Activations(ctx, m, none, ActivationOptions{})
	_, influence := BlockInfluence(ctx, m, calib.NewWindows([][]int32{{1}, {}}), Options{})
	_, removal := RemoveLayers(ctx, m, short, Options{})
	_, taylor := Taylor(ctx, m, short, TaylorOptions{})
	_, term := Taylor(ctx, m, good, TaylorOptions{Term: "third"})
	_, token := Taylor(ctx, m, calib.NewWindows([][]int32{{1, 2}, {1, 99}}), TaylorOptions{})
	for want, err := range map[string]error{
		"aggregation \"max\"": activation, "is none of \"mean\"": sequence, "no windows": empty, "window 1 has 0 tokens": influence,
		"window 1 has 1 tokens, and 2": removal, "window 1 has 1": taylor, "term \"third\"": term, "token id 99": token,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	big := make([]float32, m.Arch.D)
	for i := range big {
		big[i] = 1e30
	}
	src.Set(m.Arch.Layers[1].FFNNorm.Weight, big)
	if _, err := Activations(ctx, m, good, ActivationOptions{Batch: L2, Sequence: L2}); !errors.Is(err, calib.ErrNotFinite) {
		t.Errorf("activations past float32: %v", err)
	}
}
