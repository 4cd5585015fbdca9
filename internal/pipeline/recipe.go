package pipeline

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"
)

// Recipe says what to do to a checkpoint. It is written by people in YAML; every field has a default, an unknown field is
// an error. docs/PLAN.md describes the format.
type Recipe struct {
	Version     int         `yaml:"version" json:"version"`
	Seed        uint64      `yaml:"seed" json:"seed"`
	Target      []string    `yaml:"target" json:"target"`
	Calibration Calibration `yaml:"calibration" json:"calibration"`
	Retrieval   *Retrieval  `yaml:"retrieval" json:"retrieval,omitempty"`
	Prune       *Prune      `yaml:"prune" json:"prune,omitempty"`
	KVMerge     *KVMerge    `yaml:"kvmerge" json:"kvmerge,omitempty"`
	Distill     *Distill    `yaml:"distill" json:"distill,omitempty"`
	Heads       *Heads      `yaml:"heads" json:"heads,omitempty"`
	Sparsify    *Sparsify   `yaml:"sparsify" json:"sparsify,omitempty"`
	Quantize    *Quantize   `yaml:"quantize" json:"quantize,omitempty"`
	Gates       Gates       `yaml:"gates" json:"gates"`
	Output      Output      `yaml:"output" json:"output"`
}

// Calibration fixes which windows of the data calibrate and which are held out.
type Calibration struct {
	Sequences int    `yaml:"sequences" json:"sequences"`
	Holdout   int    `yaml:"holdout" json:"holdout"`
	Length    int    `yaml:"length" json:"length"`
	BOS       string `yaml:"bos" json:"bos"` // "auto" (the model's bos_token_id), "none", or an id
	// Shuffle draws the windows from all of the input by the recipe's seed; without it they are the first ones.
	Shuffle bool `yaml:"shuffle" json:"shuffle"`
	// TrainSequences and TrainLength cut the training data, where there is some of its own: 0 takes all windows, and Length.
	TrainSequences int `yaml:"train_sequences" json:"train_sequences,omitempty"`
	TrainLength    int `yaml:"train_length" json:"train_length,omitempty"`
}

// Retrieval describes the synthetic needle task: how a fact is written and how it is asked for. {name} and {code} stand
// for the generated key and value.
type Retrieval struct {
	Fact        string    `yaml:"fact" json:"fact"`
	Question    string    `yaml:"question" json:"question"`
	Lengths     []int     `yaml:"lengths" json:"lengths"`
	Depths      []float64 `yaml:"depths" json:"depths"`
	PerCell     int       `yaml:"per_cell" json:"per_cell"`
	Distractors int       `yaml:"distractors" json:"distractors"`
}

// Quantize plans low-bit weights.
type Quantize struct {
	Method     string      `yaml:"method" json:"method"`           // rtn, gptq, rsq
	Format     string      `yaml:"format" json:"format,omitempty"` // compressed-tensors, gptq, gptq_v2, awq
	Bits       int         `yaml:"bits" json:"bits"`
	GroupSize  int         `yaml:"group_size" json:"group_size"` // -1 per channel
	Symmetric  *bool       `yaml:"symmetric" json:"symmetric"`
	Clip       *bool       `yaml:"clip" json:"clip"`
	ActOrder   bool        `yaml:"act_order" json:"act_order"`
	Damp       float64     `yaml:"damp" json:"damp"`
	Rotate     string      `yaml:"rotate" json:"rotate"` // none, hadamard, qr
	Importance *Importance `yaml:"importance" json:"importance,omitempty"`
	Ignore     []string    `yaml:"ignore" json:"ignore"` // module names, or re:<regular expression>
}

// Importance maps attention concentration to the weight of a token in the Hessian (RSQ section 3.2, arXiv:2503.01820).
type Importance struct {
	Min float64 `yaml:"min" json:"min"`
	Max float64 `yaml:"max" json:"max"`
}

// Gates are the limits that the result must keep on held-out data; 0 leaves a gate out.
type Gates struct {
	PPLRatio   float64 `yaml:"ppl_ratio" json:"ppl_ratio,omitempty"`     // result / source, at most
	KL         float64 `yaml:"kl" json:"kl,omitempty"`                   // nats per token, at most
	NeedleDrop float64 `yaml:"needle_drop" json:"needle_drop,omitempty"` // accuracy lost with the attention plan, at most
	// PlanPPLRatio and PlanKL bound what the attention plan alone does, at every length that it is judged at.
	PlanPPLRatio float64 `yaml:"plan_ppl_ratio" json:"plan_ppl_ratio,omitempty"` // planned / dense, at most
	PlanKL       float64 `yaml:"plan_kl" json:"plan_kl,omitempty"`               // nats per token, at most
}

// Output fixes the files of the result.
type Output struct {
	MaxShardBytes int64 `yaml:"max_shard_bytes" json:"max_shard_bytes"`
}

// ParseRecipe reads a recipe strictly, fills the defaults and checks every value. Errors give line and column.
func ParseRecipe(b []byte) (*Recipe, error) {
	const maxRecipe = 64 << 10
	if len(b) > maxRecipe {
		return nil, errKind(KindUsage, "", "recipe: %d bytes, more than %d", len(b), maxRecipe)
	}
	if err := checkNesting(b); err != nil {
		return nil, errKind(KindUsage, "", "recipe: %w", err)
	}
	r, err := decodeRecipe(b)
	if err != nil {
		return nil, errKind(KindUsage, "see docs/PLAN.md for the fields of a recipe", "recipe: %w", err)
	}
	r.fillDefaults()
	if err := r.check(); err != nil {
		return nil, &Error{Kind: KindUsage, Err: fmt.Errorf("recipe: %w", err), Hint: "see docs/PLAN.md for the fields of a recipe"}
	}
	return r, nil
}

// decodeRecipe reads the document several times: as it is, for the sections that it has, and over the defaults of these, so
// that a zero that is written down stays a zero. A section without a value is one that is not there.
func decodeRecipe(b []byte) (*Recipe, error) {
	var doc map[string]any
	if err := decodeYAML(b, &doc); err != nil {
		return nil, err
	}
	if err := sortedJoin(cutOff(doc, "")); err != nil {
		return nil, err
	}
	has, r := &Recipe{}, &Recipe{}
	if err := decodeYAML(b, has, yaml.Strict()); err != nil {
		return nil, err
	}
	r.defaults(has)
	calibration, output := r.Calibration, r.Output
	if doc != nil {
		if err := decodeYAML(b, r, yaml.Strict()); err != nil {
			return nil, err
		}
	}
	if doc["calibration"] == nil {
		r.Calibration = calibration
	}
	if doc["output"] == nil {
		r.Output = output
	}
	r.fillDefaults()
	return r, nil
}

// defaults sets every value that does not depend on another one, in the sections that the recipe has.
func (r *Recipe) defaults(has *Recipe) {
	r.Version = 1
	r.Calibration = Calibration{Sequences: 128, Holdout: 16, Length: 2048, BOS: "auto"}
	r.Output.MaxShardBytes = 5e9
	if has.Retrieval != nil {
		r.Retrieval = &Retrieval{PerCell: 4}
	}
	if has.Prune != nil {
		r.Prune = defaultPrune(has.Prune)
	}
	if has.Distill != nil {
		r.Distill = defaultDistill(has.Distill)
	}
	if has.KVMerge != nil {
		r.KVMerge = defaultKVMerge()
	}
	if has.Heads != nil {
		r.Heads = &Heads{}
		r.Heads.defaults(has.Heads)
	}
	if has.Sparsify != nil {
		r.Sparsify = defaultSparsify()
	}
	if has.Quantize != nil {
		yes, alsoYes := true, true
		r.Quantize = &Quantize{Method: "rsq", Bits: 4, GroupSize: 128, Symmetric: &yes, Clip: &alsoYes, Damp: 0.01}
	}
}

// fillDefaults sets what depends on other values, and lists that are empty.
func (r *Recipe) fillDefaults() {
	if len(r.Target) == 0 {
		r.Target = []string{"hf"}
	}
	if t := r.Retrieval; t != nil && len(t.Depths) == 0 {
		t.Depths = []float64{0.1, 0.3, 0.5, 0.7, 0.9}
	}
	if p := r.Prune; p != nil {
		p.fillDefaults(r.Calibration)
	}
	if d := r.Distill; d != nil {
		d.fillDefaults()
	}
	if k := r.KVMerge; k != nil {
		k.fillDefaults()
	}
	if h := r.Heads; h != nil {
		h.fillDefaults(r.Retrieval)
	}
	if s := r.Sparsify; s != nil {
		s.fillDefaults()
	}
	if q := r.Quantize; q != nil {
		q.fillDefaults()
	}
}

func (q *Quantize) fillDefaults() {
	if q.Rotate == "" {
		q.Rotate = "none"
		if q.Method == "rsq" {
			q.Rotate = "hadamard"
		}
	}
	if q.Method == "rsq" && q.Importance == nil {
		q.Importance = &Importance{Min: 0.005, Max: 1}
	}
	if q.Ignore == nil {
		q.Ignore = []string{headModule}
	}
}

// faults collects every violated rule.
type faults []error

func (f *faults) add(bad bool, format string, args ...any) {
	if bad {
		*f = append(*f, fmt.Errorf(format, args...))
	}
}

func oneOf(s string, list ...string) bool {
	for _, v := range list {
		if s == v {
			return true
		}
	}
	return false
}

var knownTargets = []string{"hf", "vllm", "sglang", "tensorrt-llm", "llama.cpp", "mlx"}

func (r *Recipe) check() error {
	var f faults
	f.add(r.Version != 1, "version %d: this build reads version 1", r.Version)
	for _, t := range r.Target {
		f.add(!oneOf(t, knownTargets...), "target %q: known are %s", t, strings.Join(knownTargets, ", "))
	}
	c := r.Calibration
	f.add(c.Sequences < 1 || c.Sequences > 1<<20, "calibration.sequences %d: want 1 to 1048576", c.Sequences)
	f.add(c.Holdout < 0 || c.Holdout > 1<<20, "calibration.holdout %d: want 0 to 1048576", c.Holdout)
	f.add(c.Length < 8 || c.Length > 1<<20, "calibration.length %d: want 8 to 1048576", c.Length)
	f.add(c.TrainSequences < 0 || c.TrainSequences > 1<<24, "calibration.train_sequences %d: want 0 to 16777216", c.TrainSequences)
	f.add(c.TrainLength != 0 && c.TrainLength < 8 || c.TrainLength > 1<<20, "calibration.train_length %d: want 8 to 1048576, or 0", c.TrainLength)
	f.add(r.Prune == nil && r.KVMerge == nil && r.Distill == nil && r.Heads == nil && r.Sparsify == nil && r.Quantize == nil, "no step: give prune, kvmerge, distill, heads, sparsify or quantize")
	f.add(r.Output.MaxShardBytes < 1<<20, "output.max_shard_bytes %d: want at least 1048576", r.Output.MaxShardBytes)
	g := r.Gates
	for name, v := range map[string]float64{"ppl_ratio": g.PPLRatio, "kl": g.KL, "needle_drop": g.NeedleDrop,
		"plan_ppl_ratio": g.PlanPPLRatio, "plan_kl": g.PlanKL} {
		f.add(!(v >= 0 && v <= 1e6), "gates.%s %v: want a number from 0 to 1000000", name, v)
	}
	f.add(g != Gates{} && c.Holdout == 0, "gates need held-out data, and calibration.holdout is 0")
	f.add(g.NeedleDrop != 0 && r.Retrieval == nil, "gates.needle_drop needs the retrieval section")
	if r.Retrieval != nil {
		r.Retrieval.check(&f)
	}
	if r.Prune != nil {
		r.Prune.check(&f)
	}
	if r.Distill != nil {
		r.Distill.check(&f, c)
	}
	if r.KVMerge != nil {
		r.KVMerge.check(&f, r)
	}
	if r.Heads != nil {
		r.Heads.check(&f, r)
	}
	if r.Sparsify != nil {
		r.Sparsify.check(&f, r)
	}
	if r.Quantize != nil {
		r.Quantize.check(&f)
	}
	return sortedJoin(f)
}

// maxCells bounds the lengths and the depths of a grid of prompts.
const maxCells = 64

func (t *Retrieval) check(f *faults) {
	f.add(!strings.Contains(t.Fact, "{name}") || !strings.Contains(t.Fact, "{code}"), "retrieval.fact must contain {name} and {code}")
	f.add(!strings.Contains(t.Question, "{name}") || strings.Contains(t.Question, "{code}"), "retrieval.question must contain {name} and not {code}")
	f.add(len(t.Lengths) > maxCells || len(t.Depths) > maxCells, "retrieval: %d lengths and %d depths, at most %d of each", len(t.Lengths), len(t.Depths), maxCells)
	f.add(len(t.Lengths) == 0, "retrieval.lengths: give at least one prompt length in tokens")
	for _, l := range t.Lengths {
		f.add(l < 16 || l > 1<<20, "retrieval.lengths %d: want 16 to 1048576", l)
	}
	for _, d := range t.Depths {
		f.add(!(d >= 0 && d <= 1), "retrieval.depths %v: want 0 to 1", d)
	}
	f.add(t.PerCell < 1 || t.PerCell > 10000, "retrieval.per_cell %d: want 1 to 10000", t.PerCell)
	f.add(t.Distractors < 0 || t.Distractors > 100, "retrieval.distractors %d: want 0 to 100", t.Distractors)
}

// groupSizes are those that package quantize makes; -1 stands for whole channels.
var groupSizes = []int{32, 64, 128, -1}

func (q *Quantize) check(f *faults) {
	f.add(!oneOf(q.Method, "rtn", "gptq", "rsq"), "quantize.method %q: known are rtn, gptq, rsq", q.Method)
	f.add(q.Bits != 2 && q.Bits != 3 && q.Bits != 4 && q.Bits != 8, "quantize.bits %d: known are 2, 3, 4, 8", q.Bits)
	f.add(!containsInt(groupSizes, q.GroupSize), "quantize.group_size %d: want 32, 64, 128 or -1 (per channel)", q.GroupSize)
	f.add(!(q.Damp > 0 && q.Damp < 10), "quantize.damp %v: want more than 0 and less than 10", q.Damp)
	f.add(!oneOf(q.Rotate, "none", "hadamard", "qr"), "quantize.rotate %q: known are none, hadamard, qr", q.Rotate)
	f.add(q.Method == "rtn" && q.Importance != nil, "quantize.importance has no effect with method rtn")
	f.add(q.Method == "rtn" && q.ActOrder, "quantize.act_order has no effect with method rtn")
	if m := q.Importance; m != nil {
		f.add(!(m.Min > 0 && m.Min <= m.Max && m.Max <= 1e6), "quantize.importance: want 0 < min <= max, have %v and %v", m.Min, m.Max)
	}
	checkIgnore(f, "quantize", q.Ignore)
	q.checkFormat(f)
}

// checkFormat checks what a format of quantized weights can hold, of what does not depend on the model.
func (q *Quantize) checkFormat(f *faults) {
	f.add(!oneOf(q.format(), formatPacked, formatGPTQ, formatGPTQv2, formatAWQ), "quantize.format %q: known are %s, %s, %s, %s", q.Format, formatPacked, formatGPTQ, formatGPTQv2, formatAWQ)
	f.add(q.Format == formatAWQ && q.Bits != 4, "quantize.format awq has 4 bits, not %d", q.Bits)
	f.add(q.Format == formatAWQ && q.GroupSize == -1, "quantize.format awq has groups of columns, not whole channels")
	f.add(q.Format == formatGPTQ && !*q.Symmetric, "quantize.format gptq cannot store a zero point of 0: set symmetric, or format gptq_v2")
}

// checkIgnore checks the rules that name modules in a section.
func checkIgnore(f *faults, section string, rules []string) {
	for _, s := range rules {
		if re, ok := strings.CutPrefix(s, "re:"); ok {
			_, err := regexp.Compile(re)
			f.add(err != nil, "%s.ignore %q: %v", section, s, err)
		}
	}
}

// SetTargets replaces the recipe's targets.
func (r *Recipe) SetTargets(names []string) error {
	r.Target = names
	if err := r.check(); err != nil {
		return &Error{Kind: KindUsage, Err: err}
	}
	return nil
}

// KnownTargets lists the runtimes whose rules are known.
func KnownTargets() string { return strings.Join(knownTargets, ", ") }
