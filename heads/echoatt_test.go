package heads

import (
	"context"
	"math"
	"reflect"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// TestFindEchoAttAgainstTheMatrix recomputes the cosines from whole matrices.
func TestFindEchoAttAgainstTheMatrix(t *testing.T) {
	for _, name := range oracleModels {
		t.Run(name, func(t *testing.T) {
			model := deeper(name)
			w := mixedWindows(model)
			got := everyThreads(t, model, func(m *nn.Model) *EchoAtt {
				e, err := FindEchoAtt(context.Background(), m, w, EchoAttOptions{Threshold: 0.5})
				if err != nil {
					t.Fatal(err)
				}
				return e
			})
			m := open(t, model)
			before := make([][][][]float64, len(w.IDs)) // [window][head][i][j]
			want := make([]float64, len(m.Arch.Layers))
			tap := func(layer, window int, r rows) {
				r.Read(everything)
				var now [][][]float64
				for h := range r.Shape.H {
					now = append(now, matrix(r.AttnState, h, device.Mask{Recent: r.window}))
				}
				if old := before[window]; len(old) == len(now) {
					for h := range now {
						var xy, xx, yy float64
						for i := range now[h] {
							for j := range now[h][i] {
								xy += now[h][i][j] * old[h][i][j]
								xx += now[h][i][j] * now[h][i][j]
								yy += old[h][i][j] * old[h][i][j]
							}
						}
						want[layer] += xy / math.Sqrt(xx*yy) / float64(len(now)*len(w.IDs))
					}
				}
				before[window] = now
			}
			if err := (Options{}).observe(context.Background(), m, w.IDs, tap, nil); err != nil {
				t.Fatal(err)
			}
			for l, v := range want {
				closeTo(t, "similarity", l, 0, got.Similarity[l], v)
			}
			p := Draft(m.Arch)
			if err := got.Write(p, m.Arch, record); err != nil {
				t.Fatal(err)
			}
			sound(t, p)
			if e := p.Evidence[0]; e.Per != "layer" || e.Samples != 3 || len(e.Scores) != len(want) {
				t.Errorf("evidence %+v", e)
			}
		})
	}
}

// TestAlikeIsOne: a layer is wholly like itself.
func TestAlikeIsOne(t *testing.T) {
	r := randomState(30, 4, 2, 8, 11, 5)
	r.Dev = open(t, testmodel.Named("llama-gqa")).Dev
	if v := alike(r, r.kept(rows{})); !near(v, 1, 1e-12) {
		t.Errorf("%g", v)
	}
}

func TestAlikeRuns(t *testing.T) {
	m := &arch.Model{}
	for l := range 9 {
		a := arch.Layer{H: 2, G: 1, K: 4}
		if l == 4 {
			a = arch.Layer{}
		}
		m.Layers = append(m.Layers, a)
	}
	similarity := []float64{0, 0.99, 0.95, 0.91, 0, 0.9, 0.2, 0.95, 0.99}
	for _, c := range []struct {
		opt  EchoAttOptions
		want [][2]int
	}{
		{EchoAttOptions{}, [][2]int{{1, 5}, {6, 7}}},
		{EchoAttOptions{Outer: -1}, [][2]int{{0, 5}, {6, 8}}},
		{EchoAttOptions{Outer: 2, Threshold: 0.91}, [][2]int{{2, 3}}},
		{EchoAttOptions{Outer: 4}, nil},
	} {
		opt := c.opt
		if err := opt.fill(); err != nil {
			t.Fatal(err)
		}
		if got := alikeRuns(m, similarity, opt); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.opt, got, c.want)
		}
	}
	for name, opt := range map[string]EchoAttOptions{"threshold": {Threshold: 1.5}, "outer": {Outer: -2}} {
		if opt.fill() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
