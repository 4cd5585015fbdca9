package heads

import (
	"context"
	"math"
	"reflect"
	"strings"
	"testing"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// atThreads opens a test model on a number of threads.
func atThreads(t *testing.T, m *testmodel.Model, threads int) *nn.Model {
	t.Helper()
	a, err := arch.Describe(m.Config, m)
	if err != nil {
		t.Fatal(err)
	}
	return nn.New(deviceOf(threads), m, a)
}

// everyThreads runs a measure with 1, 2 and 3 threads and fails unless the results are the same.
func everyThreads[T any](t *testing.T, m *testmodel.Model, measure func(m *nn.Model) T) T {
	t.Helper()
	first := measure(atThreads(t, m, 1))
	for _, n := range []int{2, 3} {
		if got := measure(atThreads(t, m, n)); !reflect.DeepEqual(got, first) {
			t.Errorf("%d threads: another result", n)
		}
	}
	return first
}

// mixedWindows are three windows of different lengths.
func mixedWindows(m *testmodel.Model) calib.Windows {
	v := m.Options.V
	if v == 0 {
		v = 256
	}
	return calib.NewWindows([][]int32{testmodel.Windows(1, 40, v, 2)[0], testmodel.Windows(1, 10, v, 3)[0], testmodel.Windows(1, 27, v, 4)[0]})
}

// TestFindSinksAgainstTheMatrix recomputes rates and masses from whole matrices.
func TestFindSinksAgainstTheMatrix(t *testing.T) {
	for _, name := range oracleModels {
		t.Run(name, func(t *testing.T) {
			model := testmodel.Named(name)
			w := mixedWindows(model)
			opt := SinkOptions{Threshold: 0.1, Lead: 5, Queries: 20, MinRate: 0.2, MinMass: 0.01}
			got := everyThreads(t, model, func(m *nn.Model) *Sinks {
				s, err := FindSinks(context.Background(), m, w, opt)
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
			m := open(t, model)
			hits, mass, even, n := make([]float64, 21), make([]float64, 21), make([]float64, 21), make([]float64, 21)
			head := rowsOf(m.Arch.Layers, func(l arch.Layer) int { return l.H })
			tap := func(layer, _ int, r rows) {
				r.Read(everything)
				s := r.Shape
				for h := range s.H {
					a := matrix(r.AttnState, h, device.Mask{Recent: r.window})
					any := 0.0
					for k := range s.T {
						if s.T-k < opt.Queries {
							break
						}
						var sum, flat float64
						for i := k; i < s.T; i++ {
							sum += a[i][k]
							if r.window == 0 || i-k < r.window {
								flat += 1 / float64(i-r.low(i)+1)
							}
						}
						n[k]++
						mass[k] += sum / float64(s.T-k)
						even[k] += flat / float64(s.T-k)
						if sum/float64(s.T-k) > opt.Threshold {
							hits[k]++
							if k < opt.Lead {
								any = 1
							}
						}
					}
					head[layer][h] += any / 2
				}
			}
			if err := (Options{}).observe(context.Background(), m, w.IDs, tap, nil); err != nil {
				t.Fatal(err)
			}
			var positions []int
			count := 0
			for k := range hits {
				closeTo(t, "rate", k, 0, got.Rate[k], hits[k]/n[k])
				closeTo(t, "mass", k, 0, got.Mass[k], mass[k]/n[k])
				closeTo(t, "even", k, 0, got.Even[k], even[k]/n[k])
				if hits[k]/n[k] >= opt.MinRate || (mass[k]-even[k])/n[k] >= opt.MinMass {
					positions = append(positions, k)
					if k < opt.Lead {
						count = k + 1
					}
				}
			}
			if !reflect.DeepEqual(got.Positions, positions) || got.Count != count || len(got.Rate) != 21 {
				t.Errorf("positions %v, count %d, want %v, %d", got.Positions, got.Count, positions, count)
			}
			for l, row := range head {
				for h, v := range row {
					closeTo(t, "head", l, h, got.Heads.Query[l][h], v)
				}
			}
			p := Draft(m.Arch)
			if err := got.Write(p, m.Arch, record); err != nil {
				t.Fatal(err)
			}
			sound(t, p)
			if p.Evidence[0].Per != "q_head" || p.Evidence[0].Samples != 2 || len(p.Evidence[0].Scores[0]) != m.Arch.Layers[0].H {
				t.Errorf("evidence %+v", p.Evidence[0])
			}
		})
	}
}

// TestFindSinksOfEvenAttention: without queries every head attends evenly, and no position matters.
func TestFindSinksOfEvenAttention(t *testing.T) {
	for _, name := range []string{"llama-gqa", "mistral-swa"} {
		m := testmodel.Named(name)
		for _, tensor := range m.Tensors() {
			if strings.HasSuffix(tensor.Name, "q_proj.weight") {
				v, err := m.Values(tensor.Name)
				if err != nil {
					t.Fatal(err)
				}
				clear(v)
				m.Set(tensor.Name, v)
			}
		}
		s, err := FindSinks(context.Background(), open(t, m), mixedWindows(m), SinkOptions{MinMass: 1e-5, Queries: 4})
		if err != nil {
			t.Fatal(err)
		}
		if s.Count != 0 || len(s.Positions) != 0 || math.Abs(s.Mass[0]-s.Even[0]) > 1e-6 {
			t.Errorf("%s: positions %v, mass %g of %g", name, s.Positions, s.Mass[0], s.Even[0])
		}
	}
}

func TestFindSinksRefuses(t *testing.T) {
	m := open(t, testmodel.Named("llama-gqa"))
	w := calib.NewWindows(testmodel.Windows(1, 20, 256, 1))
	for name, opt := range map[string]SinkOptions{"threshold": {Threshold: 2}, "lead": {Lead: -1}, "queries": {Queries: 21}} {
		if _, err := FindSinks(context.Background(), m, w, opt); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
