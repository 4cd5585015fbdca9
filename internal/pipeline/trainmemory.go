package pipeline

import (
	"modelpress/distill"
	"modelpress/internal/arch"
)

// pruneMemory estimates the bytes resident while units are chosen, under a budget; 0 where nothing is pruned.
//
//	the program; a block as it is stored, and in f32 with its gradients where a gradient is taken; two output heads, one of them
//	in f32 with its gradients; a chunk of logits three times; the states at every block boundary of what goes back at once, and the
//	final states of the source, up to their limit; a window forth and back; 32 bytes for each unit
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
	return withGarbage(n + 32*units(m))
}

// units counts what may be cut.
func units(m *arch.Model) int64 {
	n := int64(m.D)
	for l := range m.Layers {
		n += int64(m.Layers[l].G + m.Layers[l].F + 1)
	}
	return n
}

// trainMemory estimates the bytes resident while weights are trained, under a budget; 0 where none are. n is the number of values of
// the student, which is not larger than the source.
//
//	the program; 16·n for values, gradients and two moments in f32, 4·n more for the best ones (LoRA: 4·n, and 16 for each value of the
//	adapters); the largest block in f32 with its gradients; the teacher's block and head as they are stored, the student's head in
//	f32; a chunk of logits four times; of a part's windows the states at every block boundary, the teacher's final ones, and activations,
//	up to their limit each; a window forth and back
func trainMemory(s *source, r *Recipe, set *dataset, states int64) int64 {
	d := r.Distill
	if d == nil || set == nil {
		return 0
	}
	const f32 = 4
	m, z := s.arch, sizesOf(s)
	n := m.NumParameters()
	held := 4 * f32 * n
	if d.EvalEvery > 0 {
		held += f32 * n
	}
	if l := d.LoRA; l != nil {
		held = f32 * n
		if v, err := l.values(m); err == nil {
			held += 4 * f32 * v
		}
	}
	longest := max(set.learn.Longest(), set.set.Heldout.Longest())
	tokens := int64(d.Batch) * int64(longest)
	head := int64(m.V) * int64(m.D)
	rows := max(longest, min(distill.Together, d.Batch*longest))
	total := programBytes + held + 2*f32*z.block + z.store*(z.block+head) + f32*head + logitBytes(m, longest)*4/3 +
		min(states, f32*int64(m.D)*int64(len(m.Layers)+1)*tokens) + min(states, 2*f32*int64(m.D)*tokens) + 3*windowBytes(m, rows)
	total += min(states, activationBytes(m)*tokens)
	if d.Relations != nil || d.Hidden != nil {
		total += 4 * f32 * tokens * widestHeads(m)
	}
	return withGarbage(total)
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
	total := (2*3 + 1) * f32 * n // two states, of which one replaces the other, and the weights
	if d.EvalEvery > 0 {
		total += f32 * n
	}
	if l := d.LoRA; l != nil {
		total = f32 * n
		if v, err := l.values(s.arch); err == nil {
			total += 6 * f32 * v
		}
	}
	if d.TopK > 0 {
		total += int64(set.learn.Tokens()+set.set.Heldout.Tokens()) * (8*int64(d.TopK) + f32)
	}
	return total
}
