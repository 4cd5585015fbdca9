package calib

import (
	"context"
	"math"
	"testing"

	"modelpress/formats/manifest"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// onePolicy is a plan that gives every head of the trained model one policy in both phases.
func onePolicy(m *nn.Model, pol manifest.Policy) *manifest.Plan {
	l := m.Arch.Layers[0]
	p := manifest.New(manifest.Model{Architecture: "LlamaForCausalLM", Layers: len(m.Arch.Layers), Heads: l.H, KVHeads: l.G, HeadDim: l.K,
		MaxPosition: m.Arch.MaxPosition}, manifest.Producer{Name: "test"})
	p.Policies["p"] = pol
	p.Defaults = manifest.Defaults{Prefill: "p", Decode: "p"}
	p.Phases.Prefill.FirstChunk = "policy"
	p.Requires = p.Needs()
	return p
}

// TestEvaluationUnderAPlan: a plan that hides nothing changes nothing, one of windows is attention under masks, and what was served
// is counted.
func TestEvaluationUnderAPlan(t *testing.T) {
	m := trainedModel(t)
	ctx := context.Background()
	w := NewWindows([][]int32{trainedRows(t, "heldout")[0][:200], trainedRows(t, "heldout")[1][:120]})
	dense, err := Perplexity(ctx, m, w, EvalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	full, err := Perplexity(ctx, m, w, EvalOptions{Plan: onePolicy(m, manifest.Full())})
	if err != nil || full.NLL != dense.NLL {
		t.Errorf("a full plan: %g, dense %g, %v", full.NLL, dense.NLL, err)
	}
	masks := func(layer int) []device.Mask {
		list := make([]device.Mask, m.Arch.Layers[layer].G)
		for i := range list {
			list[i] = device.Mask{Sink: 4, Recent: 28}
		}
		return list
	}
	want, err := Perplexity(ctx, m, w, EvalOptions{Masks: masks})
	if err != nil {
		t.Fatal(err)
	}
	var stats *nn.ServeStats
	for _, chunk := range []int{0, 16} {
		got, err := Perplexity(ctx, m, w, EvalOptions{Plan: onePolicy(m, manifest.Streaming(4, 28)), Chunk: chunk,
			Served: func(s *nn.ServeStats) { stats = s }})
		if err != nil || math.Abs(got.NLL-want.NLL) > 1e-5 || math.Abs(got.NLL-dense.NLL) < 1e-3 {
			t.Errorf("chunks of %d: %g, under masks %g, dense %g, %v", chunk, got.NLL, want.NLL, dense.NLL, err)
		}
	}
	perToken := int64(2 * 2 * m.Arch.Layers[0].K)
	for i, ids := range w.IDs {
		heads := int64(len(m.Arch.Layers) * m.Arch.Layers[0].G)
		s := stats.Windows[i]
		if s.Prompt != len(ids)/2 || s.PeakKVBytes != 32*perToken*heads || s.DenseKVBytes != int64(len(ids))*perToken*heads {
			t.Errorf("window %d: %d of %d bytes after a prompt of %d", i, s.PeakKVBytes, s.DenseKVBytes, s.Prompt)
		}
	}
	c, err := Compare(ctx, m, m, w, EvalOptions{Plan: onePolicy(m, manifest.Streaming(4, 28))})
	if err != nil || c.Ref.NLL != dense.NLL || math.Abs(c.Model.NLL-want.NLL) > 1e-5 || c.KL <= 0 {
		t.Errorf("compared: %+v, %v", c, err)
	}
}
