package heads

import (
	"math"
	"slices"
	"testing"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

func promptWindows(prompts []calib.Prompt) calib.Windows {
	var ids [][]int32
	for _, p := range prompts {
		ids = append(ids, p.IDs)
	}
	return calib.NewWindows(ids)
}

// queriesOf says which query heads do what is planted in their KV heads, [layer][query head]: with one query head planted in each
// group it is the one whose attention Wu finds in the needle.
func queriesOf(p *testmodel.Planted, wu *Scores) [][]bool {
	out := make([][]bool, len(p.Kind))
	for l, row := range wu.Query {
		for h, v := range row {
			out[l] = append(out[l], v > 0.5 && p.Retrieval[l][h/(p.Options.H/p.Options.G)])
		}
	}
	return out
}

// byKind returns the least and the largest value of the KV heads of each kind; of the values of query heads, the least of each KV head
// counts, since in some models only one of them does what is planted.
func byKind(p *testmodel.Planted, rows [][]float64) (low, high map[testmodel.HeadKind]float64) {
	low, high = map[testmodel.HeadKind]float64{}, map[testmodel.HeadKind]float64{}
	for l, row := range rows {
		size := len(row) / p.Options.G
		for g := range p.Options.G {
			k, v := p.Kind[l][g], slices.Min(row[g*size:(g+1)*size])
			if _, ok := low[k]; !ok {
				low[k], high[k] = v, v
			}
			low[k], high[k] = math.Min(low[k], v), math.Max(high[k], v)
		}
	}
	return low, high
}

// TestPlantedMInference: on the last query of prompts, where the needle is asked for, no query head that retrieves gets an
// A-shape, sink, local and previous-token heads lose nothing by what they get, and the patterns keep every answer at the work of an
// A-shape that keeps none.
func TestPlantedMInference(t *testing.T) {
	eachPlanted(t, func(t *testing.T, p *testmodel.Planted, m *nn.Model, _ []calib.Prompt) {
		prompts := promptsOf(p.Prompts(4, 112, 4, 21))
		wu, err := Wu(t.Context(), m, prompts, Options{})
		if err != nil {
			t.Fatal(err)
		}
		opt := MInferenceOptions{Sink: plantedSink, Recent: 20, LastQ: 4, Block: 8, From: 111}
		plan := Draft(m.Arch)
		s, err := MInference(t.Context(), m, promptWindows(prompts), plan, opt)
		if err != nil {
			t.Fatal(err)
		}
		shape := planOf(m, func(int, int) manifest.Policy { return manifest.Streaming(opt.Sink, opt.Recent) })
		for l := range shape.Layers {
			for g := range shape.Layers[l].KVHeads {
				shape.Layers[l].KVHeads[g].Decode = manifest.Always(addPolicy(shape, manifest.Full()))
			}
		}
		shape.Requires = shape.Needs()
		shapes, worst := map[testmodel.HeadKind]int{}, 0.0
		for l, row := range queriesOf(p, wu) {
			for h, retrieves := range row {
				kind := s.Policy[l][h].Kind
				if kind == manifest.KindStreaming {
					shapes[p.Kind[l][h*p.Options.G/len(row)]]++
				}
				if retrieves {
					worst = math.Max(worst, s.Error.Query[l][h])
					if kind == manifest.KindStreaming {
						t.Errorf("head %d.%d retrieves under an A-shape", l, h)
					}
				}
			}
		}
		found, a := served(t, m, prompts, plan), served(t, m, prompts, shape)
		_, high := byKind(p, s.Error.Query)
		t.Logf("A-shapes %v; error of retrieving heads to %.3g, by kind to %.3v; accuracy %.2f, A-shape %.2f", shapes, worst, high, found, a)
		if found != 1 || a > 0 || worst > 0.05 {
			t.Errorf("accuracy %g, A-shape %g", found, a)
		}
		if high[testmodel.Sink] > 0.01 || high[testmodel.Previous] > 0.01 || high[testmodel.Local] > 0.01 {
			t.Errorf("errors by kind %v", high)
		}
	})
}

// TestPlantedXAttention: with antidiagonals of single queries and keys, blocks are found that hold what sharp heads attend to, at a
// fraction of the work, and nothing can be left out of heads that attend evenly. Antidiagonals of four mix a match with its
// neighbours; heads that retrieve then get more blocks or all, and no answer is lost. The share is a mean over queries: one of 0.9
// is kept by blocks that lose the single query which asks for the needle, so it is 0.95 here.
func TestPlantedXAttention(t *testing.T) {
	eachPlanted(t, func(t *testing.T, p *testmodel.Planted, m *nn.Model, _ []calib.Prompt) {
		prompts := promptsOf(p.Prompts(3, 112, 4, 21))
		for _, opt := range []XAttentionOptions{{Block: 8, Stride: 1, Share: 0.95}, {Block: 8, Stride: 4, Share: 0.9}} {
			plan := Draft(m.Arch)
			s, err := XAttention(t.Context(), m, promptWindows(prompts), plan, opt)
			if err != nil {
				t.Fatal(err)
			}
			accuracy := served(t, m, prompts, plan)
			low, high := byKind(p, s.Work)
			t.Logf("stride %d, share %g: accuracy %.2f, work by kind to %.3v", opt.Stride, opt.Share, accuracy, high)
			if accuracy != 1 || low[testmodel.Noise] < 0.8 {
				t.Errorf("stride %d: accuracy %g, work by kind from %v", opt.Stride, accuracy, low)
			}
			if opt.Stride > 1 {
				continue
			}
			for _, k := range []testmodel.HeadKind{testmodel.Sink, testmodel.Local, testmodel.Previous} {
				if high[k] > 0.25 {
					t.Errorf("%v heads take %g of the work", k, high[k])
				}
			}
			if p.BOS() && high[testmodel.Induction] > 0.4 { // else they attend evenly where they find nothing
				t.Errorf("induction heads take %g of the work", high[testmodel.Induction])
			}
		}
	})
}

// TestPlantedStatic: patterns of positions alone are right for sink, local and previous-token heads, wrong for those that look for a token,
// and the answers need no more than that the latter are full.
func TestPlantedStatic(t *testing.T) {
	eachPlanted(t, func(t *testing.T, p *testmodel.Planted, m *nn.Model, _ []calib.Prompt) {
		prompts := promptsOf(p.Prompts(3, 112, 4, 21))
		windows, err := teacherForced(prompts)
		if err != nil {
			t.Fatal(err)
		}
		plan := Draft(m.Arch)
		s, err := Static(t.Context(), m, calib.NewWindows(windows), plan, StaticOptions{Density: 0.5, Block: 4, Sink: plantedSink, Prefill: true, Decode: true})
		if err != nil {
			t.Fatal(err)
		}
		everywhere := served(t, m, prompts, plan)
		for l, row := range p.Retrieval {
			for g, retrieves := range row {
				if h := &plan.Layers[l].KVHeads[g]; retrieves {
					h.Prefill, h.Decode = PolicyFull, manifest.Always(PolicyFull)
				}
			}
		}
		plan.Requires = plan.Needs()
		others := served(t, m, prompts, plan)
		low, high := byKind(p, s.Error.KV)
		t.Logf("error by kind from %.3v to %.3v; accuracy %.2f, but for induction heads %.2f", low, high, everywhere, others)
		near := math.Max(high[testmodel.Sink], math.Max(high[testmodel.Local], high[testmodel.Previous]))
		if everywhere > 0 || others != 1 || low[testmodel.Induction] < 2*near || low[testmodel.Induction] < 1.1*high[testmodel.Noise] {
			t.Errorf("accuracy %g and %g, error by kind from %v to %v", everywhere, others, low, high)
		}
	})
}

// TestPlantedACT: with the published threshold no head that retrieves is touched. With one so low that needles count as sinks, heads whose
// sinks the answers need are tried and left alone, and the chosen ones together keep every answer.
func TestPlantedACT(t *testing.T) {
	for _, name := range []string{"mha", "gqa4-one-query", "small"} {
		t.Run(name, func(t *testing.T) {
			p := testmodel.NamedPlanted(name)
			m := open(t, p.Model)
			prompts := promptsOf(append(p.Prompts(1, 96, 4, 5), p.MultiKey(1, 96, 4, 4, 6)...))
			for _, opt := range []ACTOptions{{}, {Threshold: 0.004, Scale: 0.05, FirstLayer: 1}} {
				mass, err := SinkMass(t.Context(), m, promptWindows(prompts), opt)
				if err != nil {
					t.Fatal(err)
				}
				plan := Draft(m.Arch)
				a, err := ACT(t.Context(), plan, m.Arch, mass, opt, func(q *manifest.Plan) (float64, error) {
					r, err := calib.Retrieval(t.Context(), m, prompts, calib.EvalOptions{Plan: q})
					return r.AnswerNLL, err
				})
				if err != nil {
					t.Fatal(err)
				}
				chosen, refused, worst := 0, 0, 0.0
				for l, row := range a.Chosen {
					for h, is := range row {
						retrieves := p.Retrieval[l][h*p.Options.G/len(row)]
						if is {
							chosen++
							if a.Gain[l][h] < 0 || retrieves && opt.Threshold == 0 {
								t.Errorf("head %d.%d (retrieves %t) is chosen with a gain of %g", l, h, retrieves, a.Gain[l][h])
							}
						} else if retrieves && a.Gain[l][h] < 0 {
							refused++
							worst = math.Min(worst, a.Gain[l][h])
						}
					}
				}
				if err := a.Write(plan, m.Arch, mass, record); err != nil {
					t.Fatal(err)
				}
				accuracy := served(t, m, prompts, plan)
				t.Logf("threshold %g: %d of %d heads chosen, %d that retrieve refused, with gains from %.3g; loss %.5f to %.5f, accuracy %.2f", opt.Threshold,
					chosen, a.Tried, refused, worst, a.Base, a.Loss, accuracy)
				if accuracy != 1 || a.Loss > a.Base+1e-6 || opt.Threshold > 0 && worst > -0.1 {
					t.Errorf("accuracy %g, loss %g to %g", accuracy, a.Base, a.Loss)
				}
			}
		})
	}
}
