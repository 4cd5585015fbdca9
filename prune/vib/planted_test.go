package vib

import (
	"slices"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
	"modelpress/prune"
)

// planted is a model of which some units do nothing, since what they would write is multiplied by idle, and the others a lot, since
// it is multiplied by busy.
type planted struct {
	*testmodel.Model
	a *arch.Model
}

func newPlanted(t *testing.T, o testmodel.Options) *planted {
	src := testmodel.New(o)
	return &planted{src, describe(t, src.Config, src)}
}

// change multiplies the weight of output o and input i of a projection.
func (p *planted) change(t *testing.T, lin arch.Linear, f func(o, i int) float32) {
	t.Helper()
	v, err := p.Values(lin.Weight)
	if err != nil {
		t.Fatal(err)
	}
	for o := range lin.Out {
		for i := range lin.In {
			at := o*lin.In + i
			if lin.Transposed {
				at = i*lin.Out + o
			}
			v[at] *= f(o, i)
		}
	}
	p.Set(lin.Weight, v)
}

func (p *planted) table(t *testing.T, name string, f func(row, c int) float32) {
	t.Helper()
	v, err := p.Values(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range v {
		v[i] *= f(i/p.a.D, i%p.a.D)
	}
	p.Set(name, v)
}

// loud multiplies by gain what is not idle.
func loud(idle bool, gain float32) float32 {
	if idle {
		return 0
	}
	return gain
}

// layers makes units of layers idle: KV heads, with their queries, FFN channels, and whole layers.
func (p *planted) layers(t *testing.T, gain float32, head, channel func(l, i int) bool, layer func(l int) bool) {
	for l := range p.a.Layers {
		a := &p.a.Layers[l]
		p.change(t, a.Linears[arch.O], func(_, i int) float32 { return loud(layer(l) || head(l, i/a.K/(a.H/a.G)), gain) })
		p.change(t, a.Linears[arch.Down], func(_, i int) float32 { return loud(layer(l) || channel(l, i), gain) })
	}
}

func never(int, int) bool { return false }

// share is what of the parameters is left once counts of units are.
func (p *planted) share(d, g, f int, layer func(l int) bool) float64 {
	e := prune.Expected{Hidden: float64(d), Layers: make([]prune.ExpectedLayer, len(p.a.Layers))}
	for l := range e.Layers {
		if !layer(l) {
			e.Layers[l] = prune.ExpectedLayer{Layer: 1, Heads: float64(g), FFN: float64(f)}
		}
	}
	return prune.Expect(p.a, 0, e).Params.Value / prune.Expect(p.a, 0, prune.All(p.a)).Params.Value
}

// search prunes the model to a share, with sizes of their own for all layers.
func (p *planted) search(t *testing.T, share float64, r prune.Rules) *Masks {
	t.Helper()
	opt := quick(share)
	opt.Rules = r
	opt.Rules.HiddenMultiple, opt.Rules.FFNMultiple, opt.Rules.AnyHeads = 1, 1, true
	k := newMasks(t, p.a, opt)
	m := plain(p, p.a, 2)
	train(t, trainer(m, k, opt.Search))
	if _, err := k.Compact(); err != nil {
		t.Fatal(err)
	}
	train(t, trainer(plain(p, p.a, 2), k, opt.Tune))
	return k
}

var plantedModel = testmodel.Options{Layers: 3, D: 32, H: 8, G: 4, K: 8, F: 48, V: 64, Context: 32, Seed: 5}

func nowhere(int) bool { return false }

// TestFindsIdleChannels: FFN channels that do nothing are what goes, whether they are half of all or all but a few.
func TestFindsIdleChannels(t *testing.T) {
	for _, busy := range []int{24, 5} {
		p := newPlanted(t, plantedModel)
		idle := func(l, i int) bool { return (i*7+l)%48 >= busy }
		p.layers(t, 2, never, idle, nowhere)
		k := p.search(t, p.share(32, 4, busy, nowhere), prune.Rules{FFN: true})
		for l, c := range k.Cut().Layers {
			for i := range 48 {
				if !idle(l, i) && !slices.Contains(c.FFN.Keep, i) {
					t.Errorf("%d busy: layer %d keeps channels %v, not %d", busy, l, c.FFN.Keep, i)
				}
			}
		}
	}
}

// TestFindsIdleHeads: the KV head goes whose query heads do nothing. The others read the same keys and values, as neighbours, in masks
// and in the smaller model: it predicts what the whole one does.
func TestFindsIdleHeads(t *testing.T) {
	p := newPlanted(t, plantedModel)
	gone := []int{2, 1, 0}
	p.layers(t, 2, func(l, g int) bool { return g == gone[l] }, never, nowhere)
	k := p.search(t, p.share(32, 3, 48, nowhere), prune.Rules{Heads: true})
	c := k.Cut()
	for l := range c.Layers {
		if keep := c.Layers[l].Heads.Keep; len(keep) != 3 || slices.Contains(keep, gone[l]) {
			t.Fatalf("layer %d keeps KV heads %v, and %d does nothing", l, keep, gone[l])
		}
		c.Layers[l].Heads.Scale = nil
	}
	ids := testmodel.Windows(1, 24, p.a.V, 9)[0]
	want, err := plain(p, p.a, 1).Logits(ids)
	if err != nil {
		t.Fatal(err)
	}
	small, b, err := prune.View(p, p.a, c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := nn.New(cpu.New(1), small, b).Logits(ids)
	if err != nil {
		t.Fatal(err)
	}
	if d := apart(got, want); !(d <= 1e-5) {
		t.Errorf("without the heads that do nothing, logits differ by %.3g", d)
	}
}

// TestFindsIdleStream: channels of the stream that nothing writes to go.
func TestFindsIdleStream(t *testing.T) {
	p := newPlanted(t, plantedModel)
	idle := func(c int) bool { return c%4 == 1 }
	p.layers(t, 2, never, never, nowhere)
	for l := range p.a.Layers {
		for _, r := range []arch.Role{arch.O, arch.Down} {
			p.change(t, p.a.Layers[l].Linears[r], func(o, _ int) float32 { return loud(idle(o), 1) })
		}
	}
	p.table(t, p.a.Embed, func(_, c int) float32 { return loud(idle(c), 1) })
	k := p.search(t, p.share(24, 4, 48, nowhere), prune.Rules{Hidden: true})
	for _, c := range k.Cut().Hidden.Keep {
		if idle(c) {
			t.Errorf("channel %d stays, which nothing writes to", c)
		}
	}
}

// TestFindsIdleLayer: a layer that adds nothing goes, and of the others none.
func TestFindsIdleLayer(t *testing.T) {
	for gone := range 3 {
		p := newPlanted(t, plantedModel)
		idle := func(l int) bool { return l == gone }
		p.layers(t, 2, never, never, idle)
		k := p.search(t, p.share(32, 4, 48, idle), prune.Rules{Depth: true})
		for l, c := range k.Cut().Layers {
			if c.Drop != idle(l) {
				t.Errorf("layer %d does nothing; dropped is layer %d: %v", gone, l, c.Drop)
			}
		}
	}
}

// TestFindsIdleUnits: among units of all kinds, those go that do nothing.
func TestFindsIdleUnits(t *testing.T) {
	p := newPlanted(t, plantedModel)
	head := func(l, g int) bool { return g == l }
	channel := func(l, i int) bool { return i%3 == l%3 }
	p.layers(t, 2, head, channel, nowhere)
	k := p.search(t, p.share(32, 3, 32, nowhere), prune.Rules{Heads: true, FFN: true, Depth: true})
	wrong := 0
	for l, c := range k.Cut().Layers {
		if c.Drop {
			t.Fatalf("layer %d is dropped", l)
		}
		for _, g := range c.Heads.Keep {
			if head(l, g) {
				t.Errorf("layer %d keeps KV head %d, which does nothing", l, g)
			}
		}
		for _, i := range c.FFN.Keep {
			if channel(l, i) {
				wrong++
			}
		}
	}
	if wrong > 3 { // the heads' parameters are not a multiple of the channels'
		t.Errorf("%d FFN channels stay that do nothing", wrong)
	}
}
