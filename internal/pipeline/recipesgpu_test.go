//go:build cuda

package pipeline

import (
	"bytes"
	"slices"
	"testing"

	"modelpress/internal/device/cuda"
	"modelpress/internal/device/cuda/emu"
	"modelpress/internal/testmodel"
)

// TestRecipesOnGPU: steps of plan and apply run on a GPU, and give the same files whatever its streams do first and however little of its
// memory there is. The recipes that take the emulation long are left out in short mode.
func TestRecipesOnGPU(t *testing.T) {
	emu.Require(t)
	run := func(b *bench, memory int64, out string) ([]byte, string) {
		d, err := cuda.Open(cuda.Options{Threads: 2, MaxMemory: memory})
		b.check(err)
		defer d.Close()
		plan, dir := planAndApply(t, b, d, out)
		if used := d.Used(); used != 0 {
			t.Errorf("%d bytes of the device are left", used)
		}
		return plan, dir
	}
	for _, c := range remoteRecipes() {
		t.Run(c.name, func(t *testing.T) {
			if long := []string{"merge", "minitron", "taylor", "vib", "distill"}; testing.Short() && slices.Contains(long, c.name) {
				t.Skip("takes the emulation long")
			}
			b := newBench(t, testmodel.New(c.model), c.recipe)
			plan, dir := run(b, 0, "first")
			t.Setenv("MODELPRESS_EMU_STREAMS", "random:3")
			t.Setenv("MODELPRESS_EMU_SCHEDULE", "random:4")
			got, again := run(b, 64<<20, "again")
			if !bytes.Equal(got, plan) {
				t.Errorf("another plan:\n%s\nwant\n%s", got, plan)
			}
			b.sameDirs(dir, again)
		})
	}
}
