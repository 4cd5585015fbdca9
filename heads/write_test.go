package heads

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/testmodel"
)

// oracleModels are the families that the measures of planners are checked on.
var oracleModels = []string{"llama-gqa", "llama-mha", "qwen3", "gpt2", "mistral-swa", "llama-pruned"}

func describe(t *testing.T, name string) *arch.Model {
	t.Helper()
	m := testmodel.Named(name)
	a, err := arch.Describe(m.Config, m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sound fills in the digests of a plan and checks that it has no fault and is written and read without change.
func sound(t *testing.T, p *manifest.Plan) {
	t.Helper()
	p.Model.WeightsDigest = "tensors-v1:sha256:" + strings.Repeat("a", 64)
	p.Producer.Version = "0"
	for _, f := range p.Validate() {
		t.Errorf("plan: %s", f)
	}
	data, err := manifest.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	back, err := manifest.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := manifest.Encode(back)
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("the plan reads back as another, %v", err)
	}
}

func fakeScores(m *arch.Model) *Scores {
	s := &Scores{Method: "fake", Unit: "counts", KV: rowsOf(m.Layers, kvHeads), Samples: 3}
	for l, row := range s.KV {
		for g := range row {
			row[g] = float64((7*l+5*g)%11) / 11
		}
	}
	return s
}

var record = Record{Seed: 9, Digest: "sha256:" + strings.Repeat("b", 64)}

// TestWriteStreaming: in every family the plan resolves to the masks of the selection, in both phases.
func TestWriteStreaming(t *testing.T) {
	for _, c := range testmodel.Cases() {
		m := describe(t, c.Name)
		s := fakeScores(m)
		sel := Select(s.KV, 0.4)
		p := Draft(m)
		if err := WriteStreaming(p, m, sel, s, StreamingPolicy{Sink: 3, Recent: 10, Page: 4}, record); err != nil {
			t.Fatal(err)
		}
		sound(t, p)
		masks := Masks(sel.Full, 4, 12, m)
		for l, row := range sel.Full {
			for g := range row {
				want := device.Mask{Recent: m.Layers[l].Window}
				if own := masks(l); own != nil {
					want = own[g]
				}
				for _, phase := range []manifest.Phase{manifest.Prefill, manifest.Decoding} {
					got := device.Mask{Recent: m.Layers[l].Window}
					if pol, _ := p.Resolve(l, g, phase, 1000); pol.Kind == manifest.KindStreaming {
						got = device.Mask{Sink: pol.Sink, Recent: pol.Recent}
					}
					if got != want {
						t.Errorf("%s %d.%d: %v, want %v", c.Name, l, g, got, want)
					}
				}
				if v := *p.Layers[l].KVHeads[g].Score; v != Round(s.KV[l][g]) {
					t.Errorf("%s %d.%d: score %g", c.Name, l, g, v)
				}
			}
		}
		if e := p.Evidence; len(e) != 1 || e[0].Method != "fake" || e[0].Seed != 9 || e[0].Samples != 3 || e[0].DataDigest != record.Digest {
			t.Errorf("evidence %+v", e)
		}
		if r := p.Selection; r.Method != "fake" || *r.CutScore != sel.Cut || r.TiesAtCut != sel.TiesAtCut {
			t.Errorf("selection %+v", r)
		}
	}
}

// TestWriteStreamingPhases: phases are narrowed apart, short sequences stay dense, and everything full is a draft still.
func TestWriteStreamingPhases(t *testing.T) {
	m := describe(t, "llama-gqa")
	s := fakeScores(m)
	p := Draft(m)
	pol := StreamingPolicy{Sink: 4, Recent: 12, Compensation: true, DensePrefill: true, MinSaving: 0.5, MinSeq: 40}
	if err := WriteStreaming(p, m, SelectCount(s.KV, 0), s, pol, record); err != nil {
		t.Fatal(err)
	}
	sound(t, p)
	for n, want := range map[int]string{1: "full", 31: "full", 32: "streaming", 100: "streaming"} {
		if _, id := p.Resolve(0, 1, manifest.Decoding, n); id != want {
			t.Errorf("%d tokens decode under %s", n, id)
		}
	}
	if _, id := p.Resolve(0, 1, manifest.Prefill, 100); id != PolicyFull || p.Phases.Prefill.MinSeq != 40 {
		t.Errorf("prefill under %s from %d", id, p.Phases.Prefill.MinSeq)
	}
	if !reflect.DeepEqual(p.Requires, []string{manifest.FeatureCompensation, manifest.FeatureSinkTokens}) {
		t.Errorf("requires %v", p.Requires)
	}
	p = Draft(m)
	if err := WriteStreaming(p, m, Select(s.KV, 1), s, StreamingPolicy{Sink: 4, Recent: 12}, record); err != nil {
		t.Fatal(err)
	}
	if full, all := p.FullHeads(100); full != all || len(p.Requires) != 0 {
		t.Errorf("%d of %d heads are full, requires %v", full, all, p.Requires)
	}
}

func TestWriteStreamingRefuses(t *testing.T) {
	m, other := describe(t, "llama-gqa"), describe(t, "llama-pruned")
	s := fakeScores(m)
	sel := Select(s.KV, 0.5)
	good := StreamingPolicy{Sink: 1, Recent: 2}
	taken := Draft(m)
	taken.Policies[PolicyStreaming] = manifest.Streaming(5, 6)
	swapped := Draft(m)
	swapped.Layers[0].KVHeads[0].Head = 1
	for name, err := range map[string]error{
		"sizes":       WriteStreaming(Draft(m), m, sel, s, StreamingPolicy{Sink: -1, Recent: 4}, record),
		"recent":      WriteStreaming(Draft(m), m, sel, s, StreamingPolicy{}, record),
		"saving":      WriteStreaming(Draft(m), m, sel, s, StreamingPolicy{Recent: 1, MinSaving: 1}, record),
		"other model": WriteStreaming(Draft(other), m, sel, s, good, record),
		"selection":   WriteStreaming(Draft(m), m, Select(fakeScores(other).KV, 0.5), s, good, record),
		"scores":      WriteStreaming(Draft(m), m, sel, fakeScores(other), good, record),
		"policy":      WriteStreaming(taken, m, sel, s, good, record),
		"order":       WriteStreaming(swapped, m, sel, s, good, record),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "heads: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
