package pipeline

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
	"modelpress/quantize"
)

// TestPackedIsWhatWasDecided: the dense view of a 4-bit result holds the very values that the quantizer put into the forward
// pass, for the first block and the last.
func TestPackedIsWhatWasDecided(t *testing.T) {
	for _, section := range []string{
		"method: rtn, group_size: 32", "method: rtn, group_size: -1, symmetric: false, bits: 8", "method: gptq, group_size: 32",
		"method: gptq, group_size: 32, act_order: true, symmetric: false", "method: rsq, group_size: 64",
	} {
		b := newBench(t, testmodel.Named("llama-gqa"), "seed: 5\ncalibration: {sequences: 6, holdout: 0, length: 32}\nquantize: {"+section+"}")
		_, _, out := b.run()
		r, err := ParseRecipe([]byte(b.recipe))
		b.check(err)
		s, dense := b.open(b.src), b.open(out).dense
		store, err := s.storeDType()
		b.check(err)
		q, err := decideQuantize(s.arch, r, store)
		b.check(err)
		set, err := loadData(context.Background(), s, r, DataPaths{Calib: b.data})
		b.check(err)
		view, m, err := s.rotated(q, testEnv().Device)
		b.check(err)
		model := nn.New(testEnv().Device, view, m)
		z := &quantizer{d: q, dev: model.Dev}
		b.followBlocks(z, model, set.set.Calib.IDs, func(blk *nn.Block, mats map[arch.Role]*quantize.Matrix) {
			for role, mat := range mats {
				name := blk.Arch().Linears[role].Weight
				want := make([]float32, mat.Out*mat.In)
				mat.Dequantize(want, nil)
				if have := float32s(t, dense, name); !slices.Equal(have, want) {
					t.Errorf("%s: %s differs from what was decided", section, name)
				}
			}
		})
	}
}

// followBlocks quantizes block after block, each on the states that the ones before left, which it computes by whole passes;
// blocks with an even number keep nothing in memory between their sub-layers.
func (b *bench) followBlocks(z blockWorker, model *nn.Model, windows [][]int32, each func(*nn.Block, map[arch.Role]*quantize.Matrix)) {
	lengths := make([]int, len(windows))
	for i, w := range windows {
		lengths[i] = len(w)
	}
	work := b.t.TempDir()
	states := func(l int) *boundary {
		s, err := openBoundary(boundaryName(work, l), lengths, model.Arch.D)
		b.check(err)
		b.t.Cleanup(func() { s.close() })
		return s
	}
	in := states(0)
	for i, ids := range windows {
		x := make([]float32, in.elements(i))
		b.check(model.Embed(x, ids))
		b.check(in.put(i, x))
	}
	for l := range model.Arch.Layers {
		blk, err := model.LoadBlock(l)
		b.check(err)
		pass := &blockPass{b: blk, in: in, kept: &passStates{windows: windows, limit: []int64{1, 1 << 30}[l%2], scratch: work}}
		mats, notes, err := z.block(context.Background(), pass)
		b.check(err)
		if mats != nil && len(mats) != 7 || len(notes) != 7 {
			b.t.Errorf("layer %d: %d matrices, %d notes", l, len(mats), len(notes))
		}
		each(blk, mats)
		next := states(l + 1)
		for i, w := range windows {
			x := make([]float32, in.elements(i))
			b.check(in.get(i, x))
			b.check(blk.Forward(x, len(w), nil))
			b.check(next.put(i, x))
		}
		b.check(pass.kept.close())
		blk.Free()
		in = next
	}
}

// TestAttentionPlan: the attention plan of a result validates, belongs to it, and gives the masks that were decided.
func TestAttentionPlan(t *testing.T) {
	for _, name := range []string{"llama-gqa", "mistral-swa", "qwen3-tied", "llama-rope-yarn", "gpt2"} {
		section := "{method: rtn, group_size: 32}"
		if name == "gpt2" {
			section = "{method: rtn, bits: 3, group_size: 32}"
		}
		b := newBench(t, testmodel.Named(name), "calibration: {sequences: 4, holdout: 2, length: 32}\nheads: {method: projected_error, full_share: 0.5, sink: 2, recent: 8, page: 4}\nquantize: "+section)
		p, rep, out := b.run()
		doc, err := os.ReadFile(filepath.Join(out, manifestName))
		b.check(err)
		m, err := manifest.Decode(doc)
		b.check(err)
		if faults := m.Validate(); len(faults) > 0 {
			t.Errorf("%s: %v", name, faults)
		}
		if err := m.CheckModel(rep.WeightsDigest, rep.HeadersDigest, rep.ConfigDigest); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := m.CheckModel(rep.SourceWeights, rep.HeadersDigest, rep.ConfigDigest); err == nil {
			t.Errorf("%s: the plan takes the source for its model", name)
		}
		if m.Producer.PlanID != p.PlanID {
			t.Errorf("%s: made by plan %s, not %s", name, m.Producer.PlanID, p.PlanID)
		}
		v, err := Verify(context.Background(), out, testEnv())
		b.check(err)
		if len(v.Faults) > 0 {
			t.Errorf("%s: %v", name, v.Faults)
		}
		h := &headsDecision{}
		b.check(decodeDecision(p.Steps[0].Decision, h))
		s := b.open(out)
		full, total := 0, 0
		for _, row := range fullHeads(h.Plan, s.arch.MaxPosition) {
			for _, f := range row {
				total++
				if f {
					full++
				}
			}
		}
		// A layer whose own window is no longer than what a streaming head keeps has nothing to save and counts as full.
		if full*2 < total || name != "mistral-swa" && full*2 != total {
			t.Errorf("%s: %d of %d heads full", name, full, total)
		}
		if err := checkPlanFits(m, s.arch); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, want := sameBut(t, m), sameBut(t, h.Plan); got != want {
			t.Errorf("%s: the plan shipped is not the one decided on\n%s\n%s", name, got, want)
		}
	}
}

// sameBut is a plan as JSON without what only the result knows.
func sameBut(t *testing.T, p *manifest.Plan) string {
	t.Helper()
	c := *p
	c.Producer, c.Quality = manifest.Producer{}, nil
	c.Model.WeightsDigest, c.Model.HeadersDigest, c.Model.ConfigDigest = "", "", ""
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
