package pipeline

import (
	"strings"

	"modelpress/internal/arch"
)

// Distill trains the result of the steps before it to predict what a teacher predicts.
type Distill struct {
	Steps      int     `yaml:"steps" json:"steps"`
	Batch      int     `yaml:"batch" json:"batch"`           // windows that pass at a time
	Accumulate int     `yaml:"accumulate" json:"accumulate"` // such parts a step
	Rate       float64 `yaml:"rate" json:"rate"`
	Warmup     int     `yaml:"warmup" json:"warmup"`     // steps; by default 10, or a tenth of all where that is less
	Schedule   string  `yaml:"schedule" json:"schedule"` // cosine, linear, constant
	Floor      float64 `yaml:"floor" json:"floor"`       // of the rate at the end, as a share of it
	Decay      float64 `yaml:"decay" json:"decay"`       // of weights, decoupled
	Beta1      float64 `yaml:"beta1" json:"beta1"`
	Beta2      float64 `yaml:"beta2" json:"beta2"`
	Clip       float64 `yaml:"clip" json:"clip"`     // norm of all gradients; 0 for none
	Master     string  `yaml:"master" json:"master"` // f32 or bf16

	Logits      float64    `yaml:"logits" json:"logits"` // weight of KL(teacher || student)
	Temperature float64    `yaml:"temperature" json:"temperature"`
	TopK        int        `yaml:"top_k" json:"top_k"` // of the teacher's predictions that are kept; 0 for all of them
	CE          float64    `yaml:"ce" json:"ce"`       // weight of the cross entropy of the text
	Hidden      *Hidden    `yaml:"hidden" json:"hidden,omitempty"`
	Relations   *Relations `yaml:"relations" json:"relations,omitempty"`
	LoRA        *LoRA      `yaml:"lora" json:"lora,omitempty"`

	EvalEvery int `yaml:"eval_every" json:"eval_every"` // steps between looks at held-out data; 0 for none
	Patience  int `yaml:"patience" json:"patience"`     // such looks without improvement that end the training; 0 for all steps
	SaveEvery int `yaml:"save_every" json:"save_every"` // steps between states that an interrupted run goes on from
}

// alone reports whether the teacher's predictions and states are all that is learnt from.
func (d *Distill) alone() bool { return d.CE == 0 }

// OnlyDistills reports whether the recipe has no other step.
func (r *Recipe) OnlyDistills() bool {
	return r.Distill != nil && r.Prune == nil && r.KVMerge == nil && r.Heads == nil && r.Quantize == nil
}

// Hidden compares hidden states, where layers were left out (Minitron, arXiv:2407.14679).
type Hidden struct {
	Loss      string   `yaml:"loss" json:"loss"`     // cosine or mse
	Weight    float64  `yaml:"weight" json:"weight"` // 0 follows the loss on logits
	Layers    [][2]int `yaml:"layers" json:"layers"` // pairs of a layer of the student and one of the teacher; negative ones from the end
	Embedding bool     `yaml:"embedding" json:"embedding"`
}

// Relations compares how positions relate to each other (MiniLM, arXiv:2002.10957 and arXiv:2012.15828).
type Relations struct {
	Version int     `yaml:"version" json:"version"` // 1 or 2
	Weight  float64 `yaml:"weight" json:"weight"`
	Student int     `yaml:"student" json:"student"` // layer; negative from the end
	Teacher int     `yaml:"teacher" json:"teacher"`
	Heads   int     `yaml:"heads" json:"heads"` // relation heads of version 2; 0 chooses
}

// LoRA trains low-rank changes of projections in place of all weights (arXiv:2106.09685).
type LoRA struct {
	Rank  int      `yaml:"rank" json:"rank"`
	Alpha float64  `yaml:"alpha" json:"alpha"`
	Roles []string `yaml:"roles" json:"roles"` // of projections
}

func defaultDistill(has *Distill) *Distill {
	d := &Distill{Steps: 200, Batch: 4, Accumulate: 1, Rate: 3e-4, Warmup: 10, Schedule: "cosine", Floor: 0.1, Decay: 0, Beta1: 0.9, Beta2: 0.95, Clip: 1,
		Master: "f32", Logits: 1, Temperature: 1, SaveEvery: 50}
	if has.Steps > 0 {
		d.Warmup = min(d.Warmup, has.Steps/10)
	}
	if has.Hidden != nil {
		d.Hidden = &Hidden{Loss: "cosine", Embedding: true}
	}
	if has.Relations != nil {
		d.Relations = &Relations{Version: 2, Weight: 1, Student: -1, Teacher: -1}
	}
	if has.LoRA != nil {
		d.LoRA = &LoRA{Rank: 16, Alpha: 32}
	}
	return d
}

// fillDefaults sets lists that are empty.
func (d *Distill) fillDefaults() {
	if h := d.Hidden; h != nil && len(h.Layers) == 0 {
		h.Layers = [][2]int{{-2, -2}}
	}
	if l := d.LoRA; l != nil && len(l.Roles) == 0 {
		l.Roles = roleNames()
	}
}

// roleNames are those of all projections, in the order of the forward pass.
func roleNames() []string {
	var out []string
	for r := range arch.NumRoles {
		out = append(out, r.String())
	}
	return out
}

func (d *Distill) check(f *faults, c Calibration) {
	f.add(d.Steps < 1 || d.Steps > 1<<24, "distill.steps %d: want 1 to 16777216", d.Steps)
	f.add(d.Batch < 1 || d.Batch > 1<<16, "distill.batch %d: want 1 to 65536", d.Batch)
	f.add(d.Batch >= 1 && d.Accumulate > 1<<16/d.Batch, "distill: %d parts of %d windows a step, at most 65536 windows", d.Accumulate, d.Batch)
	f.add(d.TopK > 0 && d.Logits == 0, "distill.top_k has no effect where logits is 0")
	f.add(d.EvalEvery > 0 && c.Holdout == 0, "distill.eval_every needs held-out data, and calibration.holdout is 0")
	f.add(d.Accumulate < 1 || d.Accumulate > 1<<16, "distill.accumulate %d: want 1 to 65536", d.Accumulate)
	f.add(!(d.Rate > 0 && d.Rate <= 10), "distill.rate %v: want more than 0 and at most 10", d.Rate)
	f.add(d.Warmup < 0 || d.Warmup > d.Steps, "distill.warmup %d: want 0 to distill.steps", d.Warmup)
	f.add(!oneOf(d.Schedule, "cosine", "linear", "constant"), "distill.schedule %q: want cosine, linear or constant", d.Schedule)
	f.add(!(d.Floor >= 0 && d.Floor <= 1), "distill.floor %v: want 0 to 1", d.Floor)
	f.add(!(d.Decay >= 0 && d.Decay <= 10), "distill.decay %v: want 0 to 10", d.Decay)
	f.add(!(d.Beta1 >= 0 && d.Beta1 < 1) || !(d.Beta2 >= 0 && d.Beta2 < 1), "distill.beta1 %v, beta2 %v: want at least 0 and less than 1", d.Beta1, d.Beta2)
	f.add(!(d.Clip >= 0 && d.Clip <= 1e6), "distill.clip %v: want 0 to 1000000", d.Clip)
	f.add(!oneOf(d.Master, "f32", "bf16"), "distill.master %q: want f32 or bf16", d.Master)
	f.add(!(d.Logits >= 0 && d.Logits <= 1e6) || !(d.CE >= 0 && d.CE <= 1e6), "distill.logits %v, ce %v: want 0 to 1000000", d.Logits, d.CE)
	f.add(d.Logits == 0 && d.CE == 0 && d.Hidden == nil && d.Relations == nil, "distill: all weights are 0: give logits, ce, hidden or relations")
	f.add(!(d.Temperature > 0 && d.Temperature <= 100), "distill.temperature %v: want more than 0 and at most 100", d.Temperature)
	f.add(d.TopK < 0 || d.TopK > 1<<12, "distill.top_k %d: want 0 to 4096", d.TopK)
	f.add(d.EvalEvery < 0 || d.EvalEvery > d.Steps, "distill.eval_every %d: want 0 to distill.steps", d.EvalEvery)
	f.add(d.Patience < 0 || d.Patience > 0 && d.EvalEvery == 0, "distill.patience %d: needs eval_every", d.Patience)
	f.add(d.SaveEvery < 1, "distill.save_every %d: want 1 or more", d.SaveEvery)
	if d.Hidden != nil {
		f.add(d.Hidden.Weight == 0 && d.Logits == 0 && d.CE == 0, "distill.hidden.weight 0 follows the losses on logits, which have none: give it a weight, or logits or ce one")
		d.Hidden.check(f)
	}
	if d.Relations != nil {
		d.Relations.check(f)
	}
	if d.LoRA != nil {
		d.LoRA.check(f)
	}
}

func (h *Hidden) check(f *faults) {
	f.add(!oneOf(h.Loss, "cosine", "mse"), "distill.hidden.loss %q: want cosine or mse", h.Loss)
	f.add(!(h.Weight >= 0 && h.Weight <= 1e6), "distill.hidden.weight %v: want 0 to 1000000", h.Weight)
	f.add(len(h.Layers) > 64, "distill.hidden.layers: %d pairs, at most 64", len(h.Layers))
}

func (r *Relations) check(f *faults) {
	f.add(r.Version != 1 && r.Version != 2, "distill.relations.version %d: want 1 or 2", r.Version)
	f.add(!(r.Weight > 0 && r.Weight <= 1e6), "distill.relations.weight %v: want more than 0 and at most 1000000", r.Weight)
	f.add(r.Heads < 0 || r.Heads > 1<<14, "distill.relations.heads %d: want 0 to 16384", r.Heads)
	f.add(r.Version == 1 && r.Heads != 0, "distill.relations.heads has no effect with version 1")
}

func (l *LoRA) check(f *faults) {
	f.add(l.Rank < 1 || l.Rank > 1<<14, "distill.lora.rank %d: want 1 to 16384", l.Rank)
	f.add(!(l.Alpha > 0 && l.Alpha <= 1e6), "distill.lora.alpha %v: want more than 0 and at most 1000000", l.Alpha)
	for _, r := range l.Roles {
		f.add(!oneOf(r, roleNames()...), "distill.lora.roles %q: known are %s", r, strings.Join(roleNames(), ", "))
	}
}
