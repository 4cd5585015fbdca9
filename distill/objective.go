package distill

import (
	"errors"
	"fmt"
	"math"

	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// Objective is what a run makes small: a weighted sum of losses, each a mean over the tokens of a step. Terms with a weight of 0 are
// left out.
type Objective struct {
	// CE weighs the cross entropy of the next token, as in training from scratch, over all tokens but the last of each window. KL
	// weighs the divergence of the student's predictions at Temperature (0 means 1) from the teacher's, over all tokens; see [LogitLoss].
	CE, KL, Temperature float64
	// Teacher computes what the student is compared with, on the same windows. It must be another nn.Model than the student, and may
	// read from any source.
	Teacher *nn.Model
	// TopK and HeldoutTopK, where not nil, hold the teacher's predictions on the windows of Data and Heldout, one after the other, and
	// stand for those of Teacher in KL.
	TopK, HeldoutTopK TopKRows
	// Hidden and Relations are losses on pairs of layers. Where there is no loss on logits, the layers above the last one that is
	// compared are not run, and what the objective does not depend on stays as it is.
	Hidden    []HiddenTerm
	Relations []RelationTerm
}

// TopKRows reads predictions of a teacher; see [TopKFile].
type TopKRows interface {
	Read(dst *TopK, from int64, n int) error
}

// logits reports whether the objective looks at the student's logits.
func (o *Objective) logits() bool { return o.CE != 0 || o.KL != 0 }

// blind is the most that the losses on logits can be for a student of v tokens for which all are alike.
func (o *Objective) blind(v int) float64 {
	t := o.Temperature
	if t == 0 {
		t = 1
	}
	return (o.CE + o.KL*t*t) * math.Log(float64(v))
}

// errUnpredicted says that predictions from a file are there for training alone.
var errUnpredicted = errors.New("distill: evaluation: no predictions of the teacher for the held-out windows")

func (o *Objective) unpredicted() bool { return o.KL != 0 && o.TopK != nil && o.HeldoutTopK == nil }

// check is Check for a student that is there.
func (o *Objective) check(m *nn.Model) error {
	if o.Teacher == m {
		return errors.New("distill: objective: the teacher is the student")
	}
	return o.Check(m.Arch)
}

// Check refuses an objective that cannot be for a student: one without a loss or without the teacher that it needs, with another vocabulary,
// with layers that are not there, widths that do not meet, and heads that do not divide them.
func (o *Objective) Check(student *arch.Model) error {
	if err := (LogitLoss{Temperature: o.Temperature, KL: o.KL, CE: o.CE}).Check(); err != nil {
		return err
	}
	switch {
	case !o.logits() && o.terms() == 0:
		return errors.New("distill: objective: no loss")
	case o.KL != 0 && o.Teacher == nil && o.TopK == nil:
		return errors.New("distill: objective: divergence without a teacher")
	case o.KL != 0 && o.Teacher != nil && o.TopK == nil && o.Teacher.Arch.V != student.V:
		return fmt.Errorf("distill: objective: a teacher with %d tokens for a student with %d", o.Teacher.Arch.V, student.V)
	}
	return o.checkTerms(student)
}

// top is the number of layers of a student that have to be run, at least one.
func (o *Objective) top(a *arch.Model) int {
	n := min(1, len(a.Layers))
	for _, h := range o.Hidden {
		n = max(n, h.Student+1)
	}
	for _, r := range o.Relations {
		n = max(n, r.Student+1)
	}
	if o.logits() {
		n = len(a.Layers)
	}
	return n
}

// teacherTop is top for the teacher.
func (o *Objective) teacherTop() int {
	n := 0
	for _, h := range o.Hidden {
		n = max(n, h.Teacher+1)
	}
	for _, r := range o.Relations {
		n = max(n, r.Teacher+1)
	}
	if o.KL != 0 && o.TopK == nil {
		n = len(o.Teacher.Arch.Layers)
	}
	return n
}

// reaches returns whether the objective depends on a parameter of a student: on all up to the output of the last layer that is
// looked at, and on what the attention of a layer after that reads.
func (o *Objective) reaches() func(*Param) bool {
	if o.logits() {
		return func(*Param) bool { return true }
	}
	output, attention := EmbedLayer, EmbedLayer
	for _, h := range o.Hidden {
		output = max(output, h.Student)
	}
	for _, r := range o.Relations {
		attention = max(attention, r.Student)
	}
	return func(q *Param) bool {
		switch {
		case q.Layer == HeadLayer:
			return false
		case q.Layer <= output || q.Layer < attention:
			return true
		case q.Layer > attention:
			return false
		}
		if q.Part == Projection || q.Part == Adapter {
			return q.Role == arch.Q || q.Role == arch.K || q.Role == arch.V
		}
		return q.Part != FFNNorm
	}
}
