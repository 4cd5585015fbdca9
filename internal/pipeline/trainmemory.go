package pipeline

import (
	"modelpress/distill"
	"modelpress/internal/arch"
)

// pruneMemory estimates the bytes resident while units are chosen, under a budget; 0 where nothing is pruned.
//
//	the program; a block as it is stored, and in f32 with its gradients where a gradient is taken; two output heads, one of them
//	in f32 with its gradients; a chunk of logits three times; the states at every block boundary of what goes back at once, and the
//	final states of the source, up to their limit; a window forth and back; 100 bytes for each unit, and for each window of a step what
//	its gates take; 16 bytes for each value that is trained along with masks
func pruneMemory(s *source, r *Recipe, set *dataset, states int64) int64 {
	p := r.Prune
	if p == nil || set == nil {
		return 0
	}
	const f32 = 4
	m, z := s.arch, sizesOf(s)
	longest, tokens := set.set.Calib.Longest(), int64(set.set.Calib.Tokens())
	if v := p.VIB; v != nil {
		longest, tokens = max(longest, set.learn.Longest()), max(int64(v.Batch)*int64(set.learn.Longest()), int64(set.set.Calib.Tokens()))
	}
	n := programBytes + z.store*z.block + f32*z.block*2 + 2*z.store*int64(m.V)*int64(m.D) + 2*f32*int64(m.V)*int64(m.D) + logitBytes(m, longest)
	n += min(states, f32*int64(m.D)*int64(len(m.Layers)+1)*tokens) + min(states, f32*int64(m.D)*tokens) + 3*windowBytes(m, longest)
	if v := p.VIB; v != nil {
		gates := 16*units(m) + 12*int64(m.D)*int64(len(m.Layers))
		n += int64(v.Batch+1)*gates + min(states, activationBytes(m)*tokens)
	}
	if p.joint() {
		n += jointBytes * m.NumParameters()
	}
	return withGarbage(n + 100*units(m))
}

// jointBytes is what a value takes that is trained along with masks: in f32, with its gradient and two moments.
const jointBytes = 16

// jointScratch is what training weights along with masks keeps in files: two states, of which one replaces the other, and the weights.
func jointScratch(s *source) int64 { return (2*12 + 4) * s.arch.NumParameters() }

// units counts what may be cut.
func units(m *arch.Model) int64 {
	n := int64(m.D)
	for l := range m.Layers {
		n += int64(m.Layers[l].G + m.Layers[l].F + 1)
	}
	return n
}

// trainMemory estimates the bytes resident while weights are trained, under a budget; 0 where none are. s is the student with n values,
// teacher what it learns from.
//
//	the program; 16·n for values, gradients and two moments in f32, 4·n more for the best ones (LoRA: 4·n, and 16, or 20, for each
//	value of the adapters); the largest block in f32 with its gradients, and the head in f32; the teacher's block and head as they
//	are stored; a chunk of logits four times; of a part's windows the states at every block boundary, the teacher's final ones
//	and those that it runs on, and activations, up to their limit each; a window forth and back; for each pair of layers that are
//	compared the teacher's states, and 28 bytes for each value of a map between widths
func trainMemory(s, teacher *source, r *Recipe, set *dataset, states int64) int64 {
	d := r.Distill
	if d == nil || set == nil {
		return 0
	}
	const f32 = 4
	m, z, from, zt := s.arch, sizesOf(s), teacher.arch, sizesOf(teacher)
	longest := max(set.learn.Longest(), set.set.Heldout.Longest())
	tokens := int64(d.Batch) * int64(longest)
	rows := max(longest, min(distill.Together, d.Batch*longest))
	total := programBytes + trainedBytes(m, d) + 2*f32*z.block + f32*int64(m.V)*int64(m.D) + zt.store*(zt.block+int64(from.V)*int64(from.D)) +
		logitBytes(m, longest)*4/3 + 2*windowBytes(m, rows) + windowBytes(from, rows)
	total += min(states, f32*int64(m.D)*int64(len(m.Layers)+1)*tokens) + min(states, activationBytes(m)*tokens) + 2*min(states, f32*int64(from.D)*tokens)
	if h := d.Hidden; h != nil {
		pairs := int64(len(h.Layers) + 1)
		total += pairs * f32 * tokens * int64(from.D)
		if m.D != from.D {
			total += pairs * 7 * f32 * int64(m.D) * int64(from.D)
		}
	}
	if d.Relations != nil {
		total += 2 * f32 * tokens * max(widestHeads(m), widestHeads(from))
	}
	return withGarbage(total)
}

// trainedBytes is what values, gradients and moments take.
func trainedBytes(m *arch.Model, d *Distill) int64 {
	const f32 = 4
	n, best := m.NumParameters(), int64(0)
	if d.EvalEvery > 0 {
		best = 1
	}
	if l := d.LoRA; l != nil {
		v, err := l.values(m)
		if err != nil { // refused elsewhere
			v = 0
		}
		return f32*n + (4+best)*f32*v
	}
	return (4 + best) * f32 * n
}

// activationBytes is what a way back keeps of a token in all layers, where there is room for it.
func activationBytes(m *arch.Model) int64 {
	n := 0
	for l := range m.Layers {
		a := &m.Layers[l]
		n += 3*m.D + 2*(a.H+a.G)*a.K + a.H + 2*a.F
	}
	return 4 * int64(n)
}

// widestHeads is the most values of queries, keys and values, or of the stream, that a token has in a layer.
func widestHeads(m *arch.Model) int64 {
	n := m.D
	for l := range m.Layers {
		a := &m.Layers[l]
		n = max(n, (a.H+2*a.G)*a.K)
	}
	return int64(n)
}

// trainScratch is what training keeps in files at most: its state, the trained weights, and what is kept of the teacher's predictions.
func trainScratch(s *source, r *Recipe, set *dataset) int64 {
	const f32 = 4
	d, n := r.Distill, s.arch.NumParameters()
	// Two states, of which one replaces the other, without the gradients that memory has, and the weights.
	trained := trainedBytes(s.arch, d)
	if d.LoRA != nil {
		trained -= f32 * n
	}
	total := 2*trained + f32*n
	if d.TopK > 0 {
		total += int64(set.learn.Tokens()+set.set.Heldout.Tokens()) * (8*int64(d.TopK) + f32)
	}
	return total
}

// taught is what the student learns from.
func (p *planner) taught() *source {
	if p.teacher != nil {
		return p.teacher
	}
	return p.s
}

// heldWeights is what weights that were trained along with masks take while planning goes on.
func (p *planner) heldWeights() int64 {
	if !p.r.Prune.joint() {
		return 0
	}
	return 4 * p.s.arch.NumParameters()
}

// teacherOr is the teacher, or the source where nothing is distilled.
func (a *applier) teacherOr() *source {
	if a.teacher != nil {
		return a.teacher
	}
	return a.s
}

// jointMemory is what training weights along with masks takes, 0 where none are.
func (a *applier) jointMemory(states int64) int64 {
	if a.joint == nil {
		return 0
	}
	return pruneMemory(a.s, a.recipe, a.set, states)
}
