package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strings"

	"modelpress/formats"
	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/quantize"
)

// The forms in which quantized weights are written.
const (
	outputPacked      = "pack-quantized" // compressed-tensors, 4 and 8 bits
	outputDequantized = "dequantized"    // rounded to the low-bit grid, stored as plain weights: 2 and 3 bits, which no loader packs alike
)

// quantDecision is every choice that quantization needs at apply time.
type quantDecision struct {
	Method     string           `json:"method"`
	Bits       int              `json:"bits"`
	Group      int              `json:"group"`
	Symmetric  bool             `json:"symmetric"`
	Clip       bool             `json:"clip"`
	ActOrder   bool             `json:"act_order"`
	Damp       json.Number      `json:"damp"`
	Rotation   *rotation        `json:"rotation,omitempty"`
	Importance *tokenImportance `json:"importance,omitempty"`
	Output     string           `json:"output"`
	Store      string           `json:"store"` // dtype of scales and kept tensors
	Modules    []string         `json:"modules"`
	Ignored    []string         `json:"ignored"`
	Fused      []string         `json:"fused,omitempty"` // what runtimes call ignored modules that they fuse
	set        map[string]bool  // Modules as a set
}

// rotation fixes the fused rotations R1 (residual) and R2 (per KV head) by kind and seed.
type rotation struct {
	Kind string `json:"kind"`
	Seed uint64 `json:"seed"`
	R2   bool   `json:"r2"`
}

type tokenImportance struct {
	Min json.Number `json:"min"`
	Max json.Number `json:"max"`
}

func (q *quantDecision) has(module string) bool {
	if q.set == nil {
		q.set = make(map[string]bool, len(q.Modules))
		for _, m := range q.Modules {
			q.set[m] = true
		}
	}
	return q.set[module]
}

// needsData reports whether apply must see calibration windows.
func (q *quantDecision) needsData() bool { return q.Method != "rtn" }

func (q *quantDecision) scheme() quantize.Scheme {
	damp, _ := q.Damp.Float64()
	return quantize.Scheme{Bits: q.Bits, Group: q.Group, Symmetric: q.Symmetric, Clip: q.Clip, ActOrder: q.ActOrder, Damp: damp}
}

// number writes a measurement: six digits after the point.
func number(v float64) json.Number { return json.Number(formatFloat(v)) }

// exactly writes a setting: the shortest decimal that reads back as the same number, as plans have it.
func exactly(v float64) json.Number {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // settings are checked to be finite
	}
	return json.Number(b)
}

// decideQuantize turns the recipe's quantize section into a decision for a model.
func decideQuantize(m *arch.Model, r *Recipe, store formats.DType) (*quantDecision, error) {
	s := r.Quantize
	q := &quantDecision{Method: s.Method, Bits: s.Bits, Group: s.GroupSize, Symmetric: *s.Symmetric, Clip: *s.Clip, ActOrder: s.ActOrder,
		Damp: exactly(s.Damp), Output: s.output(), Store: store.String()}
	if s.Rotate != "none" {
		q.Rotation = &rotation{Kind: s.Rotate, Seed: r.Seed, R2: true}
	}
	if s.Importance != nil {
		q.Importance = &tokenImportance{Min: exactly(s.Importance.Min), Max: exactly(s.Importance.Max)}
	}
	var err error
	if q.Modules, q.Ignored, err = chooseModules(m, "quantize", s.Ignore); err != nil || !q.packs() {
		return q, err
	}
	if q.Output == formatGPTQ || q.Output == formatGPTQv2 || q.Output == formatAWQ {
		if !m.PackedModules {
			return nil, errKind(KindUsage, "quantize with 2 or 3 bits, which writes plain weights, or convert the model to GGUF",
				"recipe: quantize.format %s: %s holds its projections in Conv1D modules, which it cannot name", q.Output, m.Family)
		}
		q.Fused = m.FusedModules(q.Ignored)
	}
	if _, err := q.config(); err != nil {
		return nil, errKind(KindUsage, "change quantize.ignore, or quantize.format", "recipe: %w", err)
	}
	return q, nil
}

// chooseModules returns the linear modules of a model that a section's rules leave, and those that they name.
func chooseModules(m *arch.Model, section string, rules []string) (modules, ignored []string, err error) {
	modules, ignored = []string{}, []string{}
	matched := map[string]bool{}
	for l := range m.Layers {
		for _, lin := range m.Layers[l].Linears {
			if !lin.Present() {
				continue
			}
			if rule, ok := ignoredBy(lin.Module(), rules); ok {
				matched[rule] = true
				ignored = append(ignored, lin.Module())
				continue
			}
			modules = append(modules, lin.Module())
		}
	}
	modules, ignored = uniqueStrings(modules), uniqueStrings(ignored)
	var unused []string
	for _, rule := range rules {
		if !matched[rule] && rule != arch.HeadModule {
			unused = append(unused, rule)
		}
	}
	if len(unused) > 0 {
		return nil, nil, errKind(KindUsage, "list the modules with `compress inspect --detail=tensor`", "recipe: %s.ignore matches no module: %s", section, strings.Join(unused, ", "))
	}
	if len(modules) == 0 {
		return nil, nil, errKind(KindUsage, "", "recipe: %s.ignore leaves no module to %s", section, section)
	}
	return modules, ignored, nil
}

// ignoredBy returns the first rule that names the module: an exact name, or re: and an expression matched at its start.
func ignoredBy(module string, rules []string) (string, bool) {
	for _, rule := range rules {
		if re, ok := strings.CutPrefix(rule, "re:"); ok {
			if regexp.MustCompile(`^(?:` + re + `)`).MatchString(module) {
				return rule, true
			}
		} else if rule == module {
			return rule, true
		}
	}
	return "", false
}

// uniqueStrings removes repeats and keeps the order of first appearance.
func uniqueStrings(in []string) []string {
	seen := make(map[string]bool, len(in))
	out := in[:0]
	for _, s := range in {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// headsDecision is every choice and piece of evidence of the attention plan: the plan itself, over the source's digests, but
// for what is measured on the result.
type headsDecision struct {
	Method  string         `json:"method"`
	Plan    *manifest.Plan `json:"plan"`
	HeldOut []metric       `json:"held_out"` // measured on the source model at plan time
	Notes   []string       `json:"notes,omitempty"`
}

// metric is one measured quantity without and with the attention plan.
type metric struct {
	Name  string      `json:"name"`
	Dense json.Number `json:"dense"`
	Plan  json.Number `json:"plan"`
}

// decodeDecision reads a step's raw decision strictly.
func decodeDecision(raw json.RawMessage, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return errKind(KindStale, "plan again with this build", "plan: a decision does not decode: %w", err)
	}
	return nil
}

func formatFloat(v float64) string {
	s := fmt.Sprintf("%.6f", v)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if s == "-0" || s == "" {
		return "0"
	}
	return s
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
