package pipeline

import (
	"fmt"

	"modelpress/calib"
	"modelpress/internal/arch"
)

// peakMemory estimates the bytes resident during apply where a pass keeps at most states bytes of hidden states in memory,
// under a budget: the larger of its two phases, and an eighth more for garbage.
//
//	compress  the program; the largest decoder block as it is stored, in f32 where it is rotated; the widest matrix as it is
//	          stored, and four times in f32 (read, working copy, dequantized, codes and scratch); 8·n² for the widest input
//	          n (second moments, factored in place); one window; what blockPass keeps of all windows
//	judge     the program; a block as it is stored; two output heads; a chunk of logits; the hidden states of both models
//	          up to their limit; one window
//
// Resident at most and allowed: Llama-3-8B's widths 1551 of 1647 MiB (rtn), 3846 of 3992 MiB (rsq). Without a budget, by
// usualMemory: 1846 of 1952 MiB (rtn, 4 layers); Llama-3.2-1B's widths 1314 of 1818 MiB (rtn, 16 layers).
func peakMemory(s *source, w blockWork, set *dataset, states int64) int64 {
	return withGarbage(max(compressBytes(s, w, set, states), judgeBytes(s, set, 2, states)))
}

// usualMemory is peakMemory for a run without a budget, where the collector leaves up to a third of garbage.
func usualMemory(s *source, w blockWork, set *dataset) int64 {
	n := max(compressBytes(s, w, set, stateMemory), judgeBytes(s, set, 2, stateMemory))
	return n + n/3
}

// planMemory estimates the bytes resident during plan, where only the source runs: forward, or forth and back where gates are
// trained or influence is profiled.
func planMemory(s *source, set *dataset, states int64) int64 {
	if set == nil {
		return withGarbage(judgeBytes(s, set, 1, states))
	}
	const f32 = 4
	// A plan is compared with the dense model, whose states are kept meanwhile.
	second := min(states, f32*int64(s.arch.D)*int64(set.planTokens()))
	return withGarbage(judgeBytes(s, set, 1, states) + second + backBytes(s, set, states))
}

// backBytes is what a backward pass holds beyond a forward one: the states at every block's boundary up to their limit, and the
// gradients of a window through a block; see nn.Model.Back.
func backBytes(s *source, set *dataset, states int64) int64 {
	if set == nil || set.backTokens() == 0 {
		return 0
	}
	const f32 = 4
	boundaries := f32 * int64(s.arch.D) * int64(len(s.arch.Layers)+1) * int64(set.backTokens())
	return min(states, boundaries) + 2*windowBytes(s.arch, set.longest())
}

func withGarbage(n int64) int64 { return n + n/8 }

// programBytes is the program itself with its buffers for reading and writing.
const programBytes = 40 << 20

// sizes are the numbers of elements that memory estimates are made of.
type sizes struct {
	block, matrix, widest int64 // weights of the largest block and matrix, and the widest input
	store                 int64 // bytes of a stored weight
}

func sizesOf(s *source) sizes {
	z := sizes{store: 2}
	if d, err := s.storeDType(); err == nil {
		z.store = int64(d.Size())
	}
	for l := range s.arch.Layers {
		var sum int64
		for _, lin := range s.arch.Layers[l].Linears {
			n := int64(lin.In) * int64(lin.Out)
			sum += n
			z.matrix = max(z.matrix, n)
			z.widest = max(z.widest, int64(lin.In))
		}
		z.block = max(z.block, sum)
	}
	return z
}

// blockWork says what the step that changes blocks does to them.
type blockWork struct {
	changes bool // weights are replaced
	rotated bool // blocks are in f32
	data    bool // windows are carried through
}

func workOf(sp *sparsifyDecision, q *quantDecision) blockWork {
	if q == nil {
		return blockWork{changes: sp != nil, data: sp.needsData()}
	}
	return blockWork{changes: true, rotated: q.Rotation != nil, data: q.needsData()}
}

func compressBytes(s *source, w blockWork, set *dataset, states int64) int64 {
	const f32 = 4
	total := int64(programBytes)
	if !w.changes {
		return total
	}
	z := sizesOf(s)
	held := z.store
	if w.rotated {
		held = f32
	}
	total += held*z.block + z.store*z.matrix + 4*f32*z.matrix
	if w.data {
		c := set.set.Calib
		total += 8*z.widest*z.widest + windowBytes(s.arch, c.Longest()) + passBytes(s.arch, int64(c.Tokens()), states)
	}
	return total
}

// passBytes is what passStates holds in memory for windows of a number of tokens, under a limit for each kind of states.
func passBytes(m *arch.Model, tokens, limit int64) int64 {
	const f32 = 4
	var attn, act int64
	for l := range m.Layers {
		a := &m.Layers[l]
		attn = max(attn, min(limit, f32*tokens*int64(a.H*a.K)))
		if n := f32 * tokens * int64(a.F); n <= limit {
			act = max(act, n)
		}
	}
	return attn + act + min(limit, f32*tokens*int64(m.D))
}

// scratchBytes is what apply keeps in files at most: the boundary states of two layers, and the states of a blockPass.
func scratchBytes(m *arch.Model, tokens int64) int64 {
	const f32 = 4
	var attn int64
	for l := range m.Layers {
		attn = max(attn, int64(m.Layers[l].H*m.Layers[l].K))
	}
	return f32 * tokens * (3*int64(m.D) + attn)
}

// judgeBytes is what it takes to run models side by side over the data.
func judgeBytes(s *source, set *dataset, models, states int64) int64 {
	if set == nil {
		return programBytes
	}
	const f32 = 4
	m, z := s.arch, sizesOf(s)
	longest := max(set.set.Heldout.Longest(), set.longest())
	kept := f32 * int64(m.D) * int64(max(set.heldTokens(), set.planTokens()))
	return programBytes + z.store*z.block + models*z.store*int64(m.V)*int64(m.D) + logitBytes(m, longest) +
		models*min(states, kept) + windowBytes(m, longest)
}

// fit chooses how many bytes of hidden states a pass may keep in memory, so that the run stays within Env.MaxMemory, and
// refuses a budget that cannot be kept. peak estimates the run for a number of such bytes.
func (e *Env) fit(peak func(states int64) int64) error {
	e.states = stateMemory
	if e.MaxMemory <= 0 || peak(e.states) <= e.MaxMemory {
		return nil
	}
	least := peak(0)
	if least > e.MaxMemory {
		const mib = 1 << 20
		return errKind(KindResource, fmt.Sprintf("give --max-memory %dMiB or more", (least+mib-1)/mib),
			"the memory budget of %d MiB is too small: this run needs %d MiB", e.MaxMemory/mib, (least+mib-1)/mib)
	}
	for e.states > 0 && peak(e.states) > e.MaxMemory {
		e.states /= 2
	}
	return nil
}

// stateLimit is the bytes of hidden states that a pass keeps in memory.
func (e Env) stateLimit() int64 {
	if e.states == 0 && e.MaxMemory <= 0 {
		return stateMemory
	}
	return max(e.states, 1)
}

// windowBytes is what the pass of a window of t tokens through a block holds; see nn.Block.Forward.
func windowBytes(m *arch.Model, t int) int64 {
	var floats int64
	for l := range m.Layers {
		a := &m.Layers[l]
		floats = max(floats, int64(3*m.D+2*a.H*a.K+2*a.G*a.K+2*a.H+2*a.F))
	}
	return 4 * floats * int64(t)
}

// logitBytes is what a comparison of two models holds of logits at a time: those of one, a copy, and those of the other; see
// calib.Compare.
func logitBytes(m *arch.Model, t int) int64 {
	rows := min(max(16<<20/m.V, 1), 1024, max(t, 1))
	return 3 * 4 * int64(rows) * int64(m.V)
}

func promptTokens(list []calib.Prompt) int {
	n := 0
	for i := range list {
		n += len(list[i].IDs) + len(list[i].Answer)
	}
	return n
}
