package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats/hf"
	"modelpress/formats/manifest"
	"modelpress/formats/planfile"
	"modelpress/heads"
	"modelpress/heads/kvmerge"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

const (
	planHeads = "calibration: {sequences: 2, holdout: 1, length: 32}\nheads: {method: projected_error, full_share: 0.5, sink: 2, recent: 8}"
	planRTN   = "quantize: {method: rtn, group_size: 32}"
)

// carrying is a bench whose source is the result of a run that planned heads and nothing else.
func carrying(t *testing.T, name, recipe string) *bench {
	t.Helper()
	b := newBench(t, testmodel.Named(name), planHeads)
	_, _, b.src = b.run()
	b.dir, b.recipe = t.TempDir(), recipe
	return b
}

func (b *bench) read(dir, name string) []byte {
	b.t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	b.check(err)
	return raw
}

// rewrite edits the attention plan beside the source, its pointer with it.
func (b *bench) rewrite(edit func(doc string) string) {
	b.t.Helper()
	doc := []byte(edit(string(b.read(b.src, manifestName))))
	b.check(os.WriteFile(filepath.Join(b.src, manifestName), doc, 0o644))
	b.point(manifest.NewPointer(doc))
}

// point sets what the source's configuration says of its attention plan.
func (b *bench) point(to any) {
	b.t.Helper()
	config, err := hf.EditConfig(b.read(b.src, configName), []hf.KV{{Key: "attention_plan", Value: to}}, nil)
	b.check(err)
	b.check(os.WriteFile(filepath.Join(b.src, configName), config, 0o644))
}

// samePolicies compares what every head of two plans may see, at lengths around those where rules change.
func samePolicies(t *testing.T, got, want *manifest.Plan) {
	t.Helper()
	for l := range want.Model.Layers {
		h, g := want.Counts(l)
		if gotH, gotG := got.Counts(l); gotH != h || gotG != g {
			t.Fatalf("layer %d has %d and %d heads, want %d and %d", l, gotH, gotG, h, g)
		}
		for _, n := range []int{1, 9, 31, 64, 4096} {
			for k := range g {
				a, _ := got.Resolve(l, k, manifest.Decoding, n)
				if b, _ := want.Resolve(l, k, manifest.Decoding, n); !sameJSON(a, b) {
					t.Errorf("layer %d KV head %d: %+v, want %+v", l, k, a, b)
				}
			}
			for q := range h {
				a, _ := got.ResolveQuery(l, q, manifest.Prefill, n)
				if b, _ := want.ResolveQuery(l, q, manifest.Prefill, n); !sameJSON(a, b) {
					t.Errorf("layer %d query head %d: %+v, want %+v", l, q, a, b)
				}
			}
		}
	}
}

// TestCarried: a recipe without heads keeps the attention plan that the source carries. The result's plan is for the result, verify
// and eval accept it, it has the policies of the source's, and two runs give the same bytes.
func TestCarried(t *testing.T) {
	for name, recipe := range map[string]string{
		"llama-gqa":       planRTN,
		"mistral-swa":     planRTN,
		"qwen3-tied":      "seed: 3\nquantize: {method: rtn, group_size: 32, rotate: hadamard}",
		"llama-rope-yarn": "calibration: {sequences: 4, holdout: 0, length: 32}\nquantize: {method: gptq, group_size: 32}",
		"gpt2":            "quantize: {method: rtn, bits: 3, group_size: 32}",
	} {
		t.Run(name, func(t *testing.T) {
			b := carrying(t, name, recipe)
			source, err := manifest.Decode(b.read(b.src, manifestName))
			b.check(err)
			p, rep, out := b.run()
			h := &headsDecision{}
			b.check(decodeDecision(p.Steps[0].Decision, h))
			if len(p.Steps) != 2 || h.Method != methodCarried || len(h.HeldOut) > 0 || (p.Calibration != nil) != strings.Contains(recipe, "gptq") {
				t.Errorf("%d steps, %s, held out %v, calibration %v", len(p.Steps), h.Method, h.HeldOut, p.Calibration)
			}
			doc := b.read(out, manifestName)
			got, err := manifest.Decode(doc)
			b.check(err)
			samePolicies(t, got, source)
			samePolicies(t, h.Plan, source)
			b.check(got.CheckModel(rep.WeightsDigest, rep.HeadersDigest, rep.ConfigDigest))
			if got.CheckModel(rep.SourceWeights, "", "") == nil || got.Producer.PlanID != p.PlanID || got.Quality != nil || !sameJSON(got.Budget, source.Budget) {
				t.Errorf("%+v, %+v, quality %+v, budget %+v", got.Model, got.Producer, got.Quality, got.Budget)
			}
			v, err := Verify(context.Background(), out, testEnv())
			if err != nil || len(v.Faults) > 0 {
				t.Errorf("%v, %v", v, err)
			}
			e, err := Evaluate(context.Background(), EvalOptions{ModelDir: out, AttentionPlan: "auto", Data: b.data, Length: 32, BOS: "auto", Windows: 2, Env: testEnv()})
			b.check(err)
			want := heads.PlanBytes(source, b.open(b.src).arch, bf16Bytes, 512)
			if e.Plan != sumDigest(doc) || e.KV[0] != want || want.Planned == want.Dense && name != "mistral-swa" {
				t.Errorf("evaluated under %s, %+v", e.Plan, e.KV)
			}
			again, err := b.plan()
			b.check(err)
			o := b.options(again, "again")
			if !bytes.Equal(o.PlanBytes, b.read(out, planName)) {
				t.Error("planned twice, two plans")
			}
			_, err = Apply(context.Background(), o)
			b.check(err)
			b.sameDirs(out, o.Out)
		})
	}
}

// TestCarriedTwice: a plan that was carried over is carried over again.
func TestCarriedTwice(t *testing.T) {
	b := carrying(t, "llama-gqa", "quantize: {method: rtn, bits: 3, group_size: 32}")
	source, err := manifest.Decode(b.read(b.src, manifestName))
	b.check(err)
	for range 2 {
		_, _, out := b.run()
		b.src, b.dir = out, t.TempDir()
	}
	got, err := manifest.Decode(b.read(b.src, manifestName))
	b.check(err)
	samePolicies(t, got, source)
}

// TestCarriedReplaced: a recipe with heads has no use for the plan beside the source, not even for a damaged one.
func TestCarriedReplaced(t *testing.T) {
	b := carrying(t, "llama-gqa", strings.Replace(planHeads, "0.5", "1", 1))
	b.check(os.WriteFile(filepath.Join(b.src, manifestName), []byte("damaged"), 0o644))
	p, _, out := b.run()
	h := &headsDecision{}
	b.check(decodeDecision(p.Steps[0].Decision, h))
	got, err := manifest.Decode(b.read(out, manifestName))
	b.check(err)
	if full, all := got.FullHeads(256); h.Method != "projected_error" || full != all {
		t.Errorf("%s, %d of %d heads full", h.Method, full, all)
	}
}

// TestCarriedRefused: a plan that is not whole, or not for this source, is refused when it is planned with, and when it became so before
// apply.
func TestCarriedRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(b *bench)
		kind Kind
		want string
	}{
		{"missing", func(b *bench) { b.check(os.Remove(filepath.Join(b.src, manifestName))) }, KindInput, manifestName + ": no such file"},
		{"a directory", func(b *bench) {
			b.check(os.Remove(filepath.Join(b.src, manifestName)))
			b.check(os.Mkdir(filepath.Join(b.src, manifestName), 0o755))
		}, KindInput, manifestName + ": is not a regular file"},
		{"another document", func(b *bench) {
			b.check(os.WriteFile(filepath.Join(b.src, manifestName), append(b.read(b.src, manifestName), '\n'), 0o644))
		}, KindStale, manifestName + " has sha256"},
		{"no document", func(b *bench) { b.rewrite(func(string) string { return "{" }) }, KindInput, manifestName + ": "},
		{"with a fault", func(b *bench) {
			b.rewrite(func(doc string) string { return strings.Replace(doc, `"recent": 8`, `"recent": 0`, 1) })
		}, KindInput, "policies."},
		{"needs what is not known", func(b *bench) {
			b.rewrite(func(doc string) string {
				return strings.Replace(doc, `"requires": [`, `"requires": ["time_travel", `, 1)
			})
		}, KindInput, "time_travel"},
		{"of another shape", func(b *bench) {
			b.rewrite(func(doc string) string {
				return strings.Replace(doc, `"num_attention_heads": 8`, `"num_attention_heads": 16`, 1)
			})
		}, KindInput, "16 query"},
		{"of another head dim", func(b *bench) {
			b.rewrite(func(doc string) string { return strings.Replace(doc, `"head_dim": 8`, `"head_dim": 16`, 1) })
		}, KindInput, "heads of 16 channels"},
		{"a kind that cannot be run", func(b *bench) {
			b.rewrite(func(doc string) string { return strings.Replace(doc, `"kind": "streaming"`, `"kind": "magic"`, 1) })
		}, KindInput, "magic"},
		{"of other weights", func(b *bench) {
			m := testmodel.New(testmodel.Options{G: 2, Seed: 77})
			other := b.t.TempDir()
			b.check(m.Write(other, 0))
			b.check(os.WriteFile(filepath.Join(b.src, "model.safetensors"), b.read(other, "model.safetensors"), 0o644))
		}, KindStale, manifestName + ": manifest: weights_digest"},
		{"of another configuration", func(b *bench) {
			b.check(os.WriteFile(filepath.Join(b.src, configName), bytes.Replace(b.read(b.src, configName), []byte(`"rope_theta": 10000`), []byte(`"rope_theta": 20000`), 1), 0o644))
		}, KindStale, "config_digest"},
		{"elsewhere", func(b *bench) {
			b.point(manifest.Pointer{Schema: manifest.Schema, File: "../" + manifestName})
		}, KindInput, configName + ": attention_plan names the file"},
		{"no pointer", func(b *bench) { b.point(3) }, KindInput, configName + ": attention_plan"},
	} {
		b := carrying(t, "llama-gqa", planRTN)
		p, err := b.plan()
		b.check(err)
		c.edit(b)
		if _, err := b.plan(); KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v (class %d), want class %d with %q", c.name, err, KindOf(err), c.kind, c.want)
		}
		o := b.options(p, "out")
		if _, err := Apply(context.Background(), o); KindOf(err) != KindStale {
			t.Errorf("%s, between plan and apply: %v", c.name, err)
		}
		if _, err := os.Stat(o.Out + partialSuffix); err == nil {
			t.Errorf("%s: something was written", c.name)
		}
	}
}

// TestCarriedGates: where the recipe has held-out data, a carried plan is measured and gated when it is planned, and again on the result.
func TestCarriedGates(t *testing.T) {
	const data = "calibration: {sequences: 2, holdout: 2, length: 32}\nquantize: {method: rtn, group_size: 32}\n"
	b := carrying(t, "llama-gqa", data+"gates: {plan_kl: 1000, plan_ppl_ratio: 1000}")
	p, rep, out := b.run()
	h := &headsDecision{}
	b.check(decodeDecision(p.Steps[0].Decision, h))
	if len(h.HeldOut) != 2 || h.HeldOut[1].Name != nameKL || toFloat(h.HeldOut[1].Plan) <= 0 {
		t.Errorf("held out: %v", h.HeldOut)
	}
	got, err := manifest.Decode(b.read(out, manifestName))
	b.check(err)
	if len(rep.Gates) != 2 || !rep.Passed() || got.Quality == nil || got.Quality.Metrics[0].Name != namePerplexity {
		t.Errorf("gates %v, quality %+v", rep.Gates, got.Quality)
	}
	b.recipe = data + "gates: {plan_kl: 0.0000001}"
	if _, err := b.plan(); KindOf(err) != KindGate || !strings.Contains(err.Error(), metricPlanKL) || !strings.Contains(err.Error(), hintAnew) {
		t.Errorf("%v", err)
	}
	// Without a plan to carry over there is nothing to gate.
	b = newBench(t, testmodel.Named("llama-gqa"), data+"gates: {plan_kl: 1000}")
	if _, err := b.plan(); KindOf(err) != KindUsage || !strings.Contains(err.Error(), "gates.plan_ppl_ratio and gates.plan_kl need the heads section") {
		t.Errorf("%v", err)
	}
}

// TestCarriedTampered: apply takes nothing for carried over but what the source carries.
func TestCarriedTampered(t *testing.T) {
	b := carrying(t, "llama-gqa", planRTN)
	whole := func() *planfile.Plan {
		p, err := b.plan()
		b.check(err)
		return p
	}
	decision := func(edit func(h *headsDecision)) func(p *planfile.Plan) {
		return func(p *planfile.Plan) {
			h := &headsDecision{}
			b.check(decodeDecision(p.Steps[0].Decision, h))
			edit(h)
			raw, err := json.Marshal(h)
			b.check(err)
			p.Steps[0].Decision = raw
		}
	}
	for name, edit := range map[string]func(p *planfile.Plan){
		"no step":        func(p *planfile.Plan) { p.Steps = p.Steps[1:] },
		"another method": decision(func(h *headsDecision) { h.Method = "wu" }),
		"another policy": decision(func(h *headsDecision) {
			for id, pol := range h.Plan.Policies {
				if pol.Kind == manifest.KindStreaming {
					pol.Recent++
					h.Plan.Policies[id] = pol
				}
			}
		}),
		"another score":    decision(func(h *headsDecision) { h.Plan.Evidence[0].Scores[0][0]++ }),
		"another budget":   decision(func(h *headsDecision) { h.Plan.Budget.KVBytesPerToken++ }),
		"other weights":    decision(func(h *headsDecision) { h.Plan.Model.WeightsDigest = placeholderDigest }),
		"no plan":          decision(func(h *headsDecision) { h.Plan = nil }),
		"notes":            decision(func(h *headsDecision) { h.Notes = []string{"trust me"} }),
		"measured by whom": decision(func(h *headsDecision) { h.HeldOut = []metric{{"kl", "0", "0"}} }),
	} {
		p := whole()
		edit(p)
		_, err := Apply(context.Background(), b.options(p, "out"))
		if KindOf(err) != KindStale || !strings.Contains(err.Error(), "plan again") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A source that carries nothing has nothing to carry over.
	p := whole()
	step := p.Steps[0]
	b = newBench(t, testmodel.Named("llama-gqa"), planRTN)
	p = whole()
	p.Steps = append([]planfile.Step{step}, p.Steps...)
	if _, err := Apply(context.Background(), b.options(p, "out")); KindOf(err) != KindStale || !strings.Contains(err.Error(), "do not agree on heads") {
		t.Errorf("%v", err)
	}
	_, err := Apply(context.Background(), b.options(whole(), "out"))
	b.check(err)
}

// putPlan writes a plan for the source in which the first KV head of every layer streams, and the pointer to it.
func (b *bench) putPlan() *manifest.Plan {
	b.t.Helper()
	s := b.open(b.src)
	d, err := digestsOf(context.Background(), s, testEnv())
	b.check(err)
	p := heads.Draft(s.arch)
	identify(p, s, planfile.Tool{Name: "other", Version: "7"}, d)
	p.Policies["s"] = manifest.Streaming(2, 6)
	for l := range p.Layers {
		if list := p.Layers[l].KVHeads; len(list) > 0 {
			list[0].Decode = manifest.Always("s")
		}
	}
	p.Requires = p.Needs()
	doc, err := manifest.Encode(p)
	b.check(err)
	b.check(os.WriteFile(filepath.Join(b.src, manifestName), doc, 0o644))
	b.point(manifest.NewPointer(doc))
	return p
}

// carrierOf returns a carrier for the bench's source; the model is the source's where m is nil.
func (b *bench) carrierOf(m *nn.Model, layers []kvmerge.Layer) *carrier {
	b.t.Helper()
	s := b.open(b.src)
	d, err := digestsOf(context.Background(), s, testEnv())
	b.check(err)
	if m == nil {
		m = s.model(testEnv().Device)
	}
	return &carrier{s, m, nil, layers, planfile.Tool{Name: "test", Version: "0"}, d}
}

// TestCarriedEveryFamily: plans of every family can be carried over, those of layers with their own head counts or without attention too.
func TestCarriedEveryFamily(t *testing.T) {
	for _, c := range testmodel.Cases() {
		b := newBench(t, testmodel.New(c.Options), "")
		want := b.putPlan()
		h, err := b.carrierOf(nil, nil).decide()
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		samePolicies(t, h.Plan, want)
		if !sameJSON(h.Plan.Model, want.Model) || h.Plan.Producer.Name != "test" || h.Plan.Budget == nil {
			t.Errorf("%s: %+v, want %+v", c.Name, h.Plan.Model, want.Model)
		}
	}
}

// TestCarriedMerged: the plan follows KV heads that are merged, repeated, or both, to a model of other head counts.
func TestCarriedMerged(t *testing.T) {
	b := newBench(t, testmodel.New(testmodel.Options{Layers: 2, D: 64, H: 8, G: 4, F: 96, V: 128, Seed: 5}), "")
	b.putPlan()
	pairs := kvmerge.Layer{Groups: kvmerge.Groups{{0, 2}, {1, 3}}}
	twice := kvmerge.Layer{Groups: pairs.Groups, Repeat: 2}
	copies := kvmerge.Layer{Repeat: 2}
	streams := func(g ...bool) []bool { return g }
	for _, c := range []struct {
		name    string
		layers  []kvmerge.Layer
		kvHeads [2]int
		streams [2][]bool
	}{
		{"one merged", []kvmerge.Layer{pairs, {}}, [2]int{2, 4}, [2][]bool{streams(false, false), streams(true, false, false, false)}},
		{"merged and repeated", []kvmerge.Layer{twice, twice}, [2]int{4, 4}, [2][]bool{make([]bool, 4), make([]bool, 4)}},
		{"repeated", []kvmerge.Layer{{}, copies}, [2]int{4, 8}, [2][]bool{streams(true, false, false, false), append(streams(true, true), make([]bool, 6)...)}},
		{"nothing done", make([]kvmerge.Layer, 2), [2]int{4, 4}, [2][]bool{streams(true, false, false, false), streams(true, false, false, false)}},
	} {
		m := testmodel.New(testmodel.Options{Layers: 2, D: 64, H: 8, G: 4, F: 96, V: 128, Seed: 5,
			PerLayer: map[int]testmodel.Sizes{0: {H: 8, G: c.kvHeads[0]}, 1: {H: 8, G: c.kvHeads[1]}}})
		dir := t.TempDir()
		b.check(m.Write(dir, 0))
		merged := b.open(dir).model(testEnv().Device)
		h, err := b.carrierOf(merged, c.layers).decide()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if want := kvBudget(h.Plan, merged.Arch); !sameJSON(h.Plan.Budget, want) || h.Plan.Budget.KVBytesPerToken != int64(c.kvHeads[0]+c.kvHeads[1])*2*8*bf16Bytes {
			t.Errorf("%s: budget %+v", c.name, h.Plan.Budget)
		}
		for l, row := range c.streams {
			if _, g := h.Plan.Counts(l); g != len(row) {
				t.Fatalf("%s: layer %d has %d KV heads", c.name, l, g)
			}
			for g, want := range row {
				if pol, _ := h.Plan.Resolve(l, g, manifest.Decoding, 100); (pol.Kind == manifest.KindStreaming) != want {
					t.Errorf("%s: layer %d KV head %d decodes by %s", c.name, l, g, pol.Kind)
				}
			}
		}
		if _, err := manifest.Encode(h.Plan); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// A mapping that cannot be, and one to another model than there is.
	_, err := b.carrierOf(nil, []kvmerge.Layer{{Repeat: 3}, {}}).decide()
	if KindOf(err) != KindInput || !strings.Contains(err.Error(), manifestName) {
		t.Errorf("%v", err)
	}
	if _, err := b.carrierOf(nil, []kvmerge.Layer{pairs, pairs}).decide(); KindOf(err) != KindInput {
		t.Errorf("%v", err)
	}
}
