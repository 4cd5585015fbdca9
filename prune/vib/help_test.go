package vib

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"modelpress/calib"
	"modelpress/distill"
	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
	"modelpress/prune"
)

func describe(t testing.TB, config []byte, src formats.Source) *arch.Model {
	t.Helper()
	m, err := arch.Describe(config, src)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// every has masks on all kinds of units.
var every = prune.Rules{Hidden: true, Heads: true, FFN: true, Depth: true, AnyHeads: true}

// quick are options of a search for small models.
func quick(share float64) Options {
	o := Default(prune.Target{Metric: prune.ByParams, Share: share}, every)
	o.Search, o.Tune = 40, 15
	return o
}

func newMasks(t testing.TB, m *arch.Model, o Options) *Masks {
	t.Helper()
	k, err := New(m, o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// plain reads a model that masks are learnt for.
func plain(src formats.Source, a *arch.Model, threads int) *nn.Model {
	return nn.New(deviceOf(threads), src, a)
}

// trainer learns masks of a model so that it predicts what it does without them.
func trainer(m *nn.Model, k *Masks, steps int) *distill.Trainer {
	teacher := nn.New(m.Dev, m.Src, m.Arch)
	return &distill.Trainer{Model: m, Masks: k, Objective: distill.Objective{KL: 1, Teacher: teacher},
		Data: calib.NewWindows(testmodel.Windows(24, 16, m.Arch.V, 5)), Heldout: calib.NewWindows(testmodel.Windows(4, 16, m.Arch.V, 6)),
		Options: distill.Options{Schedule: distill.Schedule{Steps: steps, LR: 1}, Batch: 4, Seed: 2}}
}

func train(t testing.TB, r *distill.Trainer) []distill.Report {
	t.Helper()
	var out []distill.Report
	r.Options.Progress = func(p distill.Report) { out = append(out, p) }
	if err := r.Train(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Model.Kept = nil
	r.Model.Refresh()
	return out
}

// masked returns the logits of a model under masks without noise.
func masked(t testing.TB, m *nn.Model, k *Masks, ids []int32) []float32 {
	t.Helper()
	if err := k.Begin(distill.Evaluation, 1); err != nil {
		t.Fatal(err)
	}
	m.Kept = k.Kept()
	m.Refresh()
	defer func() { m.Kept = nil; m.Refresh() }()
	var out []float32
	opt := nn.RunOptions{EmbedGate: k.EmbedGate, Pass: func(l, w int) *nn.Pass { return &nn.Pass{Gates: k.Gates(l, w)} }}
	err := m.Run(t.Context(), [][]int32{ids}, opt, func(_ int, x []float32) error {
		return m.Head(x, len(ids), len(ids), func(_, _ int, logits []float32) error {
			out = slices.Clone(logits)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// shaken moves what is learnt to random values, so that most units stay.
func shaken(k *Masks, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 9))
	for i := range k.mu {
		if k.free[i] {
			k.mu[i] = (0.3 + rnd.Float32()) * float32(1-2*rnd.IntN(2))
			k.logD[i] = -4 + 3*float32(rnd.NormFloat64())
		}
	}
}

// apart is the largest difference relative to the largest value.
func apart(a, b []float32) float64 {
	diff, most := 0.0, 0.0
	for i := range a {
		diff = max(diff, math.Abs(float64(a[i])-float64(b[i])))
		most = max(most, math.Abs(float64(b[i])))
	}
	return diff / most
}
