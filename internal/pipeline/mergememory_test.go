package pipeline

import (
	"testing"

	"modelpress/formats"
	"modelpress/internal/testmodel"
)

// TestMergeBytes counts by hand what merging holds of a model of 64 wide layers, 8 query and 4 KV heads of 8, in f32.
func TestMergeBytes(t *testing.T) {
	b := newBench(t, testmodel.New(mergeOptions(formats.F32)), mergeRecipe)
	r, err := ParseRecipe([]byte(b.recipe))
	b.check(err)
	s := b.open(b.src)
	set, err := loadData(t.Context(), s, r, b.paths())
	b.check(err)
	const (
		block   = 4 * (2*64*64 + 2*32*64 + 3*128*64) // of the model and of the merged one
		solve   = 8*32*32 + 24*32*4 + 8*52*16*16 + 2*32*32*8 + 8*8*(1<<18)
		fit     = 20*64*64 + 3*8*64*64 + 2*4*64*64
		attn    = 4 * 64 * (3*64 + 2*32)
		window  = 4 * 32 * (3*64 + 2*64 + 2*32 + 2*8 + 2*128)
		windows = 4 * 64 * 6 * 32 // the states of all of them
	)
	for _, c := range []struct {
		states int64
		want   int64
	}{{1 << 30, windows}, {1000, 1000}, {0, 0}} {
		want := programBytes + 2*block + max(solve, fit) + attn + 2*window + c.want
		if got := mergeBytes(s, r.KVMerge, set, c.states); got != want {
			t.Errorf("%d bytes of states: %d bytes, want %d", c.states, got, want)
		}
	}
	if got := mergeMemory(s, nil, set, 1000); got != 0 {
		t.Errorf("%d bytes where nothing is merged", got)
	}
}
