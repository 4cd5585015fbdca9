package nn

import (
	"math"
	"testing"

	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// TestTapHeads: a pass shows heads as the reference has them before the rotary embedding, stops where it is told to, and the
// logits of a pass that goes on are those of one that nobody looks at, bit for bit.
func TestTapHeads(t *testing.T) {
	for _, c := range testmodel.Cases() {
		if c.Name == "llama-pruned" {
			continue // the reference does not know it
		}
		src := testmodel.New(c.Options)
		m := describe(t, src, cpu.New(2))
		ids := testmodel.Windows(1, 19, m.Arch.V, 5)[0]
		var want [][]float64
		ref, err := testmodel.NewReference(src.Config, src)
		if err != nil {
			t.Fatal(err)
		}
		ref.Heads = func(layer int, q, k, v []float64, _ int) ([]float64, []float64, []float64) {
			if layer == 0 {
				for _, x := range [][]float64{q, k, v} {
					want = append(want, append([]float64(nil), x...))
				}
			}
			return q, k, v
		}
		if _, err := ref.Logits(ids); err != nil {
			t.Fatal(err)
		}
		x := make([]float32, len(ids)*m.Arch.D)
		if err := m.Embed(x, ids); err != nil {
			t.Fatal(err)
		}
		plain := append([]float32(nil), x...)
		b, err := m.LoadBlock(0)
		if err != nil {
			t.Fatal(err)
		}
		seen, worst := 0, 0.0
		tap := func(stop bool) *Pass {
			return &Pass{TapAttn: func(*AttnState) { seen += 100 }, TapHeads: func(q, k, v []float32, rows int) bool {
				seen++
				for i, got := range [][]float32{q, k, v} {
					if len(got) != len(want[i]) || rows != len(ids) {
						t.Fatalf("%s: %d values of %d positions, want %d", c.Name, len(got), rows, len(want[i]))
					}
					for j, g := range got {
						worst = math.Max(worst, math.Abs(float64(g)-want[i][j]))
					}
				}
				return stop
			}}
		}
		if err := b.Attend(append([]float32(nil), x...), len(ids), tap(true)); err != nil || seen != 1 {
			t.Errorf("%s: a stopped pass went on: %d, %v", c.Name, seen, err)
		}
		if err := b.Forward(x, len(ids), tap(false)); err != nil || seen != 102 {
			t.Errorf("%s: a pass that goes on: %d, %v", c.Name, seen, err)
		}
		if err := b.Forward(plain, len(ids), nil); err != nil {
			t.Fatal(err)
		}
		for i, v := range plain {
			if v != x[i] {
				t.Fatalf("%s: being looked at changes value %d from %v to %v", c.Name, i, v, x[i])
			}
		}
		if worst > 2e-5 {
			t.Errorf("%s: heads differ from the reference's by up to %g", c.Name, worst)
		}
		b.Free()
	}
}
