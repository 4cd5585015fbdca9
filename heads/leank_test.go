package heads

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"testing"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

func findLeanK(t *testing.T, m *nn.Model, w calib.Windows, opt LeanKOptions) *LeanK {
	t.Helper()
	k, err := FindLeanK(context.Background(), m, w, opt)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// slowMaskError is the error of masks by whole matrices, [layer][KV head].
func slowMaskError(t *testing.T, m *nn.Model, w calib.Windows, keep [][][]bool) [][]float64 {
	t.Helper()
	diff, full := rowsOf(m.Arch.Layers, kvHeads), rowsOf(m.Arch.Layers, kvHeads)
	tap := func(layer, _ int, r rows) {
		r.Read(everything)
		s := r.Shape
		cut := nn.AttnState{Shape: s, Q: append([]float32(nil), r.Q...), K: r.K, V: r.V}
		for i := range cut.Q {
			if h := i / s.K % s.H; !keep[layer][h/(s.H/s.G)][i%s.K] {
				cut.Q[i] = 0
			}
		}
		for h := range s.H {
			mask := device.Mask{Recent: r.window}
			a, b := headOutput(r.AttnState, h, matrix(r.AttnState, h, mask)), headOutput(&cut, h, matrix(&cut, h, mask))
			for i := range a {
				for c := range a[i] {
					diff[layer][h/(s.H/s.G)] += (a[i][c] - b[i][c]) * (a[i][c] - b[i][c])
					full[layer][h/(s.H/s.G)] += a[i][c] * a[i][c]
				}
			}
		}
	}
	if err := (Options{}).observe(context.Background(), m, w.IDs, tap, nil); err != nil {
		t.Fatal(err)
	}
	for l := range diff {
		for g := range diff[l] {
			diff[l][g] = math.Sqrt(diff[l][g] / full[l][g])
		}
	}
	return diff
}

// slowShares recomputes the shares of channels in float64, head by head.
func slowShares(t *testing.T, m *nn.Model, w calib.Windows) [][][]float64 {
	t.Helper()
	out := make([][][]float64, len(m.Arch.Layers))
	q2, k2 := map[[3]int]float64{}, map[[3]int]float64{}
	tap := func(layer, _ int, r rows) {
		r.Read(everything)
		s := r.Shape
		for i := range s.T {
			for c := range s.K {
				for h := range s.H {
					v := float64(r.Q[(i*s.H+h)*s.K+c])
					q2[[3]int{layer, h, c}] += v * v / float64(w.Tokens())
				}
				for g := range s.G {
					v := float64(r.K[(i*s.G+g)*s.K+c])
					k2[[3]int{layer, g, c}] += v * v / float64(w.Tokens())
				}
			}
		}
	}
	if err := (Options{}).observe(context.Background(), m, w.IDs, tap, nil); err != nil {
		t.Fatal(err)
	}
	for l, a := range m.Arch.Layers {
		for g := range kvHeads(a) {
			v, total := make([]float64, a.K), 0.0
			for h := range a.H {
				for c := range a.K {
					if h/(a.H/a.G) != g {
						continue
					}
					add := q2[[3]int{l, h, c}] * k2[[3]int{l, g, c}]
					v[c] += add
					if m.Arch.Rope != nil { // the partner is half a head away
						v[(c+a.K/2)%a.K] += add
					}
				}
			}
			for _, x := range v {
				total += x
			}
			for c := range v {
				v[c] /= total
			}
			out[l] = append(out[l], v)
		}
	}
	return out
}

// TestFindLeanKAgainstTheMatrix: shares, masks and errors by definition, in every family.
func TestFindLeanKAgainstTheMatrix(t *testing.T) {
	for _, name := range oracleModels {
		t.Run(name, func(t *testing.T) {
			model := testmodel.Named(name)
			w := mixedWindows(model)
			opt := LeanKOptions{Keep: 0.4, Align: 2}
			got := everyThreads(t, model, func(m *nn.Model) *LeanK { return findLeanK(t, m, w, opt) })
			m := open(t, model)
			shares, errs := slowShares(t, m, w), slowMaskError(t, m, w, got.Keep)
			for l, a := range m.Arch.Layers {
				for g := range kvHeads(a) {
					least, largest, n := math.Inf(1), 0.0, 0
					for c, stays := range got.Keep[l][g] {
						closeTo(t, "share", l, c, got.Share[l][g][c], shares[l][g][c])
						if m.Arch.Rope != nil && stays != got.Keep[l][g][(c+a.K/2)%a.K] {
							t.Errorf("%d.%d: channel %d is parted from its partner", l, g, c)
						}
						if stays {
							n, least = n+1, math.Min(least, shares[l][g][c])
						} else {
							largest = math.Max(largest, shares[l][g][c])
						}
					}
					if want := int(math.Ceil(0.4*float64(a.K)/2)) * 2; n != want || least < largest-1e-6 {
						t.Errorf("%d.%d: %d channels stay, want %d; the least share %g, the largest that goes %g", l, g, n, want, least, largest)
					}
					closeTo(t, "error", l, g, got.Error.KV[l][g], errs[l][g])
				}
			}
			p := Draft(m.Arch)
			if err := got.Write(p, m.Arch, record); err != nil {
				t.Fatal(err)
			}
			sound(t, p)
			for l, row := range got.Keep {
				for g, keep := range row {
					back, err := ParseChannelMask(p.Layers[l].KVHeads[g].KChannelMask, len(keep))
					if err != nil || !reflect.DeepEqual(back, keep) {
						t.Errorf("%d.%d: mask %q, %v", l, g, p.Layers[l].KVHeads[g].KChannelMask, err)
					}
				}
			}
		})
	}
}

// TestLeanKRefined: exchanges never raise the error, lower some, keep the number of channels, and the error is that of the
// final mask.
func TestLeanKRefined(t *testing.T) {
	for _, name := range []string{"qwen3", "gpt2", "mistral-swa", "llama-pruned"} {
		model := testmodel.Named(name)
		w := mixedWindows(model)
		opt := LeanKOptions{Keep: 0.5, Align: 2}
		static := findLeanK(t, open(t, model), w, opt)
		opt.Refine = 6
		got := everyThreads(t, model, func(m *nn.Model) *LeanK { return findLeanK(t, m, w, opt) })
		errs := slowMaskError(t, open(t, model), w, got.Keep)
		lower := 0
		for l, row := range got.Error.KV {
			for g, v := range row {
				closeTo(t, name+" error", l, g, v, errs[l][g])
				if v > static.Error.KV[l][g] {
					t.Errorf("%s %d.%d: error %g, static %g", name, l, g, v, static.Error.KV[l][g])
				}
				if v < static.Error.KV[l][g] {
					lower++
				}
				if a, b := stays(got.Keep[l][g]), stays(static.Keep[l][g]); a != b {
					t.Errorf("%s %d.%d: %d channels, static %d", name, l, g, a, b)
				}
			}
		}
		if lower == 0 {
			t.Errorf("%s: no error falls", name)
		}
	}
}

func stays(keep []bool) (n int) {
	for _, k := range keep {
		if k {
			n++
		}
	}
	return n
}

// TestLeanKIdentity: keeping all channels changes no bit; and channels that keys do not use are the ones that go, free of charge.
func TestLeanKIdentity(t *testing.T) {
	model := testmodel.Named("llama-wide-heads")
	w := mixedWindows(model)
	all := findLeanK(t, open(t, model), w, LeanKOptions{Keep: 1, Refine: 3})
	p := Draft(open(t, model).Arch)
	if err := all.Write(p, open(t, model).Arch, record); err != nil {
		t.Fatal(err)
	}
	for l, row := range all.Error.KV {
		for g, v := range row {
			if v != 0 || p.Layers[l].KVHeads[g].KChannelMask != "" {
				t.Errorf("%d.%d: error %g, mask %q", l, g, v, p.Layers[l].KVHeads[g].KChannelMask)
			}
		}
	}
	const k = 32
	idle := func(l, g, c int) bool { return (c%(k/2)+l+g)%2 == 0 }
	for l := range 2 {
		name := fmt.Sprintf("model.layers.%d.self_attn.k_proj.weight", l)
		v, err := model.Values(name)
		if err != nil {
			t.Fatal(err)
		}
		width := len(v) / (2 * k)
		for row := range 2 * k {
			if idle(l, row/k, row%k) {
				clear(v[row*width : (row+1)*width])
			}
		}
		model.Set(name, v)
	}
	got := findLeanK(t, open(t, model), w, LeanKOptions{Keep: 0.5, Align: 16})
	for l, row := range got.Keep {
		for g, keep := range row {
			for c, s := range keep {
				if s == idle(l, g, c) {
					t.Errorf("%d.%d: channel %d stays: %v", l, g, c, s)
				}
			}
			if got.Error.KV[l][g] > 1e-6 {
				t.Errorf("%d.%d: error %g", l, g, got.Error.KV[l][g])
			}
		}
	}
}

func TestChannelMask(t *testing.T) {
	keep := []bool{true, false, false, false, false, true, true, true, true, true}
	if got := ChannelMask(keep); got != "87c" {
		t.Errorf("%q", got)
	}
	for mask, k := range map[string]int{"87d": 10, "87": 10, "87cc": 10, "8Zc": 10, "8Cc": 10} {
		if _, err := ParseChannelMask(mask, k); err == nil {
			t.Errorf("%q: no error", mask)
		}
	}
}

func TestLeanKCounts(t *testing.T) {
	for _, c := range []struct {
		keep     float64
		align, k int
		want     int
	}{{0, 0, 128, 40}, {0.3, 32, 128, 64}, {0.3, 32, 64, 32}, {0.25, 32, 128, 32}, {1, 8, 80, 80}, {0.3, 128, 64, 64}, {0.001, 8, 64, 8}, {0.3, 10, 64, 20}} {
		opt := LeanKOptions{Keep: c.keep, Align: c.align}
		if err := opt.fill(true); err != nil {
			t.Fatal(err)
		}
		if got := opt.count(c.k); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	m := open(t, testmodel.Named("llama-gqa"))
	for name, opt := range map[string]LeanKOptions{"share": {Keep: 2}, "odd": {Align: 3}, "refine": {Refine: -1}} {
		if _, err := FindLeanK(context.Background(), m, mixedWindows(testmodel.Named("llama-gqa")), opt); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := FindLeanK(context.Background(), m, calib.Windows{}, LeanKOptions{}); err == nil {
		t.Error("no windows: no error")
	}
	if err := findLeanK(t, m, mixedWindows(testmodel.Named("llama-gqa")), LeanKOptions{}).Write(Draft(&arch.Model{Layers: make([]arch.Layer, 1)}), &arch.Model{Layers: make([]arch.Layer, 1)}, record); err == nil {
		t.Error("other model: no error")
	}
}
