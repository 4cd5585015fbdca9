package manifest

import (
	"strings"
	"testing"
)

// small returns a plan for a model of 2 layers with 2 KV heads and 4 query heads.
func small() *Plan {
	hex := strings.Repeat("a", 64)
	return New(Model{
		Architecture: "LlamaForCausalLM", Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 8,
		Rope: &Rope{Theta: 10000}, MaxPosition: 2048,
		WeightsDigest: "tensors-v1:sha256:" + hex, HeadersDigest: "sha256:" + hex, ConfigDigest: "sha256:" + hex,
	}, Producer{Name: "compress", Version: "0.1.0", PlanID: "sha256:" + hex})
}

func TestStream(t *testing.T) {
	p := small()
	full := [][]bool{{true, false}, {false, false}}
	if err := p.Stream(full, [][]float64{{0.9, 0.1}, {0.2, 0.3}}, nil, 16, 64); err != nil {
		t.Fatal(err)
	}
	if faults := p.Validate(); len(faults) > 0 {
		t.Fatal(faults)
	}
	for l := range full {
		for g := range full[l] {
			pol, id := p.Resolve(l, g, Decoding, 1000)
			if want := map[bool]string{true: "full", false: "s"}[full[l][g]]; id != want {
				t.Errorf("layer %d head %d decodes under %s, want %s", l, g, id, want)
			}
			if id == "s" && (pol.Sink != 16 || pol.Recent != 64) {
				t.Errorf("policy %+v", pol)
			}
			if pol, _ := p.Resolve(l, g, Prefill, 1000); pol.Kind != KindFull {
				t.Errorf("prefill is %s", pol.Kind)
			}
		}
	}
	if n, all := p.FullHeads(1000); n != 1 || all != 4 {
		t.Errorf("%d of %d heads are full", n, all)
	}
	planned, dense, ok := p.KVBytes(1000, 2)
	if row := int64(2 * 8 * 2); !ok || dense != 4*1000*row || planned != (1000+3*80)*row {
		t.Errorf("cache %d of %d bytes, %t", planned, dense, ok)
	}
	p.Phases.Decode = DecodePhase{Page: 32, Round: "up"}
	if planned, _, _ := p.KVBytes(1000, 2); planned != (1024+3*96)*32 {
		t.Errorf("cache in pages is %d bytes", planned)
	}
}

// All heads full is the identity: nothing is required of a runtime.
func TestStreamAllFull(t *testing.T) {
	p := small()
	if err := p.Stream([][]bool{{true, true}, {true, true}}, nil, nil, 16, 64); err != nil {
		t.Fatal(err)
	}
	planned, dense, _ := p.KVBytes(500, 2)
	if len(p.Requires) != 0 || len(p.Policies) != 1 || planned != dense {
		t.Errorf("requires %v, %d policies, %d of %d bytes", p.Requires, len(p.Policies), planned, dense)
	}
	if err := p.Usable(Capabilities{Kinds: []string{KindFull}}); err != nil {
		t.Error(err)
	}
}

func TestStreamLayersOfTheirOwn(t *testing.T) {
	p := small()
	if err := p.Stream([][]bool{{true}, {}}, nil, []int{2, 0}, 0, 64); err != nil {
		t.Fatal(err)
	}
	if faults := p.Validate(); len(faults) > 0 {
		t.Fatal(faults)
	}
	if h, g := p.Counts(0); h != 2 || g != 1 {
		t.Errorf("layer 0 has %d and %d heads", h, g)
	}
	if h, g := p.Counts(1); h != 0 || g != 0 {
		t.Errorf("layer 1 has %d and %d heads", h, g)
	}
	if len(p.Requires) != 1 || p.Requires[0] != FeaturePerLayerHeads {
		t.Errorf("requires %v", p.Requires)
	}
	for name, err := range map[string]error{
		"no query heads": small().Stream([][]bool{{true}, {}}, nil, nil, 0, 64),
		"layers":         small().Stream([][]bool{{true, true}}, nil, nil, 0, 64),
		"scores":         small().Stream([][]bool{{true, true}, {true, true}}, [][]float64{{1}, {1, 2}}, nil, 0, 64),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
