package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// TestPruneTargets: layers of sizes of their own are refused where a target does not load them, before any data is looked at; llama.cpp
// loads them.
func TestPruneTargets(t *testing.T) {
	const compact = "prune: {method: random, params: 0.7, layout: compact, multiple: 4}"
	for _, target := range []string{"hf", "vllm", "sglang", "tensorrt-llm", "mlx"} {
		b := newBench(t, testmodel.Named("llama-gqa"), "target: ["+target+"]\n"+pruneData+compact)
		b.data = filepath.Join(b.dir, "nowhere.npy")
		_, err := b.plan()
		want := target + ": layer 1 has other head counts or FFN width than layer 0; stock model classes take one value for all layers; fix: use a checkpoint of uniform layers; where it is prune that makes them differ, set prune.layout to portable"
		if KindOf(err) != KindUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", target, err)
		}
	}
	b := newBench(t, testmodel.Named("mistral-swa"), "target: [llama.cpp]\n"+pruneData+compact)
	if _, err := b.plan(); KindOf(err) != KindUsage {
		t.Errorf("llama.cpp: %v", err)
	}
	b = newBench(t, deep("llama-gqa", 3, formats.BF16), "target: [llama.cpp]\n"+pruneData+compact)
	z := b.runPruned()
	b.checkPruned(z)
	if first := z.r.arch.Layers[0].F; !slices.ContainsFunc(z.r.arch.Layers, func(a arch.Layer) bool { return a.F != first }) {
		t.Error("the layers are alike")
	}
	p, err := b.plan()
	b.check(err)
	if p.Targets[0].Notes[0] != "as GGUF of architecture deci only, which compress convert makes" {
		t.Errorf("%+v", p.Targets)
	}
}

// TestPruneUnreachable: sizes that cannot meet the target are refused with the shares that can, before any data is looked at.
func TestPruneUnreachable(t *testing.T) {
	for _, c := range []struct{ model, section, want string }{
		{"llama-gqa", "kv: 0.3", "recipe: prune: no allowed sizes have 0.3 of kv within 0.005: the nearest share is 0.5"},
		{"llama-gqa", "kv: 0.7", "no allowed sizes have 0.7 of kv within 0.005: the nearest shares are 0.5 and 1"},
		{"llama-gqa", "kv: 0.7, layout: compact", "the nearest shares are 0.5 and 0.75"},
		{"llama-gqa", "kv: 0.7, axes: [layers]", "the nearest shares are 0.5 and 1"},
		{"llama-gqa", "params: 0.01", "the nearest share is"},
		{"llama-gqa", "kv: 0.5, axes: [ffn]", "nothing that kv depends on may change"},
		{"gpt2", "params: 0.5, axes: [hidden]", "gpt2 has as many channels as its heads have: both may change, or none"},
		{"llama-pruned", "params: 0.5", "layers 0 and 1 have other sizes; only a layout of single layers can have that"},
	} {
		b := newBench(t, testmodel.Named(c.model), pruneRecipe("method: minitron, "+c.section))
		b.data, b.anywhere = filepath.Join(b.dir, "nowhere.npy"), true
		_, err := b.plan()
		t.Logf("%s: %v", c.section, err)
		if KindOf(err) != KindUsage || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: %v (class %d), want %q", c.model, c.section, err, KindOf(err), c.want)
		}
	}
}

// TestPruneSampleIsReached: the shares that an error names can be had.
func TestPruneSampleIsReached(t *testing.T) {
	for _, layout := range []string{layoutPortable, layoutCompact} {
		b := newBench(t, testmodel.Named("llama-bias"), "")
		b.anywhere = true
		for _, share := range []float64{0.3, 0.457, 0.61, 0.777, 0.93} {
			plan := func(share float64) (*planfile.Plan, error) {
				b.recipe = pruneRecipe(fmt.Sprintf("method: magnitude, params: %v, multiple: 16, layout: %s", share, layout))
				return b.plan()
			}
			_, err := plan(share)
			if err == nil {
				continue
			}
			_, list, ok := strings.Cut(err.Error(), "the nearest share")
			if !ok {
				t.Fatal(err)
			}
			tried := 0
			for _, word := range strings.Fields(strings.SplitN(list, "\n", 2)[0]) {
				if near := toFloat(json.Number(word)); near > 0 {
					if _, err := plan(near); err != nil {
						t.Errorf("%s: %v was offered for %v: %v", layout, near, share, err)
					}
					tried++
				}
			}
			if tried == 0 {
				t.Errorf("no shares in %q", list)
			}
		}
	}
}

// TestPruneNeedsData: units are measured on data, by every method, and gates hold before anything recovers.
func TestPruneNeedsData(t *testing.T) {
	b := newBench(t, testmodel.Named("llama-gqa"), pruneRecipe("method: magnitude, params: 0.7, multiple: 4")+"\ngates: {kl: 0.000001}")
	_, err := b.plan()
	if KindOf(err) != KindGate || !strings.Contains(err.Error(), "pruning") || !strings.Contains(err.Error(), "add a section distill") {
		t.Error(err)
	}
	p, err := func() (*planfile.Plan, error) {
		b.recipe += "\ndistill: {steps: 1, batch: 1}"
		return b.plan()
	}()
	b.check(err)
	if _, err := Apply(context.Background(), b.options(p, "out")); KindOf(err) != KindGate || !strings.Contains(err.Error(), "gate kl_mean: ") {
		t.Error(err)
	}
}
