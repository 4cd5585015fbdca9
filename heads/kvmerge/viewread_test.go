package kvmerge

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"modelpress/formats"
	"modelpress/internal/testmodel"
)

// aligned fails the reads that are not of whole values, which a view has no reason for, and remembers what is prefetched.
type aligned struct {
	*testmodel.Model
	prefetched []string
}

func (a *aligned) ReadAt(name string, p []byte, off int64) error {
	if off%4 != 0 || len(p)%4 != 0 {
		return errors.New("unaligned read")
	}
	return a.Model.ReadAt(name, p, off)
}

func (a *aligned) Prefetch(names []string) { a.prefetched = append(a.prefetched, names...) }

// Any range is the same bytes as in the whole, for one reader and for several at once, at any number of threads.
func TestViewRanges(t *testing.T) {
	for _, c := range []struct {
		name      string
		t, repeat int
	}{{"llama-bias", 2, 2}, {"gpt2", 2, 2}} {
		src := viewCase(c.name)
		m := viewModel(t, src)
		plan := randomPlan(m, c.t, c.repeat, 5)
		reference, _, err := View(src, m, plan.layers, plan.load, nil)
		if err != nil {
			t.Fatal(err)
		}
		v, _, err := View(&aligned{Model: src}, m, plan.layers, plan.load, viewThreads(3))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range Changed(m, plan.layers) {
			whole := viewBytes(t, reference, name)
			size := int64(len(whole))
			var wg sync.WaitGroup
			for _, step := range []int64{size, 1001, 8 * 37, size/2 + 3} {
				wg.Go(func() {
					for off := int64(0); off < size; off += step {
						p := make([]byte, min(step, size-off))
						if err := v.ReadAt(name, p, off); err != nil || !bytes.Equal(p, whole[off:off+int64(len(p))]) {
							t.Errorf("%s: %d bytes at %d differ (%v)", name, len(p), off, err)
							return
						}
					}
				})
			}
			wg.Wait()
			for _, r := range [][2]int64{{5, 3}, {size - 9, 9}, {size, 0}, {7, 1}, {0, 0}, {size - 1, 1}, {4, 8}} {
				p := make([]byte, r[1])
				if err := v.ReadAt(name, p, r[0]); err != nil || !bytes.Equal(p, whole[r[0]:r[0]+r[1]]) {
					t.Errorf("%s: %d bytes at %d differ (%v)", name, r[1], r[0], err)
				}
			}
			for _, r := range [][2]int64{{size, 1}, {-1, 1}, {1, size}, {size + 1, 0}} {
				var e *formats.Error
				if err := v.ReadAt(name, make([]byte, r[1]), r[0]); !errors.As(err, &e) || e.Tensor != name {
					t.Errorf("%s: %d bytes at %d: %v", name, r[1], r[0], err)
				}
			}
			info, _ := v.Lookup(name)
			half, all := make([]float32, size/16), make([]float32, size/8)
			if err := formats.Decode(all, whole, info.DType); err != nil {
				t.Fatal(err)
			}
			if err := formats.ReadF32(v, name, half, size/8-int64(len(half))); err != nil || !slices.Equal(half, all[len(all)-len(half):]) {
				t.Errorf("%s: values differ (%v)", name, err)
			}
		}
	}
}

// What has been read to its end is dropped, what has not is bounded, and each block is computed once by a reader who comes
// for it in pieces.
func TestViewKeepsLittle(t *testing.T) {
	src := viewCase("llama-bias")
	m := viewModel(t, src)
	plan := randomPlan(m, 2, 2, 6)
	counted := &readCounter{Model: src}
	s, _, err := View(counted, m, plan.layers, plan.load, nil)
	if err != nil {
		t.Fatal(err)
	}
	v := s.(*view)
	for _, name := range Changed(m, plan.layers) {
		info, _ := v.Lookup(name)
		size, _ := info.Bytes()
		counted.bytes.Store(0)
		for off := int64(0); off < size; off += 40 {
			if err := v.ReadAt(name, make([]byte, min(40, size-off)), off); err != nil {
				t.Fatal(err)
			}
		}
		before, _ := src.Lookup(name)
		if stored, _ := before.Bytes(); counted.bytes.Load() != stored {
			t.Errorf("%s: %d bytes read of %d", name, counted.bytes.Load(), stored)
		}
		if len(v.units.kept) != 0 {
			t.Errorf("%s: %d units kept after the end", name, len(v.units.kept))
		}
	}
	for _, name := range Changed(m, plan.layers) {
		if err := v.ReadAt(name, make([]byte, 3), 1); err != nil {
			t.Fatal(err)
		}
	}
	if len(v.units.kept) != v.units.limit || len(v.maps.kept) != 2 {
		t.Errorf("%d units and %d layers kept", len(v.units.kept), len(v.maps.kept))
	}
}

type readCounter struct {
	*testmodel.Model
	bytes atomic.Int64
}

func (c *readCounter) ReadAt(name string, p []byte, off int64) error {
	c.bytes.Add(int64(len(p)))
	return c.Model.ReadAt(name, p, off)
}

// The maps of a layer are asked for once by all who read it at the same time, and those of two layers are kept.
func TestViewAsksForMapsOnce(t *testing.T) {
	src := testmodel.New(testmodel.Options{Layers: 3, Seed: 23})
	m := viewModel(t, src)
	plan := randomPlan(m, 2, 1, 7)
	var calls [3]atomic.Int64
	v, _, err := View(src, m, plan.layers, func(l int) (*Maps, error) {
		calls[l].Add(1)
		return plan.load(l)
	}, viewThreads(2))
	if err != nil {
		t.Fatal(err)
	}
	read := func(l int) {
		var wg sync.WaitGroup
		for _, lin := range m.Layers[l].Linears {
			if lin.Present() {
				wg.Go(func() {
					if err := v.ReadAt(lin.Weight, make([]byte, 1000), 0); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
	}
	for _, l := range []int{0, 1, 0, 1} {
		read(l)
	}
	if calls[0].Load() != 1 || calls[1].Load() != 1 {
		t.Errorf("maps asked for %d and %d times", calls[0].Load(), calls[1].Load())
	}
	// Layer 0 was asked for before layer 1, so that it goes; units that were kept need no maps.
	read(2)
	v.(*view).units.kept = nil
	read(1)
	read(0)
	if calls[0].Load() != 2 || calls[1].Load() != 1 || calls[2].Load() != 1 {
		t.Errorf("maps asked for %d, %d, %d times", calls[0].Load(), calls[1].Load(), calls[2].Load())
	}
}

func TestViewPrefetch(t *testing.T) {
	src := &aligned{Model: testmodel.Named("llama-gqa")}
	m := viewModel(t, src.Model)
	plan := randomPlan(m, 2, 1, 8)
	v, _, err := View(src, m, plan.layers, plan.load, nil)
	if err != nil {
		t.Fatal(err)
	}
	formats.Prefetch(v, m.LayerTensors(1))
	if !slices.Equal(src.prefetched, m.LayerTensors(1)) {
		t.Errorf("prefetched %v", src.prefetched)
	}
}
