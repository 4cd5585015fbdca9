package prune

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"modelpress/internal/testmodel"
)

// FLOPs by hand, for one layer of every kind.
func TestCount(t *testing.T) {
	const layer = 64*64*2*2 + 64*16*2*2 + 3*64*192*2 // q and o, k and v, FFN
	for _, c := range []struct {
		options testmodel.Options
		length  int
		flops   int64
	}{
		{testmodel.Options{G: 2, Layers: 1}, 0, layer + 2*256*64},
		{testmodel.Options{G: 2, Layers: 1}, 100, layer + 2*256*64 + 4*64*50},
		{testmodel.Options{G: 2, Layers: 3, Tied: true}, 100, 3*(layer+4*64*50) + 2*256*64},
		{testmodel.Options{Family: "mistral", G: 2, Layers: 1, Window: 40}, 100, layer + 2*256*64 + 2*64*(2*40-16)},
		{testmodel.Options{Family: "mistral", G: 2, Layers: 1, Window: 100}, 100, layer + 2*256*64 + 4*64*50},
		{testmodel.Options{Family: "gpt2", Layers: 1}, 10, 4*64*64*2 + 2*64*256*2 + 2*256*64 + 4*64*5},
	} {
		src := testmodel.New(c.options)
		m := describe(t, src.Config, src)
		got := Count(m, c.length)
		if got.FLOPs != c.flops || got.Params != countValues(src) || got.KVBytes != int64(len(m.Layers)*m.Layers[0].G*8*2*2) {
			t.Errorf("%+v: %+v, want %d operations", c.options, got, c.flops)
		}
	}
	src := testmodel.New(testmodel.Llama38B())
	m := describe(t, src.Config, src)
	if c := Count(m, 0); c.Params != 8030261248 || c.FLOPs != 2*(8030261248-128256*4096-65*4096) || c.KVBytes != 131072 {
		t.Errorf("Llama-3-8B: %+v", c)
	}
	for _, n := range []int{-1, MaxLength + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a context of %d tokens", n)
				}
			}()
			Count(m, n)
		}()
	}
}

// At whole numbers, what is expected is what the smaller model has, to the last parameter.
func TestExpectIsCount(t *testing.T) {
	for name, o := range models() {
		src := testmodel.New(o)
		m := describe(t, src.Config, src)
		for seed := range uint64(6) {
			c := randomCut(m, seed, false)
			if seed == 5 {
				c = &Cut{Layers: make([]CutLayer, len(m.Layers))}
			}
			v, n, err := View(src, m, c)
			if err != nil {
				t.Fatal(err)
			}
			want, got := Count(n, 77), Expect(m, 77, c.Counts(m).Expected())
			if got.Params.Value != float64(want.Params) || got.FLOPs.Value != float64(want.FLOPs) || got.KVBytes.Value != float64(want.KVBytes) ||
				want.Params != countValues(v) {
				t.Errorf("%s, cut %d: %g, %g, %g, want %+v", name, seed, got.Params.Value, got.FLOPs.Value, got.KVBytes.Value, want)
			}
		}
	}
	src := testmodel.New(testmodel.Llama38B())
	m := describe(t, src.Config, src)
	if got, want := Expect(m, 8192, All(m)), Count(m, 8192); got.Params.Value != float64(want.Params) || got.FLOPs.Value != float64(want.FLOPs) {
		t.Errorf("Llama-3-8B: %g, %g, want %+v", got.Params.Value, got.FLOPs.Value, want)
	}
}

// Derivatives are those of differences on both sides, which are exact but for rounding: the costs are of degree one in each number
// away from 1.
func TestExpectGradients(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 1))
	for name, o := range models() {
		src := testmodel.New(o)
		m := describe(t, src.Config, src)
		e := Expected{Hidden: 40.3}
		for l := range m.Layers {
			e.Layers = append(e.Layers, ExpectedLayer{rnd.Float64(), 0.3 + 2*rnd.Float64(), 100 * rnd.Float64()})
			if l == 0 {
				e.Layers[0].FFN, e.Layers[0].Heads = 0.6, 1.5
			}
		}
		cost := Expect(m, 50, e)
		if name == "gpt2" && cost.Params.Grad.Layers[0].Layer == 0 {
			t.Error("no gradient")
		}
		check := func(what string, x *float64, grad func(s *Expected) float64) {
			const h = 1e-3
			at := *x
			*x = at + h
			up := Expect(m, 50, e)
			*x = at - h
			down := Expect(m, 50, e)
			*x = at
			for metric, s := range map[string][3]Soft{"params": {cost.Params, up.Params, down.Params}, "flops": {cost.FLOPs, up.FLOPs, down.FLOPs}, "kv": {cost.KVBytes, up.KVBytes, down.KVBytes}} {
				want := (s[1].Value - s[2].Value) / (2 * h)
				if got := grad(&s[0].Grad); math.Abs(got-want) > 1e-9*(1+s[0].Value) {
					t.Errorf("%s: %s by %s: %g, want %g", name, metric, what, got, want)
				}
			}
		}
		check("channels", &e.Hidden, func(s *Expected) float64 { return s.Hidden })
		for l := range e.Layers {
			check(fmt.Sprint("layer ", l), &e.Layers[l].Layer, func(s *Expected) float64 { return s.Layers[l].Layer })
			check(fmt.Sprint("heads ", l), &e.Layers[l].Heads, func(s *Expected) float64 { return s.Layers[l].Heads })
			check(fmt.Sprint("FFN ", l), &e.Layers[l].FFN, func(s *Expected) float64 { return s.Layers[l].FFN })
		}
	}
}

func TestTargetCheck(t *testing.T) {
	for _, bad := range []Target{{}, {Metric: "size", Share: 0.5}, {Metric: ByParams}, {Metric: ByKV, Share: 1.01}, {Metric: ByKV, Share: -0.5},
		{Metric: ByKV, Share: math.NaN()}, {Metric: ByFLOPs, Share: 0.5, Length: -1}, {Metric: ByFLOPs, Share: 0.5, Length: MaxLength + 1}} {
		if bad.Check() == nil {
			t.Errorf("%+v has a meaning", bad)
		}
	}
	if err := (Target{Metric: ByFLOPs, Share: 1, Length: MaxLength}).Check(); err != nil {
		t.Error(err)
	}
	e := &TargetError{Target: Target{ByParams, 0.5, 0}}
	for _, share := range []float64{0.3, 0.8, 0.45, 0.55, 0.9, 0.1} {
		e.note(share)
	}
	if e.Below != 0.45 || e.Above != 0.55 || e.Error() != "prune: no allowed sizes have 0.5 of params within 0.005: the nearest shares are 0.45 and 0.55" {
		t.Errorf("%v", e)
	}
	var typed *TargetError
	if !errors.As(fmt.Errorf("plan: %w", e), &typed) {
		t.Error("no typed error")
	}
}
