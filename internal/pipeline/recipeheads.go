package pipeline

import (
	"fmt"
	"math"
	"strings"

	"modelpress/calib"
)

// Heads plans what each KV head keeps of the cache, and what its queries look at in prefill.
type Heads struct {
	Method string `yaml:"method" json:"method"` // one of headMethods
	// FullShare is the share of KV heads that keep the whole cache; KVBudget the share of the dense cache's bytes that all
	// heads may keep together at BudgetLength tokens. Methods that rank heads take one of the two, others as they need.
	FullShare    *float64 `yaml:"full_share" json:"full_share,omitempty"`
	KVBudget     *float64 `yaml:"kv_budget" json:"kv_budget,omitempty"`
	BudgetLength int      `yaml:"budget_length" json:"budget_length,omitempty"`
	Sink         int      `yaml:"sink" json:"sink"`
	Recent       int      `yaml:"recent" json:"recent"`
	Page         int      `yaml:"page" json:"page"`
	Unit         string   `yaml:"unit" json:"unit"` // head or layer
	// TensorParallel lists group sizes over which full heads are to lie evenly: in no more than Balance times the ideal.
	TensorParallel []int   `yaml:"tensor_parallel" json:"tensor_parallel,omitempty"`
	Balance        float64 `yaml:"balance" json:"balance"`
	MinLength      int     `yaml:"min_length" json:"min_length"`

	Duo         *Duo      `yaml:"duo" json:"duo,omitempty"`
	MoA         *MoA      `yaml:"moa" json:"moa,omitempty"`
	Prefill     *Prefill  `yaml:"prefill" json:"prefill,omitempty"`
	KeyChannels float64   `yaml:"key_channels" json:"key_channels"` // share of key channels left out
	Evidence    []string  `yaml:"evidence" json:"evidence,omitempty"`
	Validate    *Validate `yaml:"validate" json:"validate,omitempty"`
}

// Duo says how DuoAttention gates are trained (arXiv:2410.10819).
type Duo struct {
	Steps   int     `yaml:"steps" json:"steps"`     // at most; training ends before where the ranking is stable
	LR      float64 `yaml:"lr" json:"lr"`           // peak rate
	Reg     float64 `yaml:"reg" json:"reg"`         // weight of the gates' mean in the loss
	Stable  int     `yaml:"stable" json:"stable"`   // checks in a row that must agree; 0 trains all steps
	Prompts int     `yaml:"prompts" json:"prompts"` // prompts to train on for each length and depth
}

// MoA says how elastic spans are chosen (arXiv:2406.14909).
type MoA struct {
	Lengths       []int  `yaml:"lengths" json:"lengths"`                 // tokens of the profiled prompts
	RulesPerLayer int    `yaml:"rules_per_layer" json:"rules_per_layer"` // 0 for any number
	Influence     string `yaml:"influence" json:"influence"`             // joint or additive
}

// Prefill plans sparse attention over the prompt.
type Prefill struct {
	Method    string  `yaml:"method" json:"method"`       // minference, xattention, static or act
	Density   float64 `yaml:"density" json:"density"`     // share of query-key pairs computed
	Threshold float64 `yaml:"threshold" json:"threshold"` // xattention: share of attention to keep
	Block     int     `yaml:"block" json:"block"`
	MinLength int     `yaml:"min_length" json:"min_length"` // shorter prompts are processed dense
}

// Validate says what an attention plan is judged by, besides the held-out windows and prompts: tasks and text at lengths
// that may pass those of calibration.
type Validate struct {
	Tasks   []string `yaml:"tasks" json:"tasks"`     // kinds of retrieval prompts
	Lengths []int    `yaml:"lengths" json:"lengths"` // tokens of prompts and of windows
	PerCell int      `yaml:"per_cell" json:"per_cell"`
	Windows int      `yaml:"windows" json:"windows"` // of text at each length, at most
}

// rankings are the methods that rank KV heads: the best keep everything, the others stream. What a head's attention or output
// loses by itself is no ranking: most of what it loses is never written to the residual stream, or does not matter there.
var rankings = []string{"wu", "induction", "echo", "projected_error", "duo"}

// budgeted are the methods that spread a budget over the heads.
var budgeted = []string{"moa", "headkv", "pyramid", "tidal", "static"}

// headMethods are all ways to plan decoding; see package heads.
var headMethods = append(append([]string{}, rankings...), append([]string{"razor"}, budgeted...)...)

var prefillMethods = []string{"minference", "xattention", "static", "act"}

// evidences are the measures that can be recorded beside those that a plan is made by.
var evidences = []string{"wu", "induction", "echo", "projected_error", "duo_probe", "attention_sink", "echoatt"}

// defaults sets what does not depend on other values.
func (h *Heads) defaults(has *Heads) {
	*h = Heads{Method: "wu", Sink: 64, Recent: 256, Page: 1, Unit: "head", Balance: 1.25}
	if has.Duo != nil {
		h.Duo = defaultDuo()
	}
	if has.MoA != nil {
		h.MoA = defaultMoA()
	}
	if has.Prefill != nil {
		h.Prefill = &Prefill{Method: "minference", Density: 0.25, Threshold: 0.9, Block: 64}
	}
	if has.Validate != nil {
		h.Validate = &Validate{PerCell: 4, Windows: 8}
	}
}

func defaultDuo() *Duo { return &Duo{Steps: 2000, LR: 0.02, Reg: 0.05, Stable: 3, Prompts: 4} }
func defaultMoA() *MoA { return &MoA{RulesPerLayer: 2, Influence: "joint"} }

// fillDefaults sets what depends on other values.
func (h *Heads) fillDefaults(t *Retrieval) {
	if h.Method == "duo" && h.Duo == nil {
		h.Duo = defaultDuo()
	}
	if h.Method == "moa" && h.MoA == nil {
		h.MoA = defaultMoA()
	}
	if h.MoA != nil && len(h.MoA.Lengths) == 0 && t != nil {
		h.MoA.Lengths = t.Lengths
	}
	if v := h.Validate; v != nil && t != nil {
		if len(v.Tasks) == 0 {
			v.Tasks = []string{string(calib.SingleNeedle), string(calib.MultiKey)}
		}
		if len(v.Lengths) == 0 {
			v.Lengths = t.Lengths
		}
	}
}

func (h *Heads) check(f *faults, r *Recipe) {
	f.add(!oneOf(h.Method, headMethods...), "heads.method %q: known are %s", h.Method, strings.Join(headMethods, ", "))
	f.add(oneOf(h.Method, "wu", "duo", "moa", "headkv", "tidal") && r.Retrieval == nil, "heads.method %s needs the retrieval section", h.Method)
	h.checkBudget(f)
	f.add(h.Sink < 0 || h.Sink > 1<<20, "heads.sink %d: want 0 to 1048576", h.Sink)
	f.add(h.Recent < 1 || h.Recent > 1<<20, "heads.recent %d: want 1 to 1048576", h.Recent)
	f.add(h.Page < 1 || h.Page > 1<<16, "heads.page %d: want 1 to 65536", h.Page)
	f.add(!oneOf(h.Unit, "head", "layer"), "heads.unit %q: want head or layer", h.Unit)
	f.add(h.Unit == "layer" && !oneOf(h.Method, rankings...), "heads.unit layer: only methods that rank heads choose whole layers")
	for _, n := range h.TensorParallel {
		f.add(n < 2 || n > 1024, "heads.tensor_parallel %d: want 2 to 1024", n)
	}
	f.add(len(h.TensorParallel) > 0 && (h.Unit == "layer" || !oneOf(h.Method, rankings...)), "heads.tensor_parallel is for methods that rank single heads")
	f.add(!(h.Balance >= 1 && h.Balance <= 1e6), "heads.balance %v: want at least 1", h.Balance)
	f.add(h.MinLength < 0 || h.MinLength >= 1<<30, "heads.min_length %d: want 0 to 1073741823", h.MinLength)
	f.add(!(h.KeyChannels >= 0 && h.KeyChannels < 1), "heads.key_channels %v: want 0 to less than 1", h.KeyChannels)
	for _, e := range h.Evidence {
		f.add(!oneOf(e, evidences...), "heads.evidence %q: known are %s", e, strings.Join(evidences, ", "))
		f.add(oneOf(e, "wu", "duo_probe") && r.Retrieval == nil, "heads.evidence %s needs the retrieval section", e)
	}
	h.Duo.check(f, h.Method)
	h.MoA.check(f, h.Method)
	h.Prefill.check(f, r)
	h.Validate.check(f, r)
}

// checkBudget checks how much of the cache may be kept: a share of heads or of bytes, whichever the method takes.
func (h *Heads) checkBudget(f *faults) {
	for name, v := range map[string]*float64{"full_share": h.FullShare, "kv_budget": h.KVBudget} {
		f.add(v != nil && !(*v >= 0 && *v <= 1), "heads.%s %v: want 0 to 1", name, orNaN(v))
	}
	ranks := oneOf(h.Method, rankings...)
	f.add(ranks && (h.FullShare == nil) == (h.KVBudget == nil), "heads: give full_share or kv_budget, one of them; there is no default")
	f.add(!ranks && h.FullShare != nil, "heads.full_share has no effect with method %s", h.Method)
	f.add(oneOf(h.Method, budgeted...) && h.KVBudget == nil, "heads.method %s needs kv_budget", h.Method)
	f.add(h.Method == "razor" && h.KVBudget != nil, "heads.kv_budget has no effect with method razor")
	f.add(h.KVBudget != nil && h.Unit == "layer", "heads.kv_budget does not choose whole layers: give full_share")
	f.add(h.BudgetLength < 0 || h.BudgetLength > 1<<30, "heads.budget_length %d: want 0 to 1073741824", h.BudgetLength)
}

func orNaN(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}

func (d *Duo) check(f *faults, method string) {
	if d == nil {
		return
	}
	f.add(method != "duo", "heads.duo has no effect with method %s", method)
	f.add(d.Steps < 1 || d.Steps > 1<<20, "heads.duo.steps %d: want 1 to 1048576", d.Steps)
	f.add(!(d.LR > 0 && d.LR <= 1), "heads.duo.lr %v: want more than 0 and at most 1", d.LR)
	f.add(!(d.Reg > 0 && d.Reg <= 1e6), "heads.duo.reg %v: want more than 0 and at most 1000000", d.Reg)
	f.add(d.Stable < 0 || d.Stable > 1000, "heads.duo.stable %d: want 0 to 1000", d.Stable)
	f.add(d.Prompts < 1 || d.Prompts > 10000, "heads.duo.prompts %d: want 1 to 10000", d.Prompts)
}

func (m *MoA) check(f *faults, method string) {
	if m == nil {
		return
	}
	f.add(method != "moa", "heads.moa has no effect with method %s", method)
	f.add(len(m.Lengths) == 0, "heads.moa.lengths: give at least one length, or retrieval.lengths")
	f.add(len(m.Lengths) > 8, "heads.moa.lengths: %d lengths, at most 8", len(m.Lengths))
	for i, n := range m.Lengths {
		f.add(n < 16 || n > 1<<20, "heads.moa.lengths %d: want 16 to 1048576", n)
		f.add(i > 0 && n <= m.Lengths[i-1], "heads.moa.lengths must ascend")
	}
	f.add(m.RulesPerLayer < 0 || m.RulesPerLayer > 48, "heads.moa.rules_per_layer %d: want 0 to 48", m.RulesPerLayer)
	f.add(!oneOf(m.Influence, "joint", "additive"), "heads.moa.influence %q: want joint or additive", m.Influence)
}

func (p *Prefill) check(f *faults, r *Recipe) {
	if p == nil {
		return
	}
	f.add(p.Method == "act" && r.Retrieval == nil, "heads.prefill.method act needs the retrieval section")
	f.add(!oneOf(p.Method, prefillMethods...), "heads.prefill.method %q: known are %s", p.Method, strings.Join(prefillMethods, ", "))
	f.add(!(p.Density > 0 && p.Density <= 1), "heads.prefill.density %v: want more than 0 and at most 1", p.Density)
	f.add(!(p.Threshold > 0 && p.Threshold <= 1), "heads.prefill.threshold %v: want more than 0 and at most 1", p.Threshold)
	f.add(p.Block < 8 || p.Block > 1024, "heads.prefill.block %d: want 8 to 1024", p.Block)
	f.add(p.MinLength < 0 || p.MinLength > 1<<30, "heads.prefill.min_length %d: want 0 to 1073741824", p.MinLength)
}

func (v *Validate) check(f *faults, r *Recipe) {
	if v == nil {
		return
	}
	f.add(r.Retrieval == nil, "heads.validate needs the retrieval section, which says how facts are written")
	f.add(r.Calibration.Holdout == 0, "heads.validate needs held-out data, and calibration.holdout is 0")
	for _, k := range v.Tasks {
		f.add(!oneOf(k, taskNames()...), "heads.validate.tasks %q: known are %s", k, strings.Join(taskNames(), ", "))
	}
	f.add(len(v.Lengths) > maxCells, "heads.validate.lengths: %d lengths, at most %d", len(v.Lengths), maxCells)
	for _, n := range v.Lengths {
		f.add(n < 16 || n > 1<<20, "heads.validate.lengths %d: want 16 to 1048576", n)
	}
	f.add(v.PerCell < 1 || v.PerCell > 10000, "heads.validate.per_cell %d: want 1 to 10000", v.PerCell)
	f.add(v.Windows < 0 || v.Windows > 1<<20, "heads.validate.windows %d: want 0 to 1048576", v.Windows)
}

func taskNames() []string {
	var names []string
	for _, k := range calib.Kinds() {
		names = append(names, fmt.Sprint(k))
	}
	return names
}
