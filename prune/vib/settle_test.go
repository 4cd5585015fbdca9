package vib

import (
	"testing"

	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
	"modelpress/prune"
)

// shapes are models of every kind of layer.
func shapes() map[string]testmodel.Options {
	base := testmodel.Options{Layers: 4, D: 32, H: 4, F: 64, V: 48, Context: 32, Seed: 7}
	with := func(f func(o *testmodel.Options)) testmodel.Options { o := base; f(&o); return o }
	return map[string]testmodel.Options{
		"llama":       base,
		"llama, gqa":  with(func(o *testmodel.Options) { o.H, o.K, o.G = 8, 8, 4 }),
		"llama, bias": with(func(o *testmodel.Options) { o.Bias, o.G = true, 2 }),
		"tied":        with(func(o *testmodel.Options) { o.Tied, o.G = true, 2 }),
		"qwen3":       with(func(o *testmodel.Options) { o.Family, o.K, o.G = "qwen3", 16, 2 }),
		"mistral":     with(func(o *testmodel.Options) { o.Family, o.Window, o.G = "mistral", 8, 2 }),
		"gpt2":        with(func(o *testmodel.Options) { o.Family = "gpt2" }),
		"uneven": with(func(o *testmodel.Options) {
			o.PerLayer = map[int]testmodel.Sizes{1: {NoAttention: true}, 2: {NoFeedFwd: true}, 3: {H: 4, G: 2, F: 48}}
		}),
	}
}

// TestMaskedIsSliced: masks without noise compute what the smaller model does that their cut makes, for the counts of single layers
// and for uniform ones, and the smaller model meets the target.
func TestMaskedIsSliced(t *testing.T) {
	for name, o := range shapes() {
		for _, share := range []float64{0.75, 0.5} {
			for _, portable := range []bool{false, true} {
				if portable && name == "uneven" {
					continue
				}
				t.Run(name, func(t *testing.T) {
					src := testmodel.New(o)
					a := describe(t, src.Config, src)
					opt := quick(share)
					opt.Rules.HiddenMultiple, opt.Rules.FFNMultiple = 1, 1
					k := newMasks(t, a, opt)
					shaken(k, 11)
					m := plain(src, a, 1)
					if err := settle(k, portable); err != nil {
						t.Fatal(err)
					}
					for i := range k.mu { // as tuning would
						k.mu[i] *= 1 + float32(i%5)/20
					}
					ids := testmodel.Windows(1, 24, a.V, 3)[0]
					want := masked(t, m, k, ids)
					small, b, err := prune.View(src, a, k.Cut())
					if err != nil {
						t.Fatal(err)
					}
					if share, ok := opt.Target.Reached(a, b); !ok {
						t.Errorf("%.4f of the parameters are left of %g", share, opt.Target.Share)
					}
					got, err := nn.New(cpu.New(1), small, b).Logits(ids)
					if err != nil {
						t.Fatal(err)
					}
					if d := apart(got, want); !(d <= 1e-4) {
						t.Errorf("logits differ by %.3g", d)
					}
					whole, err := m.Logits(ids)
					if err != nil {
						t.Fatal(err)
					}
					if d := apart(whole, want); d < 0.01 {
						t.Errorf("the masks change logits by %.3g only", d)
					}
				})
			}
		}
	}
}

// settle chooses units for one shape of all layers, or for sizes of each.
func settle(k *Masks, portable bool) error {
	if !portable {
		_, err := k.Compact()
		return err
	}
	shapes, err := prune.Shapes(k.arch, k.opt.Target, k.opt.Rules, prune.Wish{Most: 1})
	if err != nil {
		return err
	}
	c, err := shapes[0].Counts(k.arch, k.Scores())
	if err != nil {
		return err
	}
	return k.Settle(c)
}

// TestWanted: the threshold of log α is the highest at which what stays costs no more than the target.
func TestWanted(t *testing.T) {
	for _, share := range []float64{0.95, 0.7, 0.4, 0.15} {
		src := testmodel.New(shapes()["llama, gqa"])
		a := describe(t, src.Config, src)
		k := newMasks(t, a, quick(share))
		shaken(k, 8)
		want, best, most := k.Wanted(), prune.Expected{}, 0.0
		for th := range k.u.n { // every threshold, one after the other
			part := make([]float64, k.u.n)
			for i := range part {
				if k.alpha(i) <= k.alpha(th) {
					part[i] = 1
				}
			}
			e := k.u.expected(part)
			cost := prune.Expect(a, 0, e).Params.Value / prune.Expect(a, 0, prune.All(a)).Params.Value
			if cost <= share && sum(part) > most {
				best, most = e, sum(part)
			}
		}
		for l := range best.Layers {
			if want.Hidden != best.Hidden || want.Layers[l] != best.Layers[l] {
				t.Fatalf("share %g: wanted %+v, want %+v", share, want, best)
			}
		}
	}
}

// TestSettleAgain: settling for everything with multipliers of one leaves the model as it is, and settling anew forgets what was settled.
func TestSettleAgain(t *testing.T) {
	src := testmodel.New(shapes()["llama, gqa"])
	a := describe(t, src.Config, src)
	k := newMasks(t, a, quick(0.5))
	for i := range k.mu {
		k.mu[i] = 1
	}
	all := &prune.Counts{Hidden: a.D, Layers: make([]prune.LayerCounts, len(a.Layers))}
	for l := range all.Layers {
		all.Layers[l] = prune.LayerCounts{Heads: a.Layers[l].G, FFN: a.Layers[l].F}
	}
	if _, err := k.Compact(); err != nil {
		t.Fatal(err)
	}
	if k.Cut().Identity(a) {
		t.Error("half a model is the whole")
	}
	if err := k.Settle(all); err != nil {
		t.Fatal(err)
	}
	if !k.Cut().Identity(a) {
		t.Error("the whole model is not itself")
	}
	ids := testmodel.Windows(1, 20, a.V, 3)[0]
	m := plain(src, a, 1)
	want, err := m.Logits(ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range masked(t, m, k, ids) {
		if v != want[i] {
			t.Fatal("masks of ones change bits")
		}
	}
	all.Layers[1].FFN++
	if k.Settle(all) == nil {
		t.Error("more channels than there are")
	}
}
