package pipeline

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"modelpress/formats"
	"modelpress/formats/manifest"
	"modelpress/formats/planfile"
	"modelpress/heads"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// modelDigests identify the checkpoint that an attention plan lies in.
type modelDigests struct {
	weights, headers, config string
}

// attentionPlan writes a heads decision as the manifest of a result: the decision fixes everything but the digests of the
// result and the metrics measured on its final weights.
func attentionPlan(h *headsDecision, d modelDigests, tool planfile.Tool, planID string, q *quality, gates Gates) *manifest.Plan {
	p := *h.Plan
	p.Producer = manifest.Producer{Name: tool.Name, Version: tool.Version, PlanID: planID}
	p.Model.WeightsDigest, p.Model.HeadersDigest, p.Model.ConfigDigest = d.weights, d.headers, d.config
	p.Quality = manifestQuality(q, gates)
	return &p
}

// PlannedHeads returns the attention plan that a plan decided on, over the source's digests and without quality: what apply
// writes beside the result but for the result's digests and what is measured on it. A plan without the step is KindInput, one of another
// build KindStale, and so is one whose attention plan has faults.
func PlannedHeads(p *planfile.Plan) (*manifest.Plan, error) {
	for _, st := range p.Steps {
		if st.Name != stepHeads {
			continue
		}
		if st.Version != headsVersion {
			return nil, errKind(KindStale, "plan again with this build", "plan: step %s has version %d, this build has %d", st.Name, st.Version, headsVersion)
		}
		var h headsDecision
		if err := decodeDecision(st.Decision, &h); err != nil {
			return nil, err
		}
		if h.Plan == nil {
			return nil, errKind(KindStale, "plan again with this build", "plan: the decision of step %s has no attention plan", stepHeads)
		}
		if faults := h.Plan.Validate(); len(faults) > 0 {
			return nil, errKind(KindStale, "plan again with this build", "plan: %w", &manifest.FaultsError{Faults: faults})
		}
		return h.Plan, nil
	}
	return nil, errKind(KindInput, "plan with a recipe that has heads", "the plan has no attention plan: its recipe has no section heads, and its model carried none")
}

// identify ties a draft to the model that it is made for.
func identify(p *manifest.Plan, s *source, tool planfile.Tool, d modelDigests) {
	p.Producer = manifest.Producer{Name: tool.Name, Version: tool.Version}
	p.Model.WeightsDigest, p.Model.HeadersDigest, p.Model.ConfigDigest = d.weights, d.headers, d.config
	p.Model.Rope = manifestRope(s)
}

func manifestRope(s *source) *manifest.Rope {
	if s.arch.Rope == nil {
		return nil
	}
	return &manifest.Rope{Theta: s.arch.Rope.Theta, Scaling: ropeScaling(s.ck.Config())}
}

// bf16Bytes is what a value of the cache takes where a plan counts bytes.
const bf16Bytes = 2

// kvBudget counts the cache at powers of two up to the model's context.
func kvBudget(p *manifest.Plan, m *arch.Model) *manifest.Budget {
	b := &manifest.Budget{KVBytesPerToken: heads.PlanBytes(nil, m, bf16Bytes, 1).Dense, KVBytesAt: map[string]int64{},
		DensityAt: map[string]float64{}, TensorParallel: map[string][]int{}}
	for n := 256; n <= m.MaxPosition && n <= 1<<20; n *= 2 {
		c := heads.PlanBytes(p, m, bf16Bytes, n)
		key := strconv.Itoa(n)
		b.KVBytesAt[key] = c.Planned
		b.DensityAt[key] = math.Round(c.Density()*1e6) / 1e6
	}
	full := fullHeads(p, m.MaxPosition)
	for tp := 2; tp <= 8; tp *= 2 {
		if load, err := heads.TensorParallel(full, tp); err == nil {
			b.TensorParallel[strconv.Itoa(tp)] = load.PerRank
		}
	}
	return b
}

// fullHeads says which KV heads decode a sequence of the given length with all of it in the cache, [layer][KV head].
func fullHeads(p *manifest.Plan, length int) [][]bool {
	full := make([][]bool, p.Model.Layers)
	for l := range full {
		_, g := p.Counts(l)
		full[l] = make([]bool, g)
		for h := range full[l] {
			pol, _ := p.Resolve(l, h, manifest.Decoding, length)
			full[l][h] = pol.Kind == manifest.KindFull
		}
	}
	return full
}

func manifestQuality(q *quality, gates Gates) *manifest.Quality {
	if q == nil || len(q.Plan) == 0 {
		return nil
	}
	out := &manifest.Quality{HeldOut: true, Gate: manifest.Gate{MaxDrop: gates.NeedleDrop}, Passed: q.planPassed(gates)}
	if gates.PlanPPLRatio != 0 {
		rise := math.Round(1e9*math.Max(gates.PlanPPLRatio-1, 0)) / 1e9 // 0.05 for 1.05
		out.Gate.MaxRise = &rise
	}
	for _, m := range q.Plan {
		// A divergence has no dense value to be compared with; the nll of answers is not what a gate on perplexity bounds.
		if k := m.kind(); k == nameKL || k == nameNeedleNLL && out.Gate.MaxRise != nil {
			continue
		}
		e := manifest.Metric{Name: m.Name, Dense: toFloat(m.Dense), Plan: toFloat(m.Plan), Better: "lower"}
		if m.higher() {
			e.Better = "higher"
		}
		out.Metrics = append(out.Metrics, e)
		out.Passed = out.Passed && out.Gate.Passes(e)
	}
	return out
}

func toFloat(n interface{ Float64() (float64, error) }) float64 {
	v, err := n.Float64()
	if err != nil {
		return 0
	}
	return v
}

// checkPlanFits refuses a plan that is for a model of another shape.
func checkPlanFits(p *manifest.Plan, m *arch.Model) error {
	if p.Model.Layers != len(m.Layers) {
		return errKind(KindInput, "", "attention plan: is for %d layers, the model has %d", p.Model.Layers, len(m.Layers))
	}
	for l := range m.Layers {
		h, g := p.Counts(l)
		want := m.Layers[l].G
		if !m.Layers[l].HasAttention() {
			want = 0
		}
		if g != want || g > 0 && h != m.Layers[l].H {
			return errKind(KindInput, "", "attention plan: layer %d has %d query and %d KV heads, the model's has %d and %d", l, h, g, m.Layers[l].H, want)
		}
	}
	return nil
}

// servable reports a plan that this program cannot run, without running anything: for short texts and for the longest.
func servable(m *nn.Model, p *manifest.Plan) error {
	var windows [][]int32
	for _, n := range []int{1, 2, min(m.Arch.MaxPosition, 1<<20)} {
		windows = append(windows, make([]int32, n))
	}
	_, err := nn.NewServer(m, windows, nn.ServeOptions{Plan: p, Prompt: func(i int) int { return len(windows[i]) / 2 }})
	return err
}

// planPointer returns what a config.json says of its attention plan, nil for nothing.
func planPointer(config []byte) (*manifest.Pointer, error) {
	var c struct {
		Plan *manifest.Pointer `json:"attention_plan"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, formats.Errorf(configName, "", "attention_plan: %w", err)
	}
	return c.Plan, nil
}

// checkManifest validates an attention plan document against the pointer of config.json and the digests of the result.
func checkManifest(doc []byte, ptr manifest.Pointer, d modelDigests) error {
	if err := ptr.Check(doc); err != nil {
		return err
	}
	p, err := manifest.Decode(doc)
	if err != nil {
		return err
	}
	if err := p.CheckModel(d.weights, d.headers, d.config); err != nil {
		return fmt.Errorf("pipeline: %w", err)
	}
	return nil
}
