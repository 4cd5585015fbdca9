package distill

import (
	"errors"
	"fmt"
	"slices"

	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// HiddenTerm is a loss on the output of a layer: what it adds to the residual stream and all before it, before any norm. Layer -1 are
// the embedded tokens. The scale that a norm would take away is nothing to a cosine.
type HiddenTerm struct {
	Student, Teacher int // layers
	Distance         Distance
	Map              *Map // from the student's width to the teacher's, trained along; nil where they are the same
	Weight           float64
	// Balance takes the loss of each window times what makes it Weight times that of the window's logits, a factor that is not
	// differentiated: the balance of Minitron (arXiv:2407.14679, section 3), window by window.
	Balance bool
}

// RelationTerm is a loss on how the queries, keys and values of a layer relate to each other. The numbers of relation heads that are 0
// stand for those of [MiniLMv1].
type RelationTerm struct {
	Student, Teacher int // layers
	MiniLM           MiniLM
	Weight           float64
}

// DistillLayers returns the objective of MiniLM (arXiv:2002.10957) where v2 is false, else that of MiniLMv2 (arXiv:2012.15828):
// the relations of one layer of the teacher, for the last layer of the student, and nothing else.
//
// Where the student has at most half of the teacher's layers and half of its width, the paper first distils into an assistant of the
// teacher's depth and the student's width, and then from the assistant, by two runs of this objective: the assistant that the first one
// trains is the Teacher of the second.
func DistillLayers(teacher *nn.Model, teacherLayer, studentLayer int, v2 bool) Objective {
	m := MiniLM{QK: 1, VV: 1}
	if v2 {
		m = MiniLM{QQ: 1.0 / 3, KK: 1.0 / 3, VV: 1.0 / 3}
	}
	return Objective{Teacher: teacher, Relations: []RelationTerm{{Student: studentLayer, Teacher: teacherLayer, MiniLM: m, Weight: 1}}}
}

// terms is the number of losses beside those of logits.
func (o *Objective) terms() int { return len(o.Hidden) + len(o.Relations) }

// compares reports whether there is a loss on the output of a layer of the student.
func (o *Objective) compares(l int) bool {
	return slices.ContainsFunc(o.Hidden, func(h HiddenTerm) bool { return h.Student == l })
}

// checkTerms refuses layers that are not there and widths that do not meet.
func (o *Objective) checkTerms(student *arch.Model) error {
	if o.terms() == 0 {
		return nil
	}
	if o.Teacher == nil {
		return errors.New("distill: objective: losses on layers without a teacher")
	}
	teacher := o.Teacher.Arch
	for i, h := range o.Hidden {
		switch {
		case h.Student < -1 || h.Student >= len(student.Layers) || h.Teacher < -1 || h.Teacher >= len(teacher.Layers):
			return fmt.Errorf("distill: objective: output of layer %d of %d, by layer %d of %d of the teacher", h.Student, len(student.Layers),
				h.Teacher, len(teacher.Layers))
		case h.Map == nil && student.D != teacher.D, h.Map != nil && (h.Map.W.Cols != student.D || h.Map.W.Rows != teacher.D):
			return fmt.Errorf("distill: objective: outputs of width %d and %d without a map between them", student.D, teacher.D)
		case !(h.Weight > 0) || h.Distance > SquaredDistance:
			return fmt.Errorf("distill: objective: hidden states with weight %g and distance %d", h.Weight, h.Distance)
		case h.Balance && !o.logits():
			return errors.New("distill: objective: hidden states are balanced with logits that have no loss")
		}
		for _, other := range o.Hidden[:i] {
			if h.Map != nil && other.Map != nil && h.Map.W.Name == other.Map.W.Name {
				return fmt.Errorf("distill: objective: two maps are named %s", h.Map.W.Name)
			}
		}
	}
	for _, r := range o.Relations {
		switch {
		case r.Student < 0 || r.Student >= len(student.Layers) || !student.Layers[r.Student].HasAttention(),
			r.Teacher < 0 || r.Teacher >= len(teacher.Layers) || !teacher.Layers[r.Teacher].HasAttention():
			return fmt.Errorf("distill: objective: relations of layer %d, by layer %d of the teacher: no such layers with attention", r.Student, r.Teacher)
		case !(r.Weight > 0):
			return fmt.Errorf("distill: objective: relations with weight %g", r.Weight)
		}
		if err := r.MiniLM.check(&student.Layers[r.Student], &teacher.Layers[r.Teacher]); err != nil {
			return fmt.Errorf("distill: objective: relations of layer %d, by layer %d of the teacher: %w", r.Student, r.Teacher, err)
		}
	}
	return nil
}

// output adds the losses on the output x [T, D] of a layer, and their gradient to grad; nil where that is not wanted.
func (p *part) output(l, w int, x, grad []float32) error {
	for i, h := range p.Objective.Hidden {
		if h.Student != l {
			continue
		}
		if err := p.hidden(i, w, x, grad); err != nil {
			return err
		}
	}
	return nil
}

func (p *part) hidden(i, w int, x, grad []float32) error {
	t, par := &p.Objective.Hidden[i], p.Model.Dev.For
	loss := Hidden{Distance: t.Distance, Student: p.Model.Arch.D, Teacher: p.Objective.Teacher.Arch.D, Map: t.Map, Rows: p.means.rows}
	weight := t.Weight
	if t.Balance || grad == nil {
		p.dry = sized(p.dry, len(x))
		dry := loss
		if t.Map != nil {
			p.dryMap = sized(p.dryMap, len(t.Map.Grad))
			dry.Map = &Map{W: t.Map.W, Grad: p.dryMap}
		}
		v, err := dry.Apply(x, p.teacher.hidden[i][w], len(p.ids[w]), p.dry, par)
		if err != nil {
			return err
		}
		if t.Balance && v > 0 {
			weight *= p.logit[w] / v
		}
		if grad == nil {
			p.add(i, v, weight)
			return nil
		}
	}
	loss.Weight = weight
	v, err := loss.Apply(x, p.teacher.hidden[i][w], len(p.ids[w]), grad, par)
	if err == nil {
		p.add(i, v, weight)
	}
	return err
}

// add counts the loss of a term over a window.
func (p *part) add(term int, v, weight float64) {
	p.terms[term] += v
	p.other += float64(weight * v)
}

// relate adds the losses on what attention of a layer reads, and their gradients to those by queries, keys and values; nil where
// they are not wanted.
func (p *part) relate(l, w int, a *nn.AttnState, dq, dk, dv []float32) error {
	for i, r := range p.Objective.Relations {
		if r.Student != l {
			continue
		}
		s := stateOf(a)
		s.DQ, s.DK, s.DV = dq, dk, dv
		if dq == nil {
			p.dry = sized(p.dry, len(s.Q)+len(s.K)+len(s.V))
			s.DQ, s.DK, s.DV = p.dry[:len(s.Q)], p.dry[len(s.Q):][:len(s.K)], p.dry[len(s.Q)+len(s.K):]
		}
		t := &p.teacher.heads[i][w]
		m := r.MiniLM
		m.Rows = p.means.rows
		m.fill(s, t)
		v, err := m.Apply(s, t, r.Weight, p.Model.Dev.For)
		if err != nil {
			return err
		}
		p.add(len(p.Objective.Hidden)+i, v.Loss, r.Weight)
	}
	return nil
}

func stateOf(a *nn.AttnState) *HeadStates {
	a.Read(nn.AllHeads)
	return &HeadStates{T: a.Shape.T, H: a.Shape.H, G: a.Shape.G, Dim: a.Shape.K, Q: a.Q, K: a.K, V: a.V}
}

// params are what the objective trains along.
func (o *Objective) params() []*Param {
	var out []*Param
	for _, h := range o.Hidden {
		if h.Map != nil {
			out = append(out, h.Map.W)
		}
	}
	return out
}

// grads are the gradients by these.
func (o *Objective) grads() [][]float32 {
	var out [][]float32
	for _, h := range o.Hidden {
		if h.Map != nil {
			out = append(out, h.Map.Grad)
		}
	}
	return out
}

func (o *Objective) zero() {
	for _, g := range o.grads() {
		clear(g)
	}
}
