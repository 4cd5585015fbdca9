package heads

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"sync"
	"testing"

	"modelpress/calib"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// The streaming heads of these tests.
const plantedSink, plantedRecent = 4, 32

// plantedMethods are the measures that must put the planted heads of some kinds before all others. A new measure is one
// line. Kinds that a model lacks are not looked for.
var plantedMethods = []struct {
	name  string
	kinds []testmodel.HeadKind
	score func(m *nn.Model, p *testmodel.Planted, prompts []calib.Prompt) ([][]float64, error)
}{
	{"wu", retrieval, func(m *nn.Model, _ *testmodel.Planted, q []calib.Prompt) ([][]float64, error) {
		return kvOf(Wu(context.Background(), m, q, Options{}))
	}},
	{"razor induction", retrieval, func(m *nn.Model, p *testmodel.Planted, q []calib.Prompt) ([][]float64, error) {
		s, err := plantedRazor(m, p, q)
		return kvOf(s[1], err)
	}},
	{"razor echo", echoes, func(m *nn.Model, p *testmodel.Planted, q []calib.Prompt) ([][]float64, error) {
		s, err := plantedRazor(m, p, q)
		return kvOf(s[0], err)
	}},
	{"mass copy", retrieval, massOf(func(m *Mass) *Scores { return m.Copy })},
	{"mass needle", retrieval, massOf(func(m *Mass) *Scores { return m.Needle })},
	{"mass sink", []testmodel.HeadKind{testmodel.Sink}, massOf(func(m *Mass) *Scores { return m.Sink })},
	{"mass local", []testmodel.HeadKind{testmodel.Local, testmodel.Previous}, massOf(func(m *Mass) *Scores { return m.Local })},
	{"streaming projected", retrieval, func(m *nn.Model, _ *testmodel.Planted, q []calib.Prompt) ([][]float64, error) {
		windows, err := teacherForced(q)
		if err != nil {
			return nil, err
		}
		loss, err := StreamingLoss(context.Background(), m, calib.NewWindows(windows), plantedStreaming)
		if err != nil {
			return nil, err
		}
		return loss.Projected.KV, nil
	}},
	{"headkv", retrieval, func(m *nn.Model, _ *testmodel.Planted, q []calib.Prompt) ([][]float64, error) {
		return kvOf(HeadKV(context.Background(), m, q, Options{}))
	}},
	{"duo", retrieval, plantedGates},
	{"duo probe", retrieval, func(m *nn.Model, _ *testmodel.Planted, q []calib.Prompt) ([][]float64, error) {
		return kvOf(DuoProbe(context.Background(), m, q, plantedStreaming))
	}},
	{"moa additive", retrieval, profileOf(func(additive, _ *Scores) *Scores { return additive })},
	{"moa joint", retrieval, profileOf(func(_, joint *Scores) *Scores { return joint })},
	{"sinks", []testmodel.HeadKind{testmodel.Sink}, func(m *nn.Model, p *testmodel.Planted, _ []calib.Prompt) ([][]float64, error) {
		// Passages are said so often that induction heads seldom rest on the start.
		s, err := FindSinks(context.Background(), m, calib.NewWindows(p.Text(2, 360, 2)), SinkOptions{})
		if err != nil {
			return nil, err
		}
		return s.Heads.KV, nil
	}},
	{"ablate", retrieval, func(m *nn.Model, _ *testmodel.Planted, q []calib.Prompt) ([][]float64, error) {
		return kvOf(Ablate(context.Background(), m, q[1:2], plantedStreaming))
	}},
}

var (
	retrieval        = []testmodel.HeadKind{testmodel.Induction}
	echoes           = []testmodel.HeadKind{testmodel.Echo}
	plantedStreaming = StreamingOptions{Sink: plantedSink, Recent: plantedRecent}
)

func kvOf(s *Scores, err error) ([][]float64, error) {
	if err != nil {
		return nil, err
	}
	return s.KV, nil
}

// forModel measures something once for entries of the table that stand side by side.
func forModel[T any](measure func(m *nn.Model, p *testmodel.Planted, q []calib.Prompt) (T, error)) func(*nn.Model, *testmodel.Planted, []calib.Prompt) (T, error) {
	var last *nn.Model
	var v T
	var err error
	return func(m *nn.Model, p *testmodel.Planted, q []calib.Prompt) (T, error) {
		if m != last {
			last = m
			v, err = measure(m, p, q)
		}
		return v, err
	}
}

var (
	plantedMass = forModel(func(m *nn.Model, _ *testmodel.Planted, q []calib.Prompt) (*Mass, error) {
		return AttentionMass(context.Background(), m, q, Options{})
	})
	plantedProfile = forModel(func(m *nn.Model, _ *testmodel.Planted, q []calib.Prompt) (*Profile, error) {
		samples, err := PromptSamples(q)
		if err != nil {
			return nil, err
		}
		return MoAProfile(context.Background(), m, []ProfileInput{{132, samples}}, ProfileOptions{Width: 8, Sink: plantedSink})
	})
	plantedRazor = forModel(func(m *nn.Model, p *testmodel.Planted, _ []calib.Prompt) ([2]*Scores, error) {
		echo, induction, err := Razor(context.Background(), m, plantedRepeat(p))
		return [2]*Scores{echo, induction}, err
	})
)

func massOf(pick func(*Mass) *Scores) func(*nn.Model, *testmodel.Planted, []calib.Prompt) ([][]float64, error) {
	return func(m *nn.Model, p *testmodel.Planted, q []calib.Prompt) ([][]float64, error) {
		mass, err := plantedMass(m, p, q)
		if err != nil {
			return nil, err
		}
		return pick(mass).KV, nil
	}
}

func profileOf(pick func(additive, joint *Scores) *Scores) func(*nn.Model, *testmodel.Planted, []calib.Prompt) ([][]float64, error) {
	return func(m *nn.Model, p *testmodel.Planted, q []calib.Prompt) ([][]float64, error) {
		profile, err := plantedProfile(m, p, q)
		if err != nil {
			return nil, err
		}
		return pick(profile.Lengths[0].Scores(plantedRecent)).KV, nil
	}
}

// plantedGates trains gates on short prompts until the choice is settled, which it must be before the steps run out. Those of the
// planted heads stay open and all others close.
func plantedGates(m *nn.Model, p *testmodel.Planted, _ []calib.Prompt) ([][]float64, error) {
	_, count := p.Heads(testmodel.Induction)
	s, log, err := Duo(context.Background(), m, promptsOf(p.Prompts(8, 44, 2, 5)), DuoOptions{Sink: plantedSink, Recent: 12, Steps: 60, LR: 0.2, Seed: 3,
		Share: float64(count) / float64(p.Options.Layers*p.Options.G), Every: 4, MinSteps: 12, Patience: 2, MinRank: 0.9})
	if err == nil && !log.Early {
		err = fmt.Errorf("not settled after %d steps", log.Steps)
	}
	if err == nil {
		if low, high := plantedMargin(s.KV, p.Retrieval); low < 0.5 || high > 0.1 {
			err = fmt.Errorf("gates of planted heads from %g, of others to %g", low, high)
		}
	}
	return kvOf(s, err)
}

// plantedRepeat says a period three times over, after the start that the model expects.
func plantedRepeat(p *testmodel.Planted) RazorOptions {
	o := RazorOptions{Period: 50, Repeats: 3, Seed: 3}
	if p.BOS() {
		bos := int32(0)
		o.BOS = &bos
	}
	return o
}

func promptsOf(planted []testmodel.PlantedPrompt) []calib.Prompt {
	prompts := make([]calib.Prompt, len(planted))
	for i, q := range planted {
		prompts[i] = calib.Prompt{IDs: q.IDs, Answer: q.Answer, NeedleLo: q.NeedleLo, NeedleHi: q.NeedleHi, Extra: q.Extra}
	}
	return prompts
}

// plantedModels keeps models by name: tests only read them.
var plantedModels sync.Map

func plantedModel(c testmodel.PlantedCase) *testmodel.Planted {
	if p, ok := plantedModels.Load(c.Name); ok {
		return p.(*testmodel.Planted)
	}
	p := testmodel.Plant(c.Options)
	plantedModels.Store(c.Name, p)
	return p
}

// eachPlanted runs a test on every planted model, with prompts of both kinds.
func eachPlanted(t *testing.T, f func(t *testing.T, p *testmodel.Planted, m *nn.Model, prompts []calib.Prompt)) {
	for _, c := range testmodel.PlantedCases() {
		t.Run(c.Name, func(t *testing.T) {
			p := plantedModel(c)
			prompts := append(p.Prompts(1, 112, 5, 5), p.MultiKey(2, 128, 4, 4, 6)...)
			f(t, p, open(t, p.Model), promptsOf(prompts))
		})
	}
}

// TestMethodsFindPlantedHeads: every measure ranks the heads that it is there to find before all others, in models of
// several sizes and GQA ratios, and by a margin that does not hang on the last digits.
func TestMethodsFindPlantedHeads(t *testing.T) {
	eachPlanted(t, func(t *testing.T, p *testmodel.Planted, m *nn.Model, prompts []calib.Prompt) {
		for _, method := range plantedMethods {
			want, count := p.Heads(method.kinds...)
			if count == 0 {
				continue
			}
			scores, err := method.score(m, p, prompts)
			if err != nil {
				t.Errorf("%s: %v", method.name, err)
				continue
			}
			got := SelectCount(scores, count)
			low, high := plantedMargin(scores, want)
			t.Logf("%s: planted heads score from %.3g, others to %.3g", method.name, low, high)
			if !reflect.DeepEqual(got.Full, want) || low < high*1.1 {
				t.Errorf("%s: planted heads score from %g, others to %g:\n%s", method.name, low, high, scoresByKind(p, scores))
			}
		}
	})
}

// plantedMargin returns the lowest score of the wanted heads and the highest of the others.
func plantedMargin(scores [][]float64, want [][]bool) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for l, row := range scores {
		for g, v := range row {
			if want[l][g] {
				low = math.Min(low, v)
			} else {
				high = math.Max(high, v)
			}
		}
	}
	return low, high
}

func scoresByKind(p *testmodel.Planted, scores [][]float64) string {
	text := ""
	for l, row := range scores {
		for g, v := range row {
			text += fmt.Sprintf("  %d.%d %v %.4f\n", l, g, p.Kind[l][g], v)
		}
	}
	return text
}

func accuracyOf(t *testing.T, m *nn.Model, prompts []calib.Prompt, full [][]bool) float64 {
	t.Helper()
	r, err := calib.Retrieval(context.Background(), m, prompts,
		calib.EvalOptions{Masks: Masks(full, plantedSink, plantedRecent, m.Arch)})
	if err != nil {
		t.Fatal(err)
	}
	return r.Accuracy
}

// TestPlantedHeadsAreNeeded: the planted retrieval heads alone keep every answer, each one is needed, and no choice of
// whole layers of as many KV bytes keeps an answer.
func TestPlantedHeadsAreNeeded(t *testing.T) {
	eachPlanted(t, func(t *testing.T, p *testmodel.Planted, m *nn.Model, prompts []calib.Prompt) {
		count := len(p.PartBits())
		if a := accuracyOf(t, m, prompts, allFull(m, true)); a != 1 {
			t.Errorf("dense accuracy %g", a)
		}
		if a := accuracyOf(t, m, prompts, p.Retrieval); a != 1 {
			t.Errorf("retrieval heads alone: accuracy %g", a)
		}
		price := KVBytes(m.Arch, p.Retrieval, plantedSink, plantedRecent, 2, 4096).Planned
		for l, row := range p.Retrieval {
			for g := range row {
				if !row[g] {
					continue
				}
				if a := accuracyOf(t, m, prompts, allBut(kvRows(m), l, g)); a > 0 {
					t.Errorf("head %d.%d streaming: accuracy %g", l, g, a)
				}
			}
		}
		layers := (count + p.Options.G - 1) / p.Options.G
		for _, chosen := range subsets(p.Options.Layers, layers) {
			full := allFull(m, false)
			for _, l := range chosen {
				for g := range full[l] {
					full[l][g] = true
				}
			}
			if b := KVBytes(m.Arch, full, plantedSink, plantedRecent, 2, 4096).Planned; b < price {
				t.Errorf("layers %v take %d bytes, the heads %d", chosen, b, price)
			}
			if a := accuracyOf(t, m, prompts[1:2], full); a > 0 {
				t.Errorf("layers %v full: accuracy %g", chosen, a)
			}
		}
	})
}

// kvRows has a row per layer with a value per KV head.
func kvRows(m *nn.Model) [][]float64 { return rowsOf(m.Arch.Layers, kvHeads) }

// subsets lists the sets of k of n things.
func subsets(n, k int) [][]int {
	if k == 0 {
		return [][]int{nil}
	}
	var out [][]int
	for last := k - 1; last < n; last++ {
		for _, s := range subsets(last, k-1) {
			out = append(out, append(append([]int(nil), s...), last))
		}
	}
	return out
}

// TestPlantedPerplexity: on repeated passages the retrieval heads alone keep the perplexity, and a retrieval head that
// streams costs the bits of its part on every token that induction knows.
func TestPlantedPerplexity(t *testing.T) {
	eachPlanted(t, func(t *testing.T, p *testmodel.Planted, m *nn.Model, _ []calib.Prompt) {
		if !p.BOS() {
			t.Skip("a model without a start of the sequence is as sure where it knows nothing")
		}
		w := calib.NewWindows(p.Text(2, 220, 4))
		known, hidden := knownShares(w.IDs)
		nll := func(full [][]bool) float64 {
			r, err := calib.Perplexity(context.Background(), m, w, calib.EvalOptions{Masks: Masks(full, plantedSink, plantedRecent, m.Arch)})
			if err != nil {
				t.Fatal(err)
			}
			return r.NLL
		}
		dense := nll(allFull(m, true))
		if want := math.Log(256) * (1 - known); math.Abs(dense-want) > 0.03 {
			t.Errorf("dense nll %g, want %g", dense, want)
		}
		if v := nll(p.Retrieval); math.Abs(v-dense) > 0.01 {
			t.Errorf("retrieval heads alone: nll %g, dense %g", v, dense)
		}
		part := 0
		for _, c := range p.Places {
			if c.Kind != testmodel.Induction {
				continue
			}
			want := hidden * float64(p.PartBits()[part]) * math.Ln2
			if got := nll(allBut(kvRows(m), c.Layer, c.Head)) - dense; math.Abs(got-want) > 0.03 {
				t.Errorf("head %d.%d streaming: nll rises by %g, want %g", c.Layer, c.Head, got, want)
			}
			part++
		}
	})
}

// knownShares returns the share of predictions whose token followed an earlier occurrence of the token before it, and the
// share in which no such follower is a sink.
func knownShares(windows [][]int32) (known, hidden float64) {
	n := 0
	for _, ids := range windows {
		first := map[int32]int{} // place of the first follower
		for i, before := range ids[:len(ids)-1] {
			n++
			at, seen := first[before]
			switch {
			case !seen:
				first[before] = i + 1
			case at < plantedSink:
				known++
			default:
				known++
				hidden++
			}
		}
	}
	return known / float64(n), hidden / float64(n)
}
