package pipeline

import (
	"encoding/json"
	"strings"
	"testing"

	"modelpress/formats/manifest"
	"modelpress/formats/planfile"
	"modelpress/heads"
	"modelpress/internal/testmodel"
)

// TestPlannedHeads: the attention plan of a plan is the one that was decided on, and nothing that a plan may hold in its place gets out.
func TestPlannedHeads(t *testing.T) {
	draft := heads.Draft(describe(t, testmodel.Options{D: 64, H: 4, G: 2, F: 128, V: 128}))
	draft.Model.WeightsDigest = placeholderDigest
	whole, err := json.Marshal(headsDecision{Method: "wu", Plan: draft})
	if err != nil {
		t.Fatal(err)
	}
	step := func(old, new string) planfile.Step {
		if !strings.Contains(string(whole), old) {
			t.Fatalf("%s does not hold %s", whole, old)
		}
		return planfile.Step{Name: stepHeads, Version: headsVersion, Decision: json.RawMessage(strings.Replace(string(whole), old, new, 1))}
	}
	p, err := PlannedHeads(&planfile.Plan{Steps: []planfile.Step{{Name: stepQuantize}, step("", "")}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := manifest.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := manifest.Encode(draft); err != nil || string(got) != string(want) {
		t.Errorf("read back as\n%swant\n%s(%v)", got, want, err)
	}
	older := step("", "")
	older.Version--
	for _, c := range []struct {
		name  string
		steps []planfile.Step
		kind  Kind
		want  string
	}{
		{"no step", nil, KindInput, "no section heads"},
		{"weights only", []planfile.Step{{Name: stepQuantize}}, KindInput, "no section heads"},
		{"an older step", []planfile.Step{older}, KindStale, "has version"},
		{"another shape", []planfile.Step{step(`"method":`, `"colour":`)}, KindStale, "colour"},
		{"null", []planfile.Step{{Name: stepHeads, Version: headsVersion, Decision: json.RawMessage(`null`)}}, KindStale, "no attention plan"},
		{"a policy that is not there", []planfile.Step{step(`"decode":"full"`, `"decode":"none"`)}, KindStale, "none"},
		{"no layers", []planfile.Step{step(`"num_layers":2`, `"num_layers":-2`)}, KindStale, "num_layers"},
	} {
		p, err := PlannedHeads(&planfile.Plan{Steps: c.steps})
		if KindOf(err) != c.kind || p != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, kind %d; want kind %d with %q", c.name, err, KindOf(err), c.kind, c.want)
		}
	}
}

// TestHides: whether a plan must be judged does not depend on what the cache holds.
func TestHides(t *testing.T) {
	const length = 100
	m := describe(t, testmodel.Options{D: 64, H: 4, G: 2, F: 128, V: 128})
	for _, c := range []struct {
		name string
		pol  manifest.Policy
		want bool
	}{
		{"full", manifest.Full(), false},
		{"streaming", manifest.Streaming(4, 95), true},
		{"streaming, all of it", manifest.Streaming(4, 96), false},
		{"elastic", manifest.Policy{Kind: manifest.KindElastic, Alpha: 8, Beta: 0.5, Block: 8, Min: 8}, true},
		{"elastic, all of it", manifest.Policy{Kind: manifest.KindElastic, Beta: 1, Block: 8, Min: 8}, false},
		{"snapkv", manifest.Policy{Kind: manifest.KindTokenTopK, Selector: "snapkv", Budget: 64, Window: 8}, true},
		{"attention", manifest.Policy{Kind: manifest.KindTokenTopK, Selector: "attention", Budget: 64, Window: 8}, true},
		{"attention, all of it", manifest.Policy{Kind: manifest.KindTokenTopK, Selector: "attention", Budget: 100, Window: 8}, false},
		{"power", manifest.Policy{Kind: manifest.KindPower, Block: 8, LocalBlocks: 1}, true},
		{"sinks turned down", manifest.Policy{Kind: manifest.KindSinkScaled, Skip: 1, Threshold: 0.1, Scale: 0.4}, true},
		{"blocks", manifest.Policy{Kind: manifest.KindBlockTopK, Selector: "mean_pool", Block: 8, Blocks: 2}, true},
	} {
		for where, put := range map[string]func(h *manifest.KVHead){
			"decode":  func(h *manifest.KVHead) { h.Decode = manifest.Always("x") },
			"prefill": func(h *manifest.KVHead) { h.Prefill = "x" },
			"q_heads": func(h *manifest.KVHead) { h.QHeads = map[string]manifest.QueryHead{"3": {Prefill: "x"}} },
		} {
			p := heads.Draft(m)
			p.Policies["x"] = c.pol
			put(&p.Layers[1].KVHeads[1])
			if got := hides(p, length); got != c.want {
				t.Errorf("%s in %s: %t, want %t", c.name, where, got, c.want)
			}
		}
	}
}
