package importance

import (
	"testing"

	"modelpress/internal/testmodel"
)

func TestRemoveLayers(t *testing.T) {
	for _, c := range models() {
		c.Options.Layers = 4
		src := testmodel.New(c.Options)
		m := describe(t, src, 2)
		o := newOracle(t, src, m.Arch)
		w := windows(m.Arch)
		for _, limit := range []int64{0, 1} { // in memory and on disk
			passes := 0
			got, err := RemoveLayers(t.Context(), m, w, Options{Dir: t.TempDir(), MemLimit: limit, Progress: func(done, total int) {
				if passes++; done != passes || total != len(w.IDs)*10 {
					t.Errorf("%s: progress %d of %d at pass %d", c.Name, done, total, passes)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if passes != len(w.IDs)*10 {
				t.Errorf("%s: %d passes of blocks", c.Name, passes)
			}
			o.skip = map[int]bool{}
			if want := o.meanLoss(w.IDs); !near(got.Base, want, 1e-6) {
				t.Errorf("%s: loss %g, want %g", c.Name, got.Base, want)
			}
			for l, v := range got.Without {
				o.skip = map[int]bool{l: true}
				if want := o.meanLoss(w.IDs); !near(v, want, 1e-6) {
					t.Errorf("%s: loss without layer %d is %g, want %g", c.Name, l, v, want)
				}
				if s := got.Scores()[l]; s != v-got.Base {
					t.Errorf("%s: score %g of layer %d", c.Name, s, l)
				}
			}
		}
	}
}
