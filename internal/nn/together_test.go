package nn

import (
	"math"
	"slices"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// TestGroups: windows of one length that follow one another, as many as the rows allow.
func TestGroups(t *testing.T) {
	lengths := []int{4, 4, 4, 5, 5, 4, 9, 9}
	for _, c := range []struct {
		rows int
		want []group
	}{
		{0, []group{{0, 1, 4}, {1, 2, 4}, {2, 3, 4}, {3, 4, 5}, {4, 5, 5}, {5, 6, 4}, {6, 7, 9}, {7, 8, 9}}},
		{8, []group{{0, 2, 8}, {2, 3, 4}, {3, 4, 5}, {4, 5, 5}, {5, 6, 4}, {6, 7, 9}, {7, 8, 9}}},
		{100, []group{{0, 3, 12}, {3, 5, 10}, {5, 6, 4}, {6, 8, 18}}},
	} {
		if got := together(lengths, c.rows); !slices.Equal(got, c.want) {
			t.Errorf("%d rows: %v", c.rows, got)
		}
	}
	if got := longest(together(lengths, 12)); got != 12 {
		t.Errorf("longest %d", got)
	}
}

// TestTogether: windows that go through layers together have the states, and the gradients by them, that they have alone, bit for
// bit; gradients by parameters differ by no more than the order of sums.
func TestTogether(t *testing.T) {
	for _, c := range gradModels() {
		o := c.Options
		o.Context = 40
		m := describe(t, testmodel.New(o), cpu.New(2))
		var windows [][]int32
		for i, n := range []int{7, 7, 7, 5, 33, 33, 6} {
			windows = append(windows, testmodel.Windows(1, n, o.V, uint64(i))[0])
		}
		for _, masked := range []bool{false, true} {
			var opt BackOptions
			if masked {
				opt.Masks = func(l int) []device.Mask {
					return slices.Repeat([]device.Mask{{Sink: 1, Recent: 3}}, m.Arch.Layers[l].G)
				}
			}
			want := keptRun(t, m, windows, opt, nil)
			opt.Together = 70
			got := keptRun(t, m, windows, opt, nil)
			opt.Keep = 1 << 30
			same(t, got, keptRun(t, m, windows, opt, nil))
			states := len(windows) * (1 + len(m.Arch.Layers))
			same(t, want[:states], got[:states])
			for i, v := range want[states:] {
				near(t, c.Name, got[states+i], v)
			}
		}
		var alone, both [][]float32
		run := func(dst *[][]float32, together int) {
			err := m.Run(t.Context(), windows, RunOptions{Together: together}, func(_ int, x []float32) error {
				*dst = append(*dst, slices.Clone(x))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		run(&alone, 0)
		run(&both, 21)
		same(t, alone, both)
	}
}

func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	most := 0.0
	for _, v := range want {
		most = max(most, math.Abs(float64(v)))
	}
	for i, v := range want {
		if math.Abs(float64(got[i]-v)) > 1e-5*most {
			t.Fatalf("%s: %g, want %g, the largest is %g", what, got[i], v, most)
		}
	}
}
