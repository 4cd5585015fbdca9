package distill

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// part is some windows of a step or of an evaluation, which go through the models together.
type part struct {
	*Trainer
	set   *dataset
	index []int // of the windows in the set
	ids   [][]int32
	first int   // number of the first window among all of the step
	means means // what the losses of the step are means over
	train bool

	sums  LogitSums
	logit []float64 // the part that the logits of each window have in the loss
	terms []float64 // the other losses, without weights
	other float64   // with them

	mask, dry, dryMap []float32 // scratch
	top               TopK
	tapErr            error
}

// means are numbers of rows over which losses are averaged: all tokens, and those that have a next one.
type means struct{ rows, targets int }

func meansOf(ids [][]int32) (m means) {
	for _, w := range ids {
		m.rows, m.targets = m.rows+len(w), m.targets+len(w)-1
	}
	return m
}

// take makes the part one of the windows of a set with the given numbers.
func (p *part) take(set *dataset, index []int, first int) {
	p.set, p.first, p.index = set, first, index
	p.ids = p.ids[:0]
	for _, i := range index {
		p.ids = append(p.ids, set.ids[i])
	}
	p.logit = sized(p.logit, len(index))
	clear(p.logit)
}

// begin forgets the sums of the step before.
func (p *part) begin(train bool, m means) {
	p.train, p.means, p.sums, p.other = train, m, LogitSums{}, 0
	p.terms = sized(p.terms, p.Objective.terms())
	clear(p.terms)
}

// loss is the objective's value so far.
func (p *part) loss() float64 { return p.sums.Loss + p.other }

// back runs teacher and student over the part and takes the gradient of the objective back.
func (p *part) back(ctx context.Context) error {
	if err := p.teacher.run(ctx, p.ids); err != nil {
		return err
	}
	opt := nn.BackOptions{Dir: p.Options.Dir, MemLimit: p.Options.MemLimit, Keep: p.Options.Keep, Together: Together}
	if p.Masks != nil {
		opt.EmbedGate, opt.Gates = p.embedGate, p.gates
	}
	if p.sink != nil {
		opt.Grads, opt.LayerDone = p.sink.layer, p.layerDone
	}
	opt.Grad = p.embedded
	if len(p.Objective.Hidden) > 0 {
		opt.Output = p.output
	}
	if len(p.Objective.Relations) > 0 {
		opt.Heads = p.relate
	}
	opt.At = p.looks
	if !p.Objective.compares(len(p.student.Arch.Layers) - 1) {
		opt.Loss = p.logits
	}
	return p.student.Back(ctx, p.ids, opt, p.final)
}

// looks reports whether there is anything to be looked at in a layer of the student on the way back.
func (p *part) looks(l int) bool {
	return l == 0 || p.Objective.compares(l) || slices.ContainsFunc(p.Objective.Relations, func(r RelationTerm) bool { return r.Student == l })
}

// forward runs teacher and student over the part and takes the objective's value alone.
func (p *part) forward(ctx context.Context) error {
	if err := p.teacher.run(ctx, p.ids); err != nil {
		return err
	}
	states, err := nn.NewStates(p.Options.Dir, lengths(p.ids), p.Model.Arch.D, p.Options.MemLimit)
	if err != nil {
		return err
	}
	opt := nn.RunOptions{States: states, Together: Together}
	if p.Masks != nil {
		opt.EmbedGate = p.embedGate
	}
	if p.Masks != nil || len(p.Objective.Relations) > 0 {
		opt.Pass = p.pass
	}
	if len(p.Objective.Hidden) > 0 {
		opt.Output, opt.At = p.outputs, p.Objective.compares
	}
	var each func(w int, x []float32) error
	if p.Objective.compares(len(p.student.Arch.Layers) - 1) {
		each = func(w int, x []float32) error { return p.final(w, x, nil) }
	} else {
		opt.Final = func(w int, x device.Buf) error { return p.logits(w, x, nil) }
	}
	p.tapErr = nil
	err = p.student.Run(ctx, p.ids, opt, each)
	return errors.Join(err, p.tapErr, states.Close())
}

func lengths(ids [][]int32) []int {
	out := make([]int, len(ids))
	for i, w := range ids {
		out[i] = len(w)
	}
	return out
}

func (p *part) embedGate(w int) []float32 { return p.Masks.EmbedGate(p.first + w) }

func (p *part) gates(l, w int) *nn.Gates { return p.Masks.Gates(l, p.first+w) }

// pass is what an evaluation does in a layer besides computing.
func (p *part) pass(l, w int) *nn.Pass {
	var pass nn.Pass
	if p.Masks != nil {
		pass.Gates = p.gates(l, w)
	}
	if len(p.Objective.Relations) > 0 {
		pass.TapAttn = func(a *nn.AttnState) { p.tapErr = errors.Join(p.tapErr, p.relate(l, w, a, nil, nil, nil)) }
	}
	return &pass
}

// outputs shows the outputs of layers in an evaluation, all but the last, which final sees.
func (p *part) outputs(l, w int, x []float32) error {
	if l == len(p.student.Arch.Layers)-1 {
		return nil
	}
	return p.output(l, w, x, nil)
}

// layerDone lets adapters take their part of the gradient of a layer.
func (p *part) layerDone(l int) error {
	if l < 0 {
		return nil
	}
	return p.sink.layerDone(l)
}

// embedded takes the gradient by the embedded tokens of a window to masks and embedding.
func (p *part) embedded(l, w int, grad []float32) error {
	if l > 0 {
		return nil
	}
	if p.Masks != nil {
		p.mask = sized(p.mask, len(grad))
		if err := p.student.Embed(p.mask, p.ids[w]); err != nil {
			return err
		}
		p.Masks.EmbedGrad(p.first+w, p.mask, grad)
	}
	if p.sink == nil {
		return nil
	}
	if p.Masks != nil {
		if z := p.embedGate(w); z != nil {
			copy(p.mask, grad)
			for i := range p.mask {
				p.mask[i] *= z[i%len(z)]
			}
			grad = p.mask
		}
	}
	p.sink.embed(p.ids[w], grad)
	return nil
}

// final is the loss of the final hidden states of a window: of its logits, and of the output of the last layer. grad is nil in an
// evaluation.
func (p *part) final(w int, hidden, grad []float32) error {
	if p.Objective.logits() {
		err := p.lossOfLogits(w, func(n int, g *nn.HeadGrads, f func(row int, l *nn.Logits) error) error {
			if grad == nil {
				return p.student.HeadLogitsGrad(nil, hidden, n, headRows(p.Model.Arch.V), nil, f)
			}
			return p.student.HeadLogitsGrad(grad[:n*p.Model.Arch.D], hidden, n, headRows(p.Model.Arch.V), g, f)
		})
		if err != nil {
			return err
		}
	}
	return p.output(len(p.student.Arch.Layers)-1, w, hidden, grad)
}

// logits is final where there is no loss but that of the logits, on the device.
func (p *part) logits(w int, hidden, grad device.Buf) error {
	if !p.Objective.logits() {
		return nil
	}
	return p.lossOfLogits(w, func(n int, g *nn.HeadGrads, f func(row int, l *nn.Logits) error) error {
		if grad == nil {
			return p.student.HeadLogitsGradBuf(nil, hidden, n, headRows(p.Model.Arch.V), nil, f)
		}
		return p.student.HeadLogitsGradBuf(grad, hidden, n, headRows(p.Model.Arch.V), g, f)
	})
}

// lossOfLogits is the loss of the logits of a window, whose first n rows run shows to f.
func (p *part) lossOfLogits(w int, run func(n int, g *nn.HeadGrads, f func(row int, l *nn.Logits) error) error) error {
	o, ids, v := &p.Objective, p.ids[w], p.Model.Arch.V
	n := len(ids)
	if o.KL == 0 {
		n--
	}
	loss := LogitLoss{Temperature: o.Temperature, KL: o.KL, CE: o.CE, Rows: p.means.rows, Targets: p.means.targets}
	targets := append(append([]int32(nil), ids[1:]...), -1)
	if err := p.predictions(w, n); err != nil {
		return err
	}
	add := func(s LogitSums, err error) error {
		p.sums.Add(s)
		p.logit[w] += s.Loss
		return err
	}
	dev := p.Model.Dev
	f := func(row int, logits *nn.Logits) error {
		rows := logits.Rows
		next := targets[row : row+rows]
		switch {
		case o.KL == 0:
			return add(loss.ApplyLogits(logits, nil, next, v, dev))
		case p.set.topK != nil:
			return add(loss.ApplyTopKLogits(logits, &p.top, row, next, v, dev))
		}
		return p.teacher.logits(w, row, rows, func(t *nn.Logits) error { return add(loss.ApplyLogits(logits, t, next, v, dev)) })
	}
	var g *nn.HeadGrads
	if p.sink != nil {
		g = p.sink.head()
	}
	return run(n, g, f)
}

// predictions reads what a file has of a teacher's logits for the first n rows of a window.
func (p *part) predictions(w, n int) error {
	if p.Objective.KL == 0 || p.set.topK == nil {
		return nil
	}
	return p.set.topK.Read(&p.top, p.set.row[p.index[w]], n)
}

// headRows is how many rows of logits there are at a time: those of 16 MiB, but enough that the gradient of a large head is
// not added up in too many pieces.
func headRows(v int) int { return min(max(1<<22/v, 128), 1024) }

// report names the means of the losses.
func (p *part) report() []Measure {
	var out []Measure
	if p.Objective.CE != 0 {
		out = append(out, Measure{"ce", p.sums.CE / float64(max(1, p.means.targets))})
	}
	if p.Objective.KL != 0 {
		out = append(out, Measure{"kl", p.sums.KL / float64(p.means.rows)})
	}
	for i := range p.Objective.Hidden {
		out = append(out, Measure{fmt.Sprintf("hidden %d", i), p.terms[i]})
	}
	for i := range p.Objective.Relations {
		out = append(out, Measure{fmt.Sprintf("relations %d", i), p.terms[len(p.Objective.Hidden)+i]})
	}
	return out
}

// Together is the number of positions up to which windows of one length go through a layer at once: products of fewer rows are
// slower.
const Together = 1024
