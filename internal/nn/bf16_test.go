package nn

import (
	"testing"

	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// TestBF16: a device that multiplies in bfloat16 gives logits near the float64 ones, the same at any number of threads,
// for every family.
func TestBF16(t *testing.T) {
	for _, c := range testmodel.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			src := testmodel.New(c.Options)
			m := describe(t, src, cpu.NewBF16(1))
			ids := testmodel.Windows(1, 40, m.Arch.V, 5)[0]
			got := logits(t, m, ids)
			exact := (&oracle{t: t, src: src, m: m.Arch}).logits(ids)
			if d := far(t, got, exact); d < 1e-4 || d > 0.15 { // f32 is allowed 2e-5; a rounding is up to 2^-9, and random layers do not damp it
				t.Errorf("logits differ by up to %g", d)
			}
			for i, v := range logits(t, describe(t, src, cpu.NewBF16(3)), ids) {
				if v != got[i] {
					t.Fatalf("[%d] = %v with three threads, %v with one", i, v, got[i])
				}
			}
		})
	}
}
