package heads

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"modelpress/calib"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// TestPlantedSinks: the start of the sequence is the one sink of models that have one, and there is none in the model without. On
// prompts, whose filler induction heads find nothing for, they rest on it as sink heads do; on passages that are said over and
// over, only sink heads do, which is an entry of [plantedMethods].
func TestPlantedSinks(t *testing.T) {
	eachPlanted(t, func(t *testing.T, p *testmodel.Planted, m *nn.Model, prompts []calib.Prompt) {
		s, err := FindSinks(t.Context(), m, promptWindows(prompts), SinkOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := []int(nil)
		if p.BOS() {
			want = []int{0}
		}
		rest, _ := p.Heads(testmodel.Sink, testmodel.Induction)
		low, high := plantedMargin(s.Heads.KV, rest)
		t.Logf("positions %v, rate %.3f, mass %.3f of %.3f even; sink and induction heads from %.3g, others to %.3g", s.Positions, s.Rate[0],
			s.Mass[0], s.Even[0], low, high)
		if fmt.Sprint(s.Positions) != fmt.Sprint(want) || s.Count != len(want) || p.BOS() && (low < 1 || high > 0) {
			t.Errorf("positions %v, count %d\n%s", s.Positions, s.Count, scoresByKind(p, s.Heads.KV))
		}
	})
}

// TestPlantedTidal: where the induction heads of all layers have the same place in theirs, the selection of the first serves the
// others, recall says so, and the answers stay. Where they do not, recall says that too, the answers are lost, and only a selection
// in every layer keeps them.
func TestPlantedTidal(t *testing.T) {
	for _, o := range []testmodel.PlantedOptions{{H: 8, G: 4, K: 64}, {H: 8, G: 8, K: 32}, {H: 16, G: 2, K: 32}, {H: 8, G: 2, K: 32, OneQuery: true}} {
		for _, c := range []struct {
			at         [3]int // of the induction heads in layers 1 to 3
			selections int
			kept       bool
		}{{[3]int{1, 1, 1}, 1, true}, {[3]int{1, 0, o.G - 1}, 1, false}, {[3]int{1, 0, o.G - 1}, 3, true}} {
			o.Layers, o.BOS, o.Noise, o.Seed = 4, true, 0.1, 7
			o.Places = []testmodel.Place{{Layer: 0, Head: 1, Kind: testmodel.Previous}}
			for i, g := range c.at {
				o.Places = append(o.Places, testmodel.Place{Layer: 1 + i, Head: g, Kind: testmodel.Induction})
			}
			p := testmodel.Plant(o)
			m := open(t, p.Model)
			prompts := promptsOf(append(p.Prompts(1, 112, 5, 5), p.MultiKey(2, 128, 4, 4, 6)...))
			windows, err := teacherForced(prompts)
			if err != nil {
				t.Fatal(err)
			}
			opt := TidalOptions{Budget: 16, Window: 8, Rows: 4, Dense: 1, Selections: c.selections}
			s, err := FindTidal(t.Context(), m, calib.NewWindows(windows), opt)
			if err != nil {
				t.Fatal(err)
			}
			plan := Draft(m.Arch)
			if err := s.Write(plan, m.Arch, record); err != nil {
				t.Fatal(err)
			}
			accuracy := served(t, m, prompts, plan)
			t.Logf("%d of %d KV heads, induction at %v, %d selections: sources %v, recall from %.3f, mean %.3f, accuracy %.2f", o.G, o.H, c.at,
				c.selections, s.Source, s.Least, s.Mean, accuracy)
			// A head that is not served loses its share of the mean over KV heads.
			if c.kept && (s.Least < 0.95 || accuracy != 1) || !c.kept && (s.Least > 1-0.6/float64(o.G) || accuracy > 0) {
				t.Errorf("recall %g, accuracy %g", s.Least, accuracy)
			}
		}
	}
}

// TestPlantedLeanK: the channels in which induction heads compare codes, the slowest, are among those that stay, and masks of as many
// channels drawn at random lose answers wherever resting on the start competes with a match.
func TestPlantedLeanK(t *testing.T) {
	eachPlanted(t, func(t *testing.T, p *testmodel.Planted, m *nn.Model, prompts []calib.Prompt) {
		windows, err := teacherForced(prompts)
		if err != nil {
			t.Fatal(err)
		}
		opt := LeanKOptions{Keep: 0.5625, Align: 2} // of 32 channels 16 for a code and 2 for what it is compared with
		s, err := FindLeanK(t.Context(), m, calib.NewWindows(windows), opt)
		if err != nil {
			t.Fatal(err)
		}
		half := p.Options.K / 2
		codes := min(32, half) / 2 // frequencies
		for l, row := range p.Retrieval {
			for g, retrieves := range row {
				first := half - codes
				if p.BOS() {
					first--
				}
				for f := first; retrieves && f < half; f++ {
					if !s.Keep[l][g][f] || !s.Keep[l][g][f+half] {
						t.Errorf("head %d.%d leaves out frequency %d of %d", l, g, f, half)
					}
				}
			}
		}
		accuracy := func(k *LeanK) float64 {
			plan := Draft(m.Arch)
			if err := k.Write(plan, m.Arch, record); err != nil {
				t.Fatal(err)
			}
			return served(t, m, prompts, plan)
		}
		found, random := accuracy(s), 0.0
		const draws = 3
		for seed := range uint64(draws) {
			random += accuracy(randomChannels(s, opt.count(p.Options.K)/2, seed)) / draws
		}
		t.Logf("%d of %d channels: accuracy %.2f, random ones %.2f", opt.count(p.Options.K), p.Options.K, found, random)
		if found != 1 || p.BOS() && random > 0.5 {
			t.Errorf("accuracy %g, random channels %g", found, random)
		}
	})
}

// randomChannels keeps n frequencies of every head.
func randomChannels(like *LeanK, n int, seed uint64) *LeanK {
	rng := rand.New(rand.NewPCG(seed, 5))
	k := &LeanK{Error: like.Error}
	for _, row := range like.Keep {
		var masks [][]bool
		for _, mask := range row {
			own, half := make([]bool, len(mask)), len(mask)/2
			for _, f := range rng.Perm(half)[:n] {
				own[f], own[f+half] = true, true
			}
			masks = append(masks, own)
		}
		k.Keep = append(k.Keep, masks)
	}
	return k
}
