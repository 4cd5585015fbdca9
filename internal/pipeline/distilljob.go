package pipeline

import (
	"fmt"

	"modelpress/calib"
	"modelpress/distill"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// fill says what is trained and on what, and refuses an objective that does not fit the two models.
func (d *distillDecision) fill(r *Distill, student, teacher *source, set *dataset, dev device.Device) error {
	o, err := r.objective(student.arch, teacher.arch, teacher.model(dev), 0)
	if err != nil {
		return err
	}
	if err := o.Check(student.arch); err != nil {
		return errKind(KindUsage, "change the section distill of the recipe", "recipe: %w", err)
	}
	if r.TopK >= student.arch.V {
		return tooManyKept(r.TopK, student.arch.V)
	}
	w := set.learn
	d.Windows, d.Count = w.Digest, len(w.IDs)
	d.Tokens = trainedTokens(w, r)
	d.Params = student.arch.NumParameters()
	d.Trained = d.Params
	if l := r.LoRA; l != nil {
		if d.Trained, err = l.values(student.arch); err != nil {
			return err
		}
	}
	return nil
}

func tooManyKept(k, v int) error {
	return errKind(KindUsage, "set it to 0, which keeps all of them", "recipe: distill.top_k %d: the vocabulary has %d tokens", k, v)
}

// trainedTokens is how many tokens all steps look at where all windows are as long as the mean.
func trainedTokens(w calib.Windows, r *Distill) int64 {
	seen := int64(r.Steps) * int64(r.Batch) * int64(r.Accumulate)
	return seen * int64(w.Tokens()) / int64(max(1, len(w.IDs)))
}

// options are those of the adapters.
func (l *LoRA) options(seed uint64) distill.LoRAOptions {
	o := distill.LoRAOptions{Rank: l.Rank, Alpha: l.Alpha, Seed: seed}
	for r := range arch.NumRoles {
		if oneOf(r.String(), l.Roles...) {
			o.Roles = append(o.Roles, r)
		}
	}
	return o
}

// values is the number of values of the adapters.
func (l *LoRA) values(m *arch.Model) (int64, error) {
	n := int64(0)
	for i := range m.Layers {
		for role, lin := range m.Layers[i].Linears {
			if lin.Present() && oneOf(arch.Role(role).String(), l.Roles...) {
				if l.Rank > min(lin.In, lin.Out) {
					return 0, errKind(KindUsage, "take a lower rank, or leave the projection out of distill.lora.roles", "recipe: distill.lora.rank %d: layer %d's %s is %d x %d", l.Rank, i, arch.Role(role), lin.Out, lin.In)
				}
				n += int64(l.Rank) * int64(lin.In+lin.Out)
			}
		}
	}
	if n == 0 {
		return 0, errKind(KindUsage, "name projections that the model has", "recipe: distill.lora.roles: the model has none of %v", l.Roles)
	}
	return n, nil
}

// objective is what training makes small.
func (d *Distill) objective(student, teacher *arch.Model, model *nn.Model, seed uint64) (distill.Objective, error) {
	o := distill.Objective{CE: d.CE, KL: d.Logits, Temperature: d.Temperature, Teacher: model}
	if h := d.Hidden; h != nil {
		distance := map[string]distill.Distance{"cosine": distill.CosineDistance, "mse": distill.SquaredDistance}[h.Loss]
		pairs := h.Layers
		if h.Embedding {
			pairs = append([][2]int{{-len(student.Layers) - 1, -len(teacher.Layers) - 1}}, pairs...)
		}
		for i, p := range pairs {
			s, t, err := layerPair("hidden.layers", p[0], p[1], student, teacher, -1)
			if err != nil {
				return o, err
			}
			term := distill.HiddenTerm{Student: s, Teacher: t, Distance: distance, Weight: h.Weight}
			if h.Weight == 0 {
				term.Weight, term.Balance = 1, true
			}
			if student.D != teacher.D {
				term.Map = distill.NewMap(fmt.Sprintf("map.%d", i), student.D, teacher.D, seed)
			}
			o.Hidden = append(o.Hidden, term)
		}
	}
	if r := d.Relations; r != nil {
		s, t, err := layerPair("relations", r.Student, r.Teacher, student, teacher, 0)
		if err != nil {
			return o, err
		}
		o.Relations = distill.DistillLayers(model, t, s, r.Version == 2).Relations
		term := &o.Relations[0]
		term.Weight, term.MiniLM.Heads, term.MiniLM.KVHeads = r.Weight, r.Heads, r.Heads
	}
	return o, nil
}

// layerPair resolves layers that may be counted from the end; least is the first that there is.
func layerPair(field string, s, t int, student, teacher *arch.Model, least int) (int, int, error) {
	for i, n := range []int{len(student.Layers), len(teacher.Layers)} {
		v := []*int{&s, &t}[i]
		if *v < 0 {
			*v += n
		}
		if *v < least || *v >= n {
			return 0, 0, errKind(KindUsage, "name layers that there are", "recipe: distill.%s: layer %d of a model of %d", field, *v, n)
		}
	}
	return s, t, nil
}

// explode is how many times a loss may be what it was at first, or for a student that tells no token from another: beyond that, nothing is
// learnt any more.
const explode = 4

// options are those of a run of training.
func (d *Distill) options(seed uint64) (distill.Options, error) {
	decay, err := distill.ParseDecay(d.Schedule)
	if err != nil {
		return distill.Options{}, err
	}
	return distill.Options{
		Schedule: distill.Schedule{Steps: d.Steps, Warmup: d.Warmup, LR: d.Rate, Decay: decay, Floor: d.Floor},
		AdamW:    distill.AdamW{Beta1: d.Beta1, Beta2: d.Beta2, Eps: 1e-8, Decay: d.Decay},
		Batch:    d.Batch, Accumulate: d.Accumulate, Seed: seed, Clip: d.Clip, Explode: explode,
		Evaluate: d.EvalEvery, Patience: d.Patience, KeepBest: d.EvalEvery > 0,
	}, nil
}

// sameTokenizer says that two checkpoints make other tokens of a text, as far as their files tell.
func sameTokenizer(a, b *source) error {
	x, errA := a.ck.ReadFile(tokenizerName, maxTokenizer)
	y, errB := b.ck.ReadFile(tokenizerName, maxTokenizer)
	if errA == nil && errB == nil && string(x) != string(y) {
		return fmt.Errorf("teacher and student have different %s: a teacher of another tokenization teaches nothing", tokenizerName)
	}
	return nil
}
