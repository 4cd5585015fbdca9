package heads

import (
	"math"
	"reflect"
	"runtime"
	"testing"

	"modelpress/calib"
	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// slowProfile computes the bands of one layer from whole matrices in float64: influence by its formula, drops by leaving keys
// out and renormalizing.
type slowProfile struct{ influence, drop, dropAbs [][]float64 }

func newSlowProfile(g *nn.AttnGradState, window, width, sink int) slowProfile {
	s := g.Shape
	n := device.AttnBands(s.T, width)
	rows := func() [][]float64 {
		out := make([][]float64, s.G)
		for i := range out {
			out[i] = make([]float64, n)
		}
		return out
	}
	p := slowProfile{rows(), rows(), rows()}
	for h := range s.H {
		kv := h / (s.H / s.G)
		for i, a := range matrix(g.AttnState, h, device.Mask{Recent: window}) {
			slope, mean := make([]float64, s.T), 0.0
			for j := range i + 1 {
				for c := range s.K {
					slope[j] += float64(g.DOut[(i*s.H+h)*s.K+c]) * float64(g.V[(j*s.G+kv)*s.K+c])
				}
				mean += a[j] * slope[j]
			}
			for j := sink; j <= i; j++ {
				e := a[j] / (1 - a[j]) * (slope[j] - mean)
				if i == 0 {
					e = slope[j]
				}
				p.influence[kv][(i-j)/width] += math.Abs(e)
			}
			for b := 1; b <= i/width; b++ {
				var mass, kept float64
				for j := range i + 1 {
					if j < sink || i-j < width*b {
						mass += a[j]
						kept += a[j] * slope[j]
					}
				}
				p.drop[kv][b] += kept/mass - mean
				p.dropAbs[kv][b] += math.Abs(kept/mass - mean)
			}
		}
	}
	return p
}

// TestProfileAgainstTheMatrix: the profile of a random model is what whole matrices give.
func TestProfileAgainstTheMatrix(t *testing.T) {
	const width, sink, n = 16, 5, 90
	for _, name := range []string{"llama-gqa", "qwen3", "gpt2", "mistral-swa", "llama-pruned"} {
		t.Run(name, func(t *testing.T) {
			m := open(t, testmodel.Named(name))
			in := ProfileInput{Length: 96, Samples: WindowSamples(testmodel.Windows(2, n, m.Arch.V, 3), 20)}
			in.Samples[1].IDs = in.Samples[1].IDs[:50]
			p, err := newProfiler(m, in, ProfileOptions{Width: width, Sink: sink})
			if err != nil {
				t.Fatal(err)
			}
			want := LengthProfile{}
			for range m.Arch.Layers {
				want.Influence, want.Drop, want.DropAbs = append(want.Influence, nil), append(want.Drop, nil), append(want.DropAbs, nil)
			}
			tap := func(l, w int, g *nn.AttnGradState) error {
				g.Read(everything)
				g.ReadDOut()
				slow := newSlowProfile(g, m.Arch.Layers[l].Window, width, sink)
				for _, r := range []struct {
					to   *[][]float64
					from [][]float64
				}{{&want.Influence[l], slow.influence}, {&want.Drop[l], slow.drop}, {&want.DropAbs[l], slow.dropAbs}} {
					if *r.to == nil {
						for range g.Shape.G {
							*r.to = append(*r.to, make([]float64, device.AttnBands(96, width)))
						}
					}
					for kv, row := range r.from {
						for b, v := range row {
							(*r.to)[kv][b] += v / 2
						}
					}
				}
				return p.tap(l, w, g)
			}
			if err := m.Back(t.Context(), p.windows, nn.BackOptions{Tap: tap}, p.loss); err != nil {
				t.Fatal(err)
			}
			got, err := p.result()
			if err != nil {
				t.Fatal(err)
			}
			worst := 0.0
			for l, layer := range m.Arch.Layers {
				if len(got.Influence[l]) != kvHeads(layer) {
					t.Fatalf("layer %d has %d rows", l, len(got.Influence[l]))
				}
				for g := range kvHeads(layer) {
					size := sum(want.Influence[l][g])
					if size == 0 {
						t.Errorf("head %d.%d has no influence", l, g)
					}
					for b := range want.Influence[l][g] {
						for _, pair := range [][2]float64{{got.Influence[l][g][b], want.Influence[l][g][b]}, {got.Drop[l][g][b], want.Drop[l][g][b]},
							{got.DropAbs[l][g][b], want.DropAbs[l][g][b]}} {
							worst = math.Max(worst, math.Abs(pair[0]-pair[1])/size)
						}
					}
				}
			}
			if !(worst < 1e-6) {
				t.Errorf("differs by up to %g of a head's influence", worst)
			}
			t.Logf("differs by up to %g", worst)
		})
	}
}

// TestJointIsTheMask: Drop and DropAbs are the change of the linear loss, as a whole and query by query, where attention is run
// again under the narrower mask.
func TestJointIsTheMask(t *testing.T) {
	const width, sink, n = 8, 3, 70
	m := open(t, testmodel.Named("qwen3"))
	in := ProfileInput{Length: n, Samples: WindowSamples(testmodel.Windows(1, n, m.Arch.V, 3), 30)}
	p, err := newProfiler(m, in, ProfileOptions{Width: width, Sink: sink})
	if err != nil {
		t.Fatal(err)
	}
	var want [][][2][]float64 // [layer][KV head]: drop and its magnitude by span
	for _, l := range m.Arch.Layers {
		want = append(want, make([][2][]float64, l.G))
	}
	tap := func(l, w int, g *nn.AttnGradState) error {
		g.Read(everything)
		g.ReadDOut()
		s := g.Shape
		buf, err := g.Dev.Alloc(device.F32, len(g.Out))
		if err != nil {
			return err
		}
		defer buf.Free()
		out := make([]float32, len(g.Out))
		for b := range device.AttnBands(n, width) {
			masks := make([]device.Mask, s.G)
			for kv := range masks {
				masks[kv] = device.Mask{Sink: sink, Recent: width * max(1, b)}
			}
			g.Dev.Attention(buf, nil, g.DevQ, g.DevK, g.DevV, s, masks)
			g.Dev.Download(out, buf, 0)
			for kv := range s.G {
				change, size := 0.0, 0.0
				for h := kv * (s.H / s.G); h < (kv+1)*(s.H/s.G); h++ {
					for i := range s.T {
						row := 0.0
						for c := range s.K {
							at := (i*s.H+h)*s.K + c
							row += float64(g.DOut[at]) * (float64(out[at]) - float64(g.Out[at]))
						}
						change += row
						size += math.Abs(row)
					}
				}
				want[l][kv][0], want[l][kv][1] = append(want[l][kv][0], change), append(want[l][kv][1], size)
			}
		}
		return p.tap(l, w, g)
	}
	if err := m.Back(t.Context(), p.windows, nn.BackOptions{Tap: tap}, p.loss); err != nil {
		t.Fatal(err)
	}
	got, err := p.result()
	if err != nil {
		t.Fatal(err)
	}
	for l, layer := range want {
		for g, w := range layer {
			for span := 1; span <= n; span++ {
				b := (span + width - 1) / width
				drop, abs := 0.0, 0.0
				if b < len(w[0]) {
					drop, abs = w[0][b], w[1][b]
				}
				tol := 2e-5 * w[1][1]
				if j := got.Joint(l, g, span); !near(j, abs, tol) || b < len(w[0]) && !near(got.Drop[l][g][b], drop, tol) {
					t.Errorf("head %d.%d, span %d: joint %g, want %g; drop %g, want %g", l, g, span, j, abs, got.Drop[l][g][min(b, len(w[0])-1)], drop)
				}
			}
		}
	}
}

// TestProfileFindsPlantedHeads: on retrieval prompts the planted heads have the most to lose, by both forms; a prompt that the
// model does not answer counts for nothing.
func TestProfileFindsPlantedHeads(t *testing.T) {
	p, m, prompts := planted(t)
	samples, err := PromptSamples(prompts)
	if err != nil {
		t.Fatal(err)
	}
	opt := ProfileOptions{Width: 16, Sink: 4}
	profile, err := MoAProfile(t.Context(), m, []ProfileInput{{162, samples}, {200, samples[:3]}}, opt)
	if err != nil {
		t.Fatal(err)
	}
	for i := range profile.Lengths {
		additive, joint := profile.Lengths[i].Scores(32)
		for _, s := range []*Scores{additive, joint} {
			if best := SelectCount(s.KV, 2); !reflect.DeepEqual(best.Full, p.Retrieval) {
				t.Errorf("length %d, %s: selected %v of %v", profile.Lengths[i].Length, s.Method, best.Full, s.KV)
			}
		}
	}
	first := &profile.Lengths[0]
	if first.Samples != len(prompts) || first.NLL <= 0 || len(first.Influence[0][0]) != 11 || len(profile.Lengths[1].Influence[0][0]) != 13 {
		t.Errorf("%d samples, nll %g, %d bands", first.Samples, first.NLL, len(first.Influence[0][0]))
	}
	if first.Additive(1, 2, 500) != 0 || first.Joint(1, 2, 500) != 0 || first.Additive(1, 2, 17) != first.Additive(1, 2, 32) ||
		first.Joint(1, 2, 0) != first.Joint(1, 2, 16) {
		t.Error("spans do not stand for whole bands")
	}
	wrong := samples[0]
	wrong.Answer = []int32{1, 1, 1}
	mixed, err := MoAProfile(t.Context(), m, []ProfileInput{{162, append([]ProfileSample{wrong}, samples...)}}, opt)
	if err != nil {
		t.Fatal(err)
	}
	got, want := mixed.Lengths[0], *first
	if got.labels[0] != nil || !reflect.DeepEqual(got.labels[1:], want.labels) {
		t.Error("labels are not those of the prompts that are answered")
	}
	if got.labels, want.labels = nil, nil; !reflect.DeepEqual(got, want) {
		t.Error("a prompt that is not answered changes the profile")
	}
	for name, in := range map[string][]ProfileInput{
		"none": nil, "no samples": {{10, nil}}, "too long": {{100, samples}}, "unanswered": {{162, []ProfileSample{wrong}}},
		"rows": {{162, []ProfileSample{{IDs: samples[0].IDs, Rows: 1000}}}}, "no rows": {{162, []ProfileSample{{IDs: samples[0].IDs}}}},
		"answer": {{162, []ProfileSample{{IDs: samples[0].IDs, Rows: 2, Answer: []int32{1}}}}},
	} {
		if _, err := MoAProfile(t.Context(), m, in, opt); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, opt := range []ProfileOptions{{Width: -1}, {Sink: -1}} {
		if _, err := MoAProfile(t.Context(), m, []ProfileInput{{162, samples}}, opt); err == nil {
			t.Errorf("%+v: no error", opt)
		}
	}
	if _, err := PromptSamples([]calib.Prompt{{}}); err == nil {
		t.Error("an empty prompt is accepted")
	}
}

// TestProfileIsTheSame: a profile depends on neither threads nor where states are kept.
func TestProfileIsTheSame(t *testing.T) {
	src := testmodel.Named("llama-gqa")
	var want *Profile
	for i, threads := range []int{1, 2, 3} {
		m := nn.New(deviceOf(threads), src, open(t, src).Arch)
		opt := ProfileOptions{Width: 8, Sink: 2}
		last, calls := 0, 0
		opt.Progress = func(done, total int) { calls++; last = total - done }
		if i == 1 {
			opt.Dir, opt.MemLimit = t.TempDir(), 1
		}
		in := []ProfileInput{{64, WindowSamples(testmodel.Windows(2, 64, 256, 1), 9)}, {150, WindowSamples(testmodel.Windows(2, 150, 256, 2), 9)}}
		got, err := MoAProfile(t.Context(), m, in, opt)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d threads: another profile", threads)
		}
		if last != 0 || calls != 16 {
			t.Errorf("progress ends %d before the end after %d calls", last, calls)
		}
	}
}

// TestProfileMemoryIsLinear: what statistics and gradients of one layer take from the heap, all together and whatever was given
// back meanwhile, grows as the length does.
func TestProfileMemoryIsLinear(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const h, g, k = 1, 1, 32
	var before float64
	for _, n := range []int{4096, 8192, 16384, 32768} {
		dev := cpu.New(2)
		s := device.AttnShape{T: n, H: h, G: g, K: k, Scale: 0.17}
		runtime.GC()
		runtime.GC() // pools are empty after the second
		var start, end runtime.MemStats
		runtime.ReadMemStats(&start)
		buf := func(n int) device.Buf {
			b, err := dev.Alloc(device.F32, n)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := 0, dev.Host(b); i < n; i++ {
				v[i] = float32(math.Sin(float64(i) * 0.7))
			}
			return b
		}
		q, kb, v, dout := buf(n*h*k), buf(n*g*k), buf(n*g*k), buf(n*h*k)
		out, lse, dq, dk, dv := buf(n*h*k), buf(n*h), buf(n*h*k), buf(n*g*k), buf(n*g*k)
		dev.Attention(out, lse, q, kb, v, s, nil)
		bands := device.AttnBands(n, 0)
		st := &device.AttnStats{Sink: 64, Influence: make([]float64, h*bands), Drop: make([]float64, h*bands), DropAbs: make([]float64, h*bands)}
		dev.AttnStatistics(st, q, kb, v, out, dout, lse, s, nil)
		dev.AttentionBack(dq, dk, dv, dout, q, kb, v, out, lse, s, nil)
		runtime.ReadMemStats(&end)
		bytes := float64(end.TotalAlloc - start.TotalAlloc)
		t.Logf("T %d: %.1f MiB, %.0f bytes per position", n, bytes/(1<<20), bytes/float64(n))
		if perRow := bytes / float64(n); before > 0 && perRow > 1.3*before {
			t.Errorf("T %d: %.0f bytes per position, %.0f at the shortest length", n, perRow, before)
		} else if before == 0 {
			before = perRow
		}
		if st.DropAbs[1] <= 0 {
			t.Error("nothing was measured")
		}
	}
}
