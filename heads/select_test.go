package heads

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/device"
)

func flat(full [][]bool) []bool {
	var out []bool
	for _, row := range full {
		out = append(out, row...)
	}
	return out
}

func TestSelectOrderAndTies(t *testing.T) {
	scores := [][]float64{{0.5, 0.1, 0.5}, {}, {0.5000000004, 0.9, 0.1}}
	for _, c := range []struct {
		share float64
		want  []bool
		cut   float64
		ties  int
	}{
		{0, []bool{false, false, false, false, false, false}, math.Inf(1), 0},
		{1. / 6, []bool{false, false, false, false, true, false}, 0.9, 0},
		{2. / 6, []bool{true, false, false, false, true, false}, 0.5, 2},
		{3. / 6, []bool{true, false, true, false, true, false}, 0.5, 1},
		{5. / 6, []bool{true, true, true, true, true, false}, 0.1, 1},
		{1, []bool{true, true, true, true, true, true}, 0.1, 0},
		{7, []bool{true, true, true, true, true, true}, 0.1, 0},
		{-1, []bool{false, false, false, false, false, false}, math.Inf(1), 0},
	} {
		s := Select(scores, c.share)
		if got := flat(s.Full); !reflect.DeepEqual(got, c.want) || s.Cut != c.cut || s.TiesAtCut != c.ties {
			t.Errorf("share %g: %v cut %g ties %d, want %v %g %d", c.share, got, s.Cut, s.TiesAtCut, c.want, c.cut, c.ties)
		}
		if s.Total != 6 || s.Count != Count(6, c.share) {
			t.Errorf("share %g: %d of %d", c.share, s.Count, s.Total)
		}
	}
}

func TestCountRounds(t *testing.T) {
	for _, c := range []struct {
		total int
		share float64
		want  int
	}{{48, 0.17, 8}, {48, 0.25, 12}, {48, 0.5, 24}, {3, 0.5, 2}, {256, 0.5, 128}, {0, 0.5, 0}, {10, 1, 10}} {
		if got := Count(c.total, c.share); got != c.want {
			t.Errorf("Count(%d, %g) = %d, want %d", c.total, c.share, got, c.want)
		}
	}
}

// TestSelectIsMonotone: a head that is full at one share is full at every larger one.
func TestSelectIsMonotone(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	scores := make([][]float64, 7)
	for l := range scores {
		scores[l] = make([]float64, 5)
		for h := range scores[l] {
			scores[l][h] = float64(rng.IntN(8)) / 8
		}
	}
	last := flat(SelectCount(scores, 0).Full)
	for n := 1; n <= 35; n++ {
		s := SelectCount(scores, n)
		now := flat(s.Full)
		count := 0
		for i := range now {
			if last[i] && !now[i] {
				t.Fatalf("head %d dropped at %d", i, n)
			}
			if now[i] {
				count++
			}
		}
		if count != n {
			t.Fatalf("%d heads, want %d", count, n)
		}
		last = now
	}
}

func TestSelectLayers(t *testing.T) {
	scores := [][]float64{{0.1, 0.1}, {0.3, 0}, {}, {0.2, 0.15}}
	s := SelectLayers(scores, 0.34)
	if want := []bool{false, false, false, false, true, true}; !reflect.DeepEqual(flat(s.Full), want) || s.Count != 2 {
		t.Errorf("%v, %d heads", s.Full, s.Count)
	}
	if s = SelectLayers(scores, 1); s.Count != 6 || s.Total != 6 {
		t.Errorf("%d of %d", s.Count, s.Total)
	}
}

func layersOf(g int, windows ...int) *arch.Model {
	m := &arch.Model{}
	for _, w := range windows {
		m.Layers = append(m.Layers, arch.Layer{H: 2 * g, G: g, K: 32, Window: w})
	}
	return m
}

func TestMasks(t *testing.T) {
	m := layersOf(2, 0, 0, 100, 20)
	full := [][]bool{{true, true}, {true, false}, {false, true}, {false, false}}
	masks := Masks(full, 4, 16, m)
	want := [][]device.Mask{
		nil,
		{{}, {Sink: 4, Recent: 16}},
		{{Sink: 4, Recent: 16}, {Recent: 100}},
		nil, // the window of 20 holds no more than 4+16
	}
	for l := range full {
		if got := masks(l); !reflect.DeepEqual(got, want[l]) {
			t.Errorf("layer %d: %v, want %v", l, got, want[l])
		}
	}
}

// TestKVBytes counts by hand what the reference table of the trained example gives: 16 and 8 of 48 heads full at 512
// tokens with 4 sinks and 64 recent tokens are 42.2 % and 27.7 % of the cache.
func TestKVBytes(t *testing.T) {
	m := layersOf(8, 0, 0, 0, 0, 0, 0)
	full := make([][]bool, 6)
	for l := range full {
		full[l] = make([]bool, 8)
	}
	for h := range 8 {
		full[4][h] = true
	}
	c := KVBytes(m, full, 4, 64, 2, 512)
	if c.Dense != 6*8*2*32*2*512 || math.Abs(c.Density()-0.2773) > 1e-4 {
		t.Errorf("%+v density %g", c, c.Density())
	}
	for h := range 8 {
		full[5][h] = true
	}
	if d := KVBytes(m, full, 4, 64, 2, 512).Density(); math.Abs(d-0.4219) > 1e-4 {
		t.Errorf("density %g", d)
	}
	if c := KVBytes(m, nil, 4, 64, 2, 512); c.Planned != c.Dense {
		t.Errorf("dense: %+v", c)
	}
	if c := KVBytes(m, full, 4, 64, 2, 60); c.Planned != c.Dense || c.Density() != 1 {
		t.Errorf("shorter than the window: %+v", c)
	}
	sliding := layersOf(2, 100)
	if c := KVBytes(sliding, [][]bool{{true, false}}, 4, 16, 1, 1000); c.Dense != 2*64*100 || c.Planned != 64*100+64*20 {
		t.Errorf("sliding: %+v", c)
	}
	if d := KVBytes(layersOf(1), nil, 0, 1, 2, 10).Density(); d != 1 {
		t.Errorf("no layers: density %g", d)
	}
}

func TestTensorParallel(t *testing.T) {
	full := [][]bool{{true, true, false, false}, {true, false, true, false}, {}}
	for _, c := range []struct {
		ranks   int
		per     []int
		busiest int
		ideal   float64
	}{
		{1, []int{4}, 4, 4},
		{2, []int{3, 1}, 3, 2},
		{4, []int{2, 1, 1, 0}, 2, 1},
		{8, []int{2, 2, 1, 1, 1, 1, 0, 0}, 2, 1},
	} {
		got, err := TensorParallel(full, c.ranks)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.PerRank, c.per) || got.Busiest != c.busiest || got.Ideal != c.ideal {
			t.Errorf("%d ranks: %+v", c.ranks, got)
		}
	}
	for _, ranks := range []int{0, -1, 3, 6} {
		if _, err := TensorParallel(full, ranks); err == nil {
			t.Errorf("%d ranks: no error", ranks)
		}
	}
}
