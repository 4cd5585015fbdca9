package pipeline

import (
	"modelpress/calib"
	"modelpress/internal/arch"
)

// peakMemory estimates the bytes resident during apply: the larger of its two phases, and an eighth more for garbage.
//
//	compress  the program; the largest decoder block in f32, as its weights are replaced, and the matrix in work as it is
//	          stored; four times its widest matrix in f32 (read, working copy, dequantized, codes and scratch); three times
//	          8·n² for the widest input n (second moments, damped copy, factor); one window
//	judge     the program; a block as it is stored; two output heads; a chunk of logits; the hidden states of both models
//	          up to their limit; one window
//
// Resident at most, measured and estimated: Llama-3.2-1B's widths 1556 and 1534 MiB (rtn, 16 layers), 2364 and 2419 MiB (rsq,
// 2 layers); the example model 95 and 98 MiB.
func peakMemory(s *source, q *quantDecision, set *dataset) int64 {
	const base = 40 << 20
	const f32 = 4
	store := int64(2)
	if d, err := s.storeDType(); err == nil {
		store = int64(d.Size())
	}
	m := s.arch
	var block, matrix, widest int64
	for l := range m.Layers {
		var sum int64
		for _, lin := range m.Layers[l].Linears {
			n := int64(lin.In) * int64(lin.Out)
			sum += n
			matrix = max(matrix, n)
			widest = max(widest, int64(lin.In))
		}
		block = max(block, sum)
	}
	compress, judge := int64(base), int64(base)
	if q != nil {
		compress += f32*block + store*matrix + 4*f32*matrix
		if q.needsData() {
			compress += 3*8*widest*widest + windowBytes(m, set.set.Calib.Longest())
		}
	}
	if set != nil {
		w := set.set.Heldout
		longest := max(w.Longest(), longestPrompt(set.held))
		states := min(stateMemory, f32*int64(m.D)*int64(max(w.Tokens(), promptTokens(set.held))))
		judge += store*block + 2*store*int64(m.V)*int64(m.D) + logitBytes(m, longest) + 2*states + windowBytes(m, longest)
	}
	peak := max(compress, judge)
	return peak + peak/8
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
