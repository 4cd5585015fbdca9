package pipeline

import (
	"context"
	"errors"
	"fmt"

	"modelpress/formats/planfile"
)

// distillDecision is what training needs beside the settings of the recipe: by whom, on what, and how much of it.
type distillDecision struct {
	// Teacher names the teacher by its digests; nil where it is the source.
	Teacher *teacherDigests `json:"teacher,omitempty"`
	Windows string          `json:"windows"` // digest of what is trained on
	Count   int             `json:"count"`   // windows
	Tokens  int64           `json:"tokens"`  // that all steps look at, windows counted each time
	Params  int64           `json:"params"`  // values of the student
	Trained int64           `json:"trained"` // values that are trained
}

type teacherDigests struct {
	Weights string `json:"weights_digest"`
	Headers string `json:"headers_digest"`
}

func (d *distillDecision) summary(r *Distill) string {
	what := "all weights"
	if r.LoRA != nil {
		what = fmt.Sprintf("low-rank changes of rank %d", r.LoRA.Rank)
	}
	from := "the source"
	if d.Teacher != nil {
		from = "another teacher"
	}
	return fmt.Sprintf("%d steps from %s, %s", r.Steps, from, what)
}

func (d *distillDecision) rows() []planfile.Row {
	return []planfile.Row{
		{Mark: "~", Scope: "weights", Text: fmt.Sprintf("%d values trained", d.Trained)},
		{Mark: "=", Scope: "data", Text: fmt.Sprintf("%d windows, %d tokens over all steps", d.Count, d.Tokens)},
	}
}

// openTeacher opens the checkpoint that the student learns from; nil where it is the source itself.
func openTeacher(s *source, p DataPaths, allowRemoteCode bool) (*source, error) {
	if p.Teacher == "" {
		return nil, nil
	}
	t, err := openSource(p.Teacher, allowRemoteCode)
	if err != nil {
		return nil, fmt.Errorf("teacher: %w", err)
	}
	if t.arch.V != s.arch.V {
		return nil, errors.Join(errKind(KindUsage, "take a teacher of the same vocabulary", "the teacher has a vocabulary of %d tokens, the model of %d", t.arch.V, s.arch.V), t.close())
	}
	return t, nil
}

// foresee refuses, before any compute, a teacher that is not asked for, that is not there, or that does not fit, and training that does
// not fit the model, as far as its shape is known.
func (p *planner) foresee(context.Context) error {
	d := p.r.Distill
	if d == nil {
		if p.o.Data.Teacher != "" {
			return errKind(KindUsage, "leave it out", "a teacher is given, and the recipe has no section distill")
		}
		return nil
	}
	teacher, err := openTeacher(p.s, p.o.Data, p.o.AllowRemoteCode)
	if err != nil {
		return err
	}
	from := p.s
	if teacher != nil {
		from = teacher
	}
	switch {
	case p.r.Prune == nil:
		err = (&distillDecision{}).fill(d, p.t, from, p.set, p.o.Env.Device)
	case d.TopK >= p.s.arch.V:
		err = tooManyKept(d.TopK, p.s.arch.V)
	}
	if teacher != nil {
		err = errors.Join(err, teacher.close())
	}
	return err
}

// distill decides what training needs, and checks what it will do.
func (p *planner) distill(ctx context.Context) error {
	d := p.r.Distill
	if d == nil {
		return nil
	}
	teacher, err := openTeacher(p.s, p.o.Data, p.o.AllowRemoteCode)
	if err != nil {
		return err
	}
	if d.alone() && teacher == nil && p.pr == nil && p.m == nil {
		p.o.Env.warn("the model is its own teacher, and nothing was changed before: there is nothing to learn; give another one by --teacher")
	}
	p.di = &distillDecision{}
	from := p.s
	if teacher != nil {
		defer teacher.close()
		fp, err := fingerprint(ctx, teacher, p.o.Env)
		if err != nil {
			return err
		}
		p.di.Teacher, from, p.teacher = &teacherDigests{fp.WeightsDigest, fp.HeadersDigest}, teacher, teacher
		if err := sameTokenizer(p.s, teacher); err != nil {
			p.o.Env.warn("%v", err)
		}
	}
	return p.di.fill(d, p.t, from, p.set, p.o.Env.Device)
}
