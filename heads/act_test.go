package heads

import (
	"context"
	"errors"
	"math"
	"reflect"
	"testing"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// TestSinkMassAgainstTheMatrix finds sinks and sums what they get from whole matrices.
func TestSinkMassAgainstTheMatrix(t *testing.T) {
	for _, name := range oracleModels {
		t.Run(name, func(t *testing.T) {
			model := testmodel.Named(name)
			w := mixedWindows(model)
			opt := ACTOptions{Skip: 2, Threshold: 0.12}
			got := everyThreads(t, model, func(m *nn.Model) *Scores {
				s, err := SinkMass(context.Background(), m, w, opt)
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
			m := open(t, model)
			want := rowsOf(m.Arch.Layers, func(l arch.Layer) int { return l.H })
			some := false
			tap := func(layer, _ int, r rows) {
				r.Read(everything)
				for h := range r.Shape.H {
					a := matrix(r.AttnState, h, device.Mask{Recent: r.window})
					for j := opt.Skip; j < len(a); j++ {
						var total, seen float64
						for i := j; i < len(a) && (r.window == 0 || i-j < r.window); i++ {
							total += a[i][j]
							seen++
						}
						if total/seen > opt.Threshold {
							some = true
							want[layer][h] += total / float64(len(a)*len(w.IDs))
						}
					}
				}
			}
			if err := (Options{}).observe(context.Background(), m, w.IDs, tap, nil); err != nil {
				t.Fatal(err)
			}
			for l, row := range want {
				for h, v := range row {
					closeTo(t, "sink mass", l, h, got.Query[l][h], v)
				}
			}
			if !some {
				t.Error("no sink in any head: the test says nothing")
			}
		})
	}
}

// actGains are what turning down the sinks of each head takes from the made-up loss of the test.
func actGains(l, h int) float64 { return float64((3*l+5*h)%7-3) / 100 }

// TestACTFindsTheOptimum: under a loss to which each head adds its own part, the heads that do not raise it are chosen.
func TestACTFindsTheOptimum(t *testing.T) {
	model := deeper("llama-gqa")
	m := open(t, model).Arch
	mass := &Scores{Method: "act-sink-mass", Unit: "attention mass", KV: rowsOf(m.Layers, kvHeads), Samples: 4}
	for l, a := range m.Layers {
		mass.Query = append(mass.Query, make([]float64, a.H))
		for h := range a.H {
			mass.Query[l][h] = float64((l+h)%4) / 10 // every fourth head has no sinks
		}
	}
	changed := func(p *manifest.Plan) (out [][2]int) {
		for l, a := range m.Layers {
			for h := range a.H {
				if pol, _ := p.ResolveQuery(l, h, manifest.Prefill, 100); pol.Kind == manifest.KindSinkScaled {
					if pol.Skip != 1 || pol.Threshold != 0.1 || pol.Scale != 0.4 {
						t.Errorf("policy %+v", pol)
					}
					out = append(out, [2]int{l, h})
				}
			}
		}
		return out
	}
	base := Draft(m)
	calls := 0
	loss := func(p *manifest.Plan) (float64, error) {
		calls++
		v := 3.0
		for _, at := range changed(p) {
			v -= actGains(at[0], at[1])
		}
		return v, nil
	}
	a, err := ACT(context.Background(), base, m, mass, ACTOptions{}, loss)
	if err != nil {
		t.Fatal(err)
	}
	tried, best := 0, 3.0
	for l, row := range a.Chosen {
		for h, chosen := range row {
			can := l >= 2 && (l+h)%4 > 0
			if want := can && actGains(l, h) >= 0; chosen != want {
				t.Errorf("head %d.%d: chosen %v, want %v", l, h, chosen, want)
			}
			if can {
				tried++
				best -= math.Max(0, actGains(l, h))
				closeTo(t, "gain", l, h, a.Gain[l][h], actGains(l, h))
			}
		}
	}
	if a.Tried != tried || calls != tried+2 || !near(a.Loss, best, 1e-9) || a.Base != 3 {
		t.Errorf("%d tried of %d, %d calls, loss %g, best %g", a.Tried, tried, calls, a.Loss, best)
	}
	if len(base.Policies) != 1 || len(changed(base)) != 0 {
		t.Error("the base plan was changed")
	}
	p := Draft(m)
	if err := a.Write(p, m, mass, record); err != nil {
		t.Fatal(err)
	}
	sound(t, p)
	if v, _ := loss(p); !near(v, best, 1e-9) {
		t.Errorf("the written plan has a loss of %g", v)
	}
	if e := p.Evidence; len(e) != 2 || e[0].Per != "q_head" || e[1].Method != "act" || e[1].Per != "q_head" {
		t.Errorf("evidence %+v", e)
	}
	few, err := ACT(context.Background(), base, m, mass, ACTOptions{MaxHeads: 5}, loss)
	if err != nil || few.Tried != 5 {
		t.Errorf("%d tried, %v", few.Tried, err)
	}
	for l, row := range few.Gain {
		for h, v := range row {
			if v != 0 && mass.Query[l][h] < 0.3 {
				t.Errorf("head %d.%d of sink mass %g was tried", l, h, mass.Query[l][h])
			}
		}
	}
}

// TestACTTogether: heads that are good alone and bad together are given up by halves, down to none.
func TestACTTogether(t *testing.T) {
	m := open(t, deeper("llama-gqa")).Arch
	mass := &Scores{Query: rowsOf(m.Layers, func(l arch.Layer) int { return l.H }), KV: rowsOf(m.Layers, kvHeads)}
	for _, row := range mass.Query {
		for h := range row {
			row[h] = 0.5
		}
	}
	count := func(p *manifest.Plan) (n int) {
		for l, a := range m.Layers {
			for h := range a.H {
				if pol, _ := p.ResolveQuery(l, h, manifest.Prefill, 9); pol.Kind == manifest.KindSinkScaled {
					n++
				}
			}
		}
		return n
	}
	for _, most := range []int{1, 5, 6, 100} {
		a, err := ACT(context.Background(), Draft(m), m, mass, ACTOptions{}, func(p *manifest.Plan) (float64, error) {
			n := count(p)
			if n > most {
				return 9, nil
			}
			return 3 - float64(n)/1000, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		want := 24 // three layers of eight heads
		for want > most {
			want /= 2
		}
		n := 0
		for _, row := range a.Chosen {
			n += stays(row)
		}
		if n != want || !near(a.Loss, 3-float64(want)/1000, 1e-9) {
			t.Errorf("at most %d: %d heads, want %d, loss %g", most, n, want, a.Loss)
		}
	}
	a, err := ACT(context.Background(), Draft(m), m, mass, ACTOptions{}, func(p *manifest.Plan) (float64, error) {
		return 3 + float64(count(p)), nil
	})
	if err != nil || a.Loss != 3 || !reflect.DeepEqual(a.Chosen[2], make([]bool, 8)) {
		t.Errorf("every head is bad: %v, loss %g, %v", a.Chosen, a.Loss, err)
	}
}

// TestACTLeavesNarrowedHeads: query heads of a KV head that streams in prefill are not tried, since they would see everything.
func TestACTLeavesNarrowedHeads(t *testing.T) {
	m := open(t, deeper("llama-gqa")).Arch
	s := fakeScores(m)
	p := Draft(m)
	if err := WriteStreaming(p, m, Select(s.KV, 0.5), s, StreamingPolicy{Sink: 2, Recent: 8}, record); err != nil {
		t.Fatal(err)
	}
	mass := &Scores{Query: rowsOf(m.Layers, func(l arch.Layer) int { return l.H })}
	want := 0
	for l, row := range mass.Query {
		for h := range row {
			row[h] = 0.5
			if l >= 2 && p.Layers[l].KVHeads[h/4].Prefill == PolicyFull {
				want++
			}
		}
	}
	a, err := ACT(context.Background(), p, m, mass, ACTOptions{}, func(*manifest.Plan) (float64, error) { return 1, nil })
	if err != nil || a.Tried != want || want == 0 || want == 24 {
		t.Errorf("%d tried, want %d, %v", a.Tried, want, err)
	}
}

func TestACTRefuses(t *testing.T) {
	ctx := context.Background()
	model := deeper("llama-gqa")
	m := open(t, model)
	mass := &Scores{Query: [][]float64{{1}}}
	fine := func(*manifest.Plan) (float64, error) { return 1, nil }
	if _, err := ACT(ctx, Draft(m.Arch), m.Arch, mass, ACTOptions{}, fine); err == nil {
		t.Error("other shape: no error")
	}
	mass.Query = rowsOf(m.Arch.Layers, func(l arch.Layer) int { return l.H })
	broken := errors.New("broken")
	if _, err := ACT(ctx, Draft(m.Arch), m.Arch, mass, ACTOptions{}, func(*manifest.Plan) (float64, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if _, err := ACT(ctx, Draft(m.Arch), m.Arch, mass, ACTOptions{}, func(*manifest.Plan) (float64, error) { return math.NaN(), nil }); err == nil {
		t.Error("no number: no error")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := ACT(ended, Draft(m.Arch), m.Arch, mass, ACTOptions{}, fine); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for name, opt := range map[string]ACTOptions{"scale": {Scale: 2}, "threshold": {Threshold: 2}, "layers": {FirstLayer: -1}} {
		if _, err := SinkMass(ctx, m, mixedWindows(model), opt); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := SinkMass(ctx, m, calib.Windows{}, ACTOptions{}); err == nil {
		t.Error("no windows: no error")
	}
}
