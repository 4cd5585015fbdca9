package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"

	"modelpress/formats/manifest"
	"modelpress/formats/planfile"
	"modelpress/heads"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/pipeline"
)

// recipe is how the plans of a method and budget are asked for. The budget holds at twice the calibration length.
func (s settings) recipe(method string, budget float64) string {
	text := fmt.Sprintf(`seed: %d
calibration: {sequences: %d, holdout: 1, length: %d}
retrieval:
  fact: "\n// The pass key of {name} is {code}. Remember {name}.\n"
  question: "\n// What is the pass key of {name}? The pass key of {name} is"
  lengths: [%d, %d, %d]
  depths: [0.1, 0.4, 0.7]
  per_cell: 4
  distractors: 1
heads: {method: %s, budget_length: %d`, s.seed, s.sequences, s.length, s.length/2, s.length*3/4, s.length, method, 2*s.length)
	if method != "razor" {
		text += fmt.Sprintf(", kv_budget: %g", budget)
	}
	if method == "duo" && s.steps > 0 {
		text += fmt.Sprintf(", duo: {steps: %d}", s.steps)
	}
	if s.extra != "" {
		text += ", " + s.extra
	}
	return text + "}\n"
}

// make plans by the product's own code, and returns the attention plan of the decision.
func (s settings) make(ctx context.Context, method string, budget float64) (*manifest.Plan, error) {
	text := []byte(s.recipe(method, budget))
	r, err := pipeline.ParseRecipe(text)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	p, err := pipeline.Plan(ctx, pipeline.PlanOptions{ModelDir: s.model, Recipe: r, RecipeDigest: "sha256:" + hex.EncodeToString(sum[:]), Data: pipeline.DataPaths{Calib: s.calib, Heldout: s.heldout},
		Tool: planfile.Tool{Name: "headplans", Version: "1"}, Env: pipeline.Env{Device: cpu.New(s.threads), Progress: silent{}}})
	if err != nil {
		return nil, fmt.Errorf("%s at %g: %w", method, budget, err)
	}
	var d struct {
		Plan *manifest.Plan `json:"plan"`
	}
	if err := json.Unmarshal(p.Steps[0].Decision, &d); err != nil {
		return nil, err
	}
	return d.Plan, nil
}

// uniform gives every head the same sinks and window, so that the whole keeps at least as many tokens at a length as p does.
func uniform(p *manifest.Plan, m *arch.Model, length, sink int) *manifest.Plan {
	c := heads.PlanBytes(p, m, 2, length)
	keep := int(math.Ceil(c.Density() * float64(length)))
	u := heads.Draft(m)
	u.Model = p.Model
	u.Policies["s"] = manifest.Streaming(min(sink, keep-1), max(1, keep-sink))
	setAll(u, func(int, int) string { return "s" })
	return u
}

// random keeps as many heads full as fit the bytes of p at a length, chosen by a seed, and gives the others the window.
func random(p *manifest.Plan, m *arch.Model, length, sink, recent int, seed uint64) *manifest.Plan {
	c := heads.PlanBytes(p, m, 2, length)
	total := 0
	for _, l := range m.Layers {
		total += l.G
	}
	window := math.Min(float64(sink+recent), float64(length)) / float64(length)
	count := int(math.Round((c.Density() - window) / (1 - window) * float64(total)))
	order := rand.New(rand.NewPCG(seed, 0x72616e64)).Perm(total)
	u := heads.Draft(m)
	u.Model = p.Model
	u.Policies["s"] = manifest.Streaming(sink, recent)
	at := 0
	setAll(u, func(int, int) string {
		at++
		if order[at-1] < count {
			return heads.PolicyFull
		}
		return "s"
	})
	return u
}

func setAll(p *manifest.Plan, policy func(layer, head int) string) {
	for l := range p.Layers {
		for g := range p.Layers[l].KVHeads {
			id := policy(l, g)
			p.Layers[l].KVHeads[g].Decode, p.Layers[l].KVHeads[g].Prefill = manifest.Always(id), id
		}
	}
	p.Requires = p.Needs()
}

// silent shows no progress.
type silent struct{}

func (silent) Start(string, int64) {}
func (silent) Add(int64)           {}
func (silent) Done()               {}
