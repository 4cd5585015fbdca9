package pipeline

import (
	"strings"
)

// Prune leaves units of the model out: channels of the residual stream, KV heads with the query heads that read them, FFN channels,
// whole layers.
type Prune struct {
	Method     string   `yaml:"method" json:"method"`           // vib, minitron, taylor, magnitude, random
	Params     float64  `yaml:"params" json:"params,omitempty"` // share of the parameters that stays; or
	FLOPs      float64  `yaml:"flops" json:"flops,omitempty"`   // of the operations of a token; or
	KV         float64  `yaml:"kv" json:"kv,omitempty"`         // of the KV cache's bytes. One of the three
	Axes       []string `yaml:"axes" json:"axes"`               // hidden, heads, ffn, layers
	Layout     string   `yaml:"layout" json:"layout"`           // portable or compact
	Multiple   int      `yaml:"multiple" json:"multiple"`       // of hidden and FFN channels; 0 chooses by the model's width
	AnyHeads   bool     `yaml:"any_heads" json:"any_heads"`     // any number of KV heads in place of a power of two, in the portable layout
	Length     int      `yaml:"length" json:"length"`           // context at which operations are counted; 0 for calibration.length
	Rounds     int      `yaml:"rounds" json:"rounds"`           // in how many steps importance is measured and units are cut
	Aggregate  string   `yaml:"aggregate" json:"aggregate"`     // minitron: l2, mean, var, over windows
	Depth      string   `yaml:"depth" json:"depth"`             // what layers are ranked by: influence or perplexity
	Candidates int      `yaml:"candidates" json:"candidates"`   // shapes that are compared on calibration data
	VIB        *VIB     `yaml:"vib" json:"vib,omitempty"`
}

// VIB trains masks by the variational information bottleneck.
type VIB struct {
	Steps  int     `yaml:"steps" json:"steps"`
	Batch  int     `yaml:"batch" json:"batch"` // windows a step
	Rate   float64 `yaml:"rate" json:"rate"`
	KL     float64 `yaml:"kl" json:"kl"`         // weight of the information term
	Loss   string  `yaml:"loss" json:"loss"`     // kl, to the source's predictions, or ce, of the text
	Settle float64 `yaml:"settle" json:"settle"` // share of the steps after the choice of units
	// Joint trains the weights along with the masks, at JointRate; apply repeats it.
	Joint     bool    `yaml:"joint" json:"joint"`
	JointRate float64 `yaml:"joint_rate" json:"joint_rate,omitempty"`
}

// The methods of pruning.
const (
	pruneVIB       = "vib"
	pruneMinitron  = "minitron"
	pruneTaylor    = "taylor"
	pruneMagnitude = "magnitude"
	pruneRandom    = "random"

	depthInfluence  = "influence"
	depthPerplexity = "perplexity"

	lossKL = "kl"
	lossCE = "ce"
)

var (
	pruneMethods = []string{pruneVIB, pruneMinitron, pruneTaylor, pruneMagnitude, pruneRandom}
	pruneAxes    = []string{"hidden", "heads", "ffn", "layers"}
)

func defaultPrune(has *Prune) *Prune {
	p := &Prune{Method: pruneVIB, Layout: layoutPortable, Rounds: 1, Aggregate: "l2", Depth: depthInfluence, Candidates: 12}
	if has.VIB != nil || has.Method == "" || has.Method == pruneVIB {
		p.VIB = &VIB{Steps: 300, Batch: 4, Rate: 0.05, KL: 1e-6, Loss: lossKL, Settle: 0.4}
		if has.VIB != nil && has.VIB.Joint {
			p.VIB.JointRate = 1e-4
		}
	}
	return p
}

// fillDefaults sets lists that are empty.
func (p *Prune) fillDefaults(c Calibration) {
	if len(p.Axes) == 0 {
		p.Axes = []string{"hidden", "heads", "ffn"}
	}
	if p.Length == 0 {
		p.Length = c.Length
	}
}

// joint reports whether weights are trained along with masks.
func (p *Prune) joint() bool { return p != nil && p.VIB != nil && p.VIB.Joint }

func (p *Prune) check(f *faults) {
	f.add(!oneOf(p.Method, pruneMethods...), "prune.method %q: known are %s", p.Method, strings.Join(pruneMethods, ", "))
	given := 0
	for _, t := range []struct {
		name  string
		share float64
	}{{"params", p.Params}, {"flops", p.FLOPs}, {"kv", p.KV}} {
		f.add(!(t.share >= 0 && t.share <= 1), "prune.%s %v: want more than 0 and at most 1", t.name, t.share)
		if t.share != 0 {
			given++
		}
	}
	f.add(given != 1, "prune: give one of params, flops and kv; there is no default")
	for i, a := range p.Axes {
		f.add(!oneOf(a, pruneAxes...), "prune.axes %q: known are %s", a, strings.Join(pruneAxes, ", "))
		f.add(oneOf(a, p.Axes[:i]...), "prune.axes %q stands twice", a)
	}
	f.add(!oneOf(p.Layout, layoutPortable, layoutCompact), "prune.layout %q: want %s or %s", p.Layout, layoutPortable, layoutCompact)
	f.add(p.Multiple < 0 || p.Multiple > 4096 || p.Multiple&(p.Multiple-1) != 0, "prune.multiple %d: want a power of two up to 4096, or 0", p.Multiple)
	f.add(p.Length < 1 || p.Length > 1<<20, "prune.length %d: want 1 to 1048576", p.Length)
	f.add(p.Rounds < 1 || p.Rounds > 64, "prune.rounds %d: want 1 to 64", p.Rounds)
	f.add(p.Method == pruneVIB && p.Rounds != 1, "prune.rounds has no effect with method vib")
	f.add(p.Layout == layoutCompact && p.Rounds != 1, "prune.rounds has no effect with layout compact")
	f.add(!oneOf(p.Aggregate, "l2", "mean", "var"), "prune.aggregate %q: want l2, mean or var", p.Aggregate)
	f.add(!oneOf(p.Depth, depthInfluence, depthPerplexity), "prune.depth %q: want %s or %s", p.Depth, depthInfluence, depthPerplexity)
	f.add(p.Candidates < 1 || p.Candidates > 1000, "prune.candidates %d: want 1 to 1000", p.Candidates)
	f.add(p.VIB != nil && p.Method != pruneVIB, "prune.vib has no effect with method %s", p.Method)
	if p.VIB != nil {
		p.VIB.check(f)
	}
}

func (v *VIB) check(f *faults) {
	f.add(v.Steps < 1 || v.Steps > 1<<24, "prune.vib.steps %d: want 1 to 16777216", v.Steps)
	f.add(v.Batch < 1 || v.Batch > 1<<16, "prune.vib.batch %d: want 1 to 65536", v.Batch)
	f.add(!(v.Rate > 0 && v.Rate <= 10), "prune.vib.rate %v: want more than 0 and at most 10", v.Rate)
	f.add(!(v.KL >= 0 && v.KL <= 1e3), "prune.vib.kl %v: want 0 to 1000", v.KL)
	f.add(v.Joint && !(v.JointRate > 0 && v.JointRate <= 10), "prune.vib.joint_rate %v: want more than 0 and at most 10", v.JointRate)
	f.add(!v.Joint && v.JointRate != 0, "prune.vib.joint_rate has no effect without joint")
	f.add(!oneOf(v.Loss, lossKL, lossCE), "prune.vib.loss %q: want %s or %s", v.Loss, lossKL, lossCE)
	f.add(!(v.Settle >= 0 && v.Settle < 1), "prune.vib.settle %v: want at least 0 and less than 1", v.Settle)
}
