package vib

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"modelpress/distill"
	"modelpress/internal/testmodel"
)

// same reports the first vector in which two masks differ.
func same(t *testing.T, a, b *Masks) {
	t.Helper()
	other := b.Vectors()
	for i, v := range a.Vectors() {
		for j, x := range v.F32 {
			if math.Float32bits(x) != math.Float32bits(other[i].F32[j]) {
				t.Errorf("%s %d is %v, was %v", v.Name, j, other[i].F32[j], x)
				return
			}
		}
	}
}

// TestDeterministic: any number of threads, any split of a step's windows, and a run that is interrupted give the same bits, in the
// search and after it.
func TestDeterministic(t *testing.T) {
	o := testmodel.Options{Layers: 2, D: 32, H: 4, G: 2, F: 48, V: 48, Context: 32, Seed: 7}
	src := testmodel.New(o)
	a := describe(t, src.Config, src)
	opt := quick(0.7)
	opt.Search, opt.Tune = 6, 4
	opt.Rules.HiddenMultiple, opt.Rules.FFNMultiple = 1, 1
	// run searches and tunes with so many threads, and goes on from a file after step stop of either, if that is not 0.
	run := func(threads, parts, stop int) *Masks {
		k := newMasks(t, a, opt)
		for _, steps := range []int{opt.Search, opt.Tune} {
			start := func(k *Masks) *distill.Trainer {
				r := trainer(plain(src, a, threads), k, steps)
				r.Options.Batch, r.Options.Accumulate = 4/parts, parts
				return r
			}
			r := start(k)
			if stop > 0 {
				file := filepath.Join(t.TempDir(), "state")
				for range stop {
					if _, err := r.Step(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if err := r.Save(file); err != nil {
					t.Fatal(err)
				}
				k = newMasks(t, a, opt)
				r = start(k)
				if err := r.Resume(file); err != nil {
					t.Fatal(err)
				}
			}
			train(t, r)
			if !k.Settled() {
				if _, err := k.Compact(); err != nil {
					t.Fatal(err)
				}
			}
		}
		return k
	}
	want := run(1, 1, 0)
	same(t, want, run(3, 1, 0))
	same(t, want, run(1, 2, 0))
	same(t, want, run(2, 1, 3))
	joined := func(stop int) *Masks { // search and tuning as steps of one run, which is interrupted or not
		k := newMasks(t, a, opt)
		r := trainer(plain(src, a, 1), k, opt.Search+opt.Tune)
		file := filepath.Join(t.TempDir(), "state")
		for s := range opt.Search + opt.Tune {
			if s == opt.Search {
				if _, err := k.Compact(); err != nil {
					t.Fatal(err)
				}
			}
			if s == stop {
				if err := r.Save(file); err != nil {
					t.Fatal(err)
				}
				k = newMasks(t, a, opt)
				r = trainer(plain(src, a, 1), k, opt.Search+opt.Tune)
				if err := r.Resume(file); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := r.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return k
	}
	once := joined(-1)
	same(t, once, joined(opt.Search+2))
	same(t, once, joined(opt.Search-1))
	if slices.Equal(once.mu, once.searched) {
		t.Error("nothing was tuned")
	}
	if first := newMasks(t, a, opt); slices.Equal(first.mu, want.searched) || slices.Equal(want.searched, want.mu) {
		t.Error("nothing was learnt")
	}
}
