package manifest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"
)

// exchanged returns a plan over 4 layers of 2 KV heads and 8 query heads in which the KV heads named use a policy.
func exchanged(pol Policy, heads [][2]int, phases ...Phase) *Plan {
	p := model(4, 8, 2)
	p.Policies["x"] = pol
	p.Phases.Prefill = PrefillPhase{FirstChunk: "policy", ChunkMask: "exact"}
	for l := range 4 {
		row := Layer{Layer: l, Select: "none"}
		for g := range 2 {
			h := KVHead{Head: g, Decode: Always("full"), Prefill: "full"}
			for _, at := range heads {
				for _, ph := range phases {
					if at == [2]int{l, g} && ph == Prefill {
						h.Prefill = "x"
					} else if at == [2]int{l, g} {
						h.Decode = Always("x")
					}
				}
			}
			row.KVHeads = append(row.KVHeads, h)
		}
		p.Layers = append(p.Layers, row)
	}
	return p
}

var (
	oneHead  = [][2]int{{1, 0}}
	oneLayer = [][2]int{{1, 0}, {1, 1}}
)

// Each format takes a plan under its condition and names what it would lose otherwise.
func TestExportConditions(t *testing.T) {
	stream, elastic := Streaming(64, 256), Policy{Kind: KindElastic, Alpha: -1024, Beta: 0.5, Sink: 64, Block: 64, Min: 128, Length: "prompt_plus_max_new"}
	vs := Policy{Kind: KindVerticalSlash, Vertical: 500, Slash: 700, LastQ: 64, ForceVertical: 30, ForceSlash: 100}
	xa := Policy{Kind: KindBlockTopK, Selector: SelectXAttention, Block: 128, Stride: 8, Threshold: 0.9}
	comp := Policy{Kind: KindStreaming, Sink: 64, Recent: 256, Compensation: true}
	both := func(pol Policy, heads [][2]int) *Plan { return exchanged(pol, heads, Prefill, Decoding) }
	with := func(p *Plan, change func(*Plan)) *Plan { change(p); return p }
	for _, c := range []struct {
		name, format string
		p            *Plan
		loss         string // part of the losses, "" for none
	}{
		{"duo", "duo", both(stream, oneHead), ""},
		{"all full", "duo", both(Full(), oneHead), ""},
		{"prefill full", "duo", exchanged(stream, oneHead, Decoding), "a prefill of its own"},
		{"elastic", "duo", both(elastic, oneHead), "kind elastic: written as full (layer 1 head 0)"},
		{"elastic costs bytes", "duo", both(elastic, oneHead), "% of the saving"},
		{"compensation", "duo", both(comp, oneHead), "compensation"},
		{"two pairs", "duo", with(both(stream, oneHead), func(p *Plan) {
			p.Policies["y"] = Streaming(4, 60)
			p.Layers[0].KVHeads[0].Decode, p.Layers[0].KVHeads[0].Prefill = Always("y"), "y"
		}), "2 pairs of sink and recent: the largest, 64 and 256"},
		{"by length", "duo", with(both(stream, oneHead), func(p *Plan) {
			p.Layers[1].KVHeads[0].Decode = Rules{{MaxLen: 100, Use: "full"}, {Use: "x"}}
		}), "by length"},
		{"min_seq", "duo", with(both(stream, oneHead), func(p *Plan) { p.Phases.Prefill.MinSeq = 9 }), "min_seq"},
		{"rotated in the cache", "duo", with(both(stream, oneHead), func(p *Plan) { p.RopePositions = "within_cache" }), "rotated"},
		{"bits", "duo", with(both(stream, oneHead), func(p *Plan) { p.Layers[0].KVHeads[1].KVBits = []int{8, 4} }), "kv_bits"},
		{"mask", "duo", with(both(stream, oneHead), func(p *Plan) { p.Layers[0].KVHeads[1].KChannelMask = strings.Repeat("f", 32) }), "k_channel_mask"},
		{"shared", "duo", with(both(stream, oneHead), func(p *Plan) { p.Layers[0].Select = "tokens" }), "the choice that layers share (layer 0)"},
		{"omniserve", "omniserve", both(stream, oneHead), ""},
		{"blocks", "omniserve", both(Streaming(4, 256), oneHead), "whole blocks of 64 tokens, 64 and 256"},
		{"omni", "mindie-omni", both(Streaming(128, 256), oneHead), ""},
		{"omni sizes", "mindie-omni", both(stream, oneHead), "MindIE has 128 and 256"},
		{"golden-stick", "golden-stick", both(stream, oneHead), ""},
		{"golden-stick comp", "golden-stick", both(comp, oneHead), "compensation"},
		{"rtp", "rtp-llm", exchanged(stream, oneHead, Prefill), ""},
		{"rtp min_seq", "rtp-llm", with(exchanged(stream, oneHead, Prefill), func(p *Plan) { p.Phases.Prefill.MinSeq = 16384 }), ""},
		{"rtp decode", "rtp-llm", both(stream, oneHead), "readers decode dense"},
		{"rtp query head", "rtp-llm", with(exchanged(stream, oneHead, Prefill), func(p *Plan) {
			p.Layers[1].KVHeads[0].QHeads = map[string]QueryHead{"2": {Prefill: "full"}}
		}), ""},
		{"moa streaming", "moa", both(stream, oneHead), ""},
		{"moa elastic", "moa", both(elastic, oneHead), ""},
		{"moa sink", "moa", both(Streaming(4, 256), oneHead), "MoA has 64 sinks"},
		{"moa min", "moa", with(both(elastic, oneHead), func(p *Plan) { e := p.Policies["x"]; e.Min = 64; p.Policies["x"] = e }), "min 64"},
		{"moa recent", "moa", both(Streaming(64, 250), oneHead), "whole blocks of 64"},
		{"moa kind", "moa", both(Policy{Kind: KindTokenTopK, Selector: SelectSnapKV, Budget: 100, Window: 4}, oneHead), "kind token_topk"},
		{"moa prefill", "moa", exchanged(stream, oneHead, Decoding), "a prefill of its own (full)"},
		{"minference", "minference", exchanged(vs, oneHead, Prefill), ""},
		{"minference streaming", "minference", exchanged(stream, oneHead, Prefill), ""},
		{"minference blocks", "minference", exchanged(Policy{Kind: KindBlockTopK, Selector: SelectMeanPool, Block: 64, Blocks: 100}, oneHead, Prefill), ""},
		{"minference other blocks", "minference", exchanged(Policy{Kind: KindBlockTopK, Selector: SelectMeanPool, Block: 64, Blocks: 10}, oneHead, Prefill), "10 blocks of 64"},
		{"minference xattention", "minference", exchanged(xa, oneHead, Prefill), "kind block_topk"},
		{"minference last_q", "minference", with(exchanged(vs, oneHead, Prefill), func(p *Plan) { v := p.Policies["x"]; v.LastQ = 32; p.Policies["x"] = v }), "last_q 32"},
		{"minference min_seq", "minference", with(exchanged(vs, oneHead, Prefill), func(p *Plan) { p.Phases.Prefill.MinSeq = 9 }), "min_seq"},
		{"minference decode", "minference", exchanged(stream, oneHead, Decoding), "readers decode dense"},
		{"dual-chunk min_seq", "dual-chunk", with(exchanged(vs, oneHead, Prefill), func(p *Plan) { p.Phases.Prefill.MinSeq = 9 }), ""},
		{"dual-chunk last_q", "dual-chunk", with(exchanged(vs, oneHead, Prefill), func(p *Plan) { v := p.Policies["x"]; v.LastQ = 32; p.Policies["x"] = v }), ""},
		{"xattention", "xattention", exchanged(xa, [][2]int{{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, {2, 1}, {3, 0}, {3, 1}}, Prefill), ""},
		{"xattention full", "xattention", exchanged(xa, oneHead, Prefill), "kind full: written with threshold 1"},
		{"retrieval", "retrieval-head", with(both(Full(), oneHead), wuEvidence), ""},
		{"retrieval policy", "retrieval-head", with(both(stream, oneHead), wuEvidence), "prefill under streaming"},
		{"block-sparse", "block-sparse", exchanged(Streaming(128, 256), oneHead, Prefill), ""},
		{"block-sparse sizes", "block-sparse", exchanged(stream, oneHead, Prefill), "rounded up to blocks of 128"},
		{"layer", "layer-types", both(Streaming(0, 256), oneLayer), ""},
		{"head", "layer-types", both(Streaming(0, 256), oneHead), "in a layer where not all do: the layer is full (layer 1)"},
		{"head's bytes", "layer-types", both(Streaming(0, 256), oneHead), "100.0 % of the saving at 131072 tokens"},
		{"sinks", "layer-types", both(stream, oneLayer), "the first 64 tokens"},
		{"layer prefill", "layer-types", exchanged(Streaming(0, 256), oneLayer, Decoding), "prefill under full"},
		{"layer kinds", "layer-types", both(elastic, oneLayer), "kind elastic"},
		{"gguf", "gguf", both(Streaming(0, 256), oneLayer), ""},
		{"gguf sinks", "gguf", both(stream, oneLayer), "the first 64 tokens"},
		{"tensorrt", "tensorrt-llm", both(stream, oneLayer), ""},
		{"tensorrt dense prefill", "tensorrt-llm", exchanged(stream, oneLayer, Decoding), ""},
		{"tensorrt sinks", "tensorrt-llm", with(both(stream, oneLayer), func(p *Plan) {
			p.Policies["y"] = Streaming(4, 60)
			for g := range 2 {
				p.Layers[0].KVHeads[g].Decode, p.Layers[0].KVHeads[g].Prefill = Always("y"), "y"
			}
		}), "sinks of different numbers: all layers that slide have 64"},
	} {
		c.p.Requires = c.p.Needs()
		f := FormatByName(c.format)
		out, err := f.Export(c.p, Options{})
		if c.loss == "" {
			if err != nil || len(out.Files) == 0 {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			sameKeys(t, c.name, f, c.p, out)
			continue
		}
		var lost *LossError
		if !errors.As(err, &lost) || !errors.Is(err, ErrLossy) || !strings.Contains(err.Error(), c.loss) {
			t.Errorf("%s: %v, want %q", c.name, err, c.loss)
			continue
		}
		out, err = f.Export(c.p, Options{Lossy: true})
		if err != nil || len(out.Losses) != len(lost.Losses) || len(out.Files) == 0 {
			t.Errorf("%s, lossy: %v", c.name, err)
			continue
		}
		var o Options
		if f.Dir {
			sparsity := recommendedSparsity(t, out.Notes)
			o.Sparsity = &sparsity
		}
		in, err := f.Import(out.Files, model(4, 8, 2), o)
		if err != nil {
			t.Errorf("%s, lossy, read again: %v", c.name, err)
			continue
		}
		again, err := f.Export(in.Plan, Options{Lossy: f.Name == "omniserve"}) // it has sizes that are not in its files
		if err != nil {
			t.Errorf("%s, lossy, written again: %v", c.name, err)
			continue
		}
		sameFiles(t, c.name, again.Files, out.Files)
	}
}

// sameKeys imports an export that lost nothing and compares what every head keeps, and sees in prefill.
func sameKeys(t *testing.T, name string, f *Format, p *Plan, out *Exported) {
	t.Helper()
	var o Options
	if f.Dir {
		sparsity := recommendedSparsity(t, out.Notes)
		o.Sparsity = &sparsity
	}
	if f.Name == "golden-stick" { // sizes are its settings
		o.Sink, o.Recent = 64, 256
	}
	in, err := f.Import(out.Files, model(4, 8, 2), o)
	if err != nil {
		t.Errorf("%s, read again: %v", name, err)
		return
	}
	for l := range 4 {
		for q := range 8 {
			for _, n := range []int{1, 100, 300, 4096, 20000, 131072} {
				a, _ := p.Resolve(l, q/4, Decoding, n)
				b, _ := in.Plan.Resolve(l, q/4, Decoding, n)
				if a.Span(n) != b.Span(n) {
					t.Errorf("%s: layer %d head %d decodes %d tokens by %s, was %s", name, l, q/4, n, b.Kind, a.Kind)
				}
				a, _ = p.ResolveQuery(l, q, Prefill, n)
				b, _ = in.Plan.ResolveQuery(l, q, Prefill, n)
				i, j := mustJSON(t, a), mustJSON(t, b)
				if i != j && !(f.Name == "moa" && a.Span(n) == b.Span(n)) && f.Name != "tensorrt-llm" {
					t.Errorf("%s: layer %d query head %d prefills %d tokens by %s, was %s", name, l, q, n, j, i)
				}
			}
		}
	}
}

func mustJSON(t *testing.T, p Policy) string {
	t.Helper()
	text, err := p.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func wuEvidence(p *Plan) {
	e := Evidence{Method: methodWu, Unit: unitWu, Per: PerQHead}
	for range p.Model.Layers {
		e.Scores = append(e.Scores, make([]float64, p.Model.Heads))
	}
	p.Evidence = []Evidence{e}
}

// A plan without scores of the method, or for an architecture without a name, is in no form of the format.
func TestUnfit(t *testing.T) {
	p := exchanged(Full(), oneHead, Decoding)
	p.Model.Architecture = "OtherForCausalLM"
	p.Requires = p.Needs()
	for _, name := range []string{"retrieval-head", "gguf"} {
		if _, err := FormatByName(name).Export(p, Options{Lossy: true}); !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.Fallback = "hope"
	if _, err := FormatByName("duo").Export(p, Options{Lossy: true}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

// quantile is numpy.quantile with its default, linear interpolation.
func quantile(scores []float64, q float64) float64 {
	s := append([]float64{}, scores...)
	sort.Float64s(s)
	at := q * float64(len(s)-1)
	lo := int(math.Floor(at))
	hi := min(lo+1, len(s)-1)
	return s[lo] + (s[hi]-s[lo])*(at-float64(lo))
}

// Whatever noise a reader adds, the quantile at the recommended sparsity gives the plan's own heads: the file's scores part them,
// or are moved until they do. Scores that part them already are written as they were.
func TestDuoQuantile(t *testing.T) {
	f, base := FormatByName("duo"), model(32, 32, 8)
	files := example(t, duoExample...)
	r := rand.New(rand.NewPCG(1, 2))
	for _, sparsity := range []float64{0.1, 0.25, 0.5, 0.6, 0.65, 0.75, 0.9, 0.996} {
		in, err := f.Import(files, base, Options{Sparsity: &sparsity})
		if err != nil {
			t.Fatal(err)
		}
		out, err := f.Export(in.Plan, Options{})
		if err != nil {
			t.Fatal(err)
		}
		tied := in.Plan.Selection.TiesAtCut > 0
		if same := string(out.Files[0].Data) == string(files[0].Data); same == tied {
			t.Errorf("sparsity %v: %d ties at the cut, scores unchanged %t", sparsity, in.Plan.Selection.TiesAtCut, same)
		}
		rd, err := newReader("duo", out.Files, base, Options{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := rd.matrix(out.Files[0], "\t")
		if err != nil {
			t.Fatal(err)
		}
		recommended := recommendedSparsity(t, out.Notes)
		for range 20 {
			var flat []float64
			for _, row := range m {
				for _, v := range row {
					flat = append(flat, clip01(v)+1e-6*r.Float64())
				}
			}
			cut := quantile(flat, recommended)
			for i, v := range flat {
				pol, _ := in.Plan.Resolve(i/8, i%8, Decoding, 9999)
				if full := pol.Kind == KindFull; full != (v >= cut) {
					t.Fatalf("sparsity %v: a reader takes layer %d head %d as full %t, the plan %t", sparsity, i/8, i%8, v >= cut, full)
				}
			}
		}
		// A second round neither moves a score nor changes a head.
		again, err := f.Import(out.Files, base, Options{Sparsity: &recommended})
		if err != nil {
			t.Fatal(err)
		}
		second, err := f.Export(again.Plan, Options{})
		if err != nil {
			t.Fatal(err)
		}
		sameFiles(t, fmt.Sprint(sparsity), second.Files, out.Files)
		for i := range 256 {
			_, a := in.Plan.Resolve(i/8, i%8, Decoding, 9999)
			if _, b := again.Plan.Resolve(i/8, i%8, Decoding, 9999); a != b {
				t.Fatalf("sparsity %v: head %d changed", sparsity, i)
			}
		}
	}
}

func recommendedSparsity(t *testing.T, notes []string) float64 {
	t.Helper()
	var v float64
	for _, n := range notes {
		if _, err := fmt.Sscanf(n, "give readers the sparsity %f", &v); err == nil {
			return v
		}
	}
	t.Fatalf("no sparsity in %q", notes)
	return 0
}

// Scores of another method, out of 0 to 1 and against the choice of heads, still give the plan's heads.
func TestDuoOtherScores(t *testing.T) {
	p := exchanged(Streaming(64, 256), [][2]int{{0, 0}, {1, 1}, {3, 0}}, Prefill, Decoding)
	for l := range p.Layers {
		for g := range p.Layers[l].KVHeads {
			s := (float64(l*2+g)*40 - 100) * 9e305 // their range is no float64
			p.Layers[l].KVHeads[g].Score = &s
		}
	}
	p.Requires = p.Needs()
	f := FormatByName("duo")
	out, err := f.Export(p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := f.Import(out.Files, model(4, 8, 2), Options{Sparsity: share(3.0 / 8)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		a, _ := p.Resolve(i/2, i%2, Decoding, 9999)
		if b, _ := in.Plan.Resolve(i/2, i%2, Decoding, 9999); a.Kind != b.Kind {
			t.Errorf("layer %d head %d is %s, was %s", i/2, i%2, b.Kind, a.Kind)
		}
	}
}

// widest against the sizes themselves, at every length: never less than any member, and no more rules than needed.
func TestWidest(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		policies := map[string]Policy{"full": Full()}
		var members []Rules
		for i := range 1 + r.IntN(4) {
			id := fmt.Sprint("p", i)
			switch r.IntN(4) {
			case 0:
				policies[id] = Streaming(r.IntN(64), 1+r.IntN(900))
			case 1:
				policies[id] = Policy{Kind: KindTokenTopK, Selector: SelectSnapKV, Budget: 1 + r.IntN(900), Window: 8}
			default:
				policies[id] = Policy{Kind: KindElastic, Alpha: float64(r.IntN(1000) - 500), Beta: float64(r.IntN(9)) / 8, Block: 1, Min: 1 + r.IntN(100), Length: "prompt"}
			}
			rule := Always(id)
			if r.IntN(4) == 0 {
				rule = Rules{{MaxLen: 1 + r.IntN(1000), Use: "full"}, {Use: id}}
			}
			members = append(members, rule)
		}
		rules, err := widest(policies, members)
		if err != nil {
			t.Fatal(err)
		}
		v := &validator{}
		if rules.validate(v, "rules"); len(v.faults) > 0 {
			t.Fatalf("%v: %v", rules, v.faults)
		}
		for i := 1; i < len(rules); i++ {
			if rules[i].Use == rules[i-1].Use {
				t.Fatalf("%v: a rule for nothing", rules)
			}
		}
		for n := 1; n < 3000; n++ {
			most := 0
			for _, m := range members {
				pol := policies[m.at(n)]
				most = max(most, pol.Span(n))
			}
			pol := policies[rules.at(n)]
			if got := pol.Span(n); got != most {
				t.Fatalf("%v keeps %d of %d, members up to %d (%v, %v)", rules, got, n, most, members, policies)
			}
		}
	}
	// One that is never the smaller needs no rule, though the other is named first and as large for short sequences.
	pair := map[string]Policy{
		"a": {Kind: KindElastic, Beta: 0.125, Block: 64, Min: 128, Length: "prompt"},
		"b": {Kind: KindElastic, Beta: 0.25, Block: 64, Min: 128, Length: "prompt"},
	}
	if rules, err := widest(pair, always([]string{"a", "b"})); err != nil || !sameRules(rules, Always("b")) {
		t.Errorf("%v, %v", rules, err)
	}
	many := make([]string, maxMembers+1)
	for i := range many {
		many[i] = fmt.Sprint("id", i)
	}
	if _, err := widest(map[string]Policy{}, always(many)); !errors.Is(err, ErrUnfit) {
		t.Error(err)
	}
}

// What MoA's plan costs when a group shares a cache, counted head by head.
func TestMoAGroupLoss(t *testing.T) {
	in, err := FormatByName("moa").Import(example(t, "moa_alpha_beta.json"), model(4, 8, 2), Options{Length: 16384})
	if err != nil {
		t.Fatal(err)
	}
	single, err := FormatByName("moa").Import(example(t, "moa_alpha_beta.json"), model(4, 8, 8), Options{Length: 16384})
	if err != nil {
		t.Fatal(err)
	}
	grouped, _, _ := in.Plan.KVBytes(16384, 2)
	each, _, _ := single.Plan.KVBytes(16384, 2)
	if len(in.Losses) != 1 || in.Losses[0].Bytes != grouped-each/4 || len(single.Losses) != 0 {
		t.Errorf("losses %v and %v; %d bytes in groups, %d for single heads", in.Losses, single.Losses, grouped, each)
	}
}
