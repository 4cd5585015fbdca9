package pipeline

import (
	"modelpress/internal/arch"
)

// peakMemory estimates the bytes resident during apply by the formulas of its parts:
//
//	base      the program, tensor lists and I/O buffers
//	block     the largest decoder block in stored dtype, and once more in f32 where it is quantized (replaced weights)
//	matrix    its widest matrix in f32 four times: read, working copy, dequantized, codes and scratch
//	gram      8·n² for the second moments of its widest input, twice (factorization)
//	window    16 activations of the longest window, T·max(D, F)
//	head      the output head in stored dtype, where held-out data is evaluated
func peakMemory(s *source, q *quantDecision, set *dataset) int64 {
	const base = 96 << 20
	const f32 = 4
	store := int64(2)
	if d, err := s.storeDType(); err == nil {
		store = int64(d.Size())
	}
	var block, matrix, widest, ffn int64
	for l := range s.arch.Layers {
		var sum int64
		for _, lin := range s.arch.Layers[l].Linears {
			n := int64(lin.In) * int64(lin.Out)
			sum += n
			matrix = max(matrix, n)
			widest = max(widest, int64(lin.In))
		}
		block = max(block, sum)
		ffn = max(ffn, int64(s.arch.Layers[l].F))
	}
	total := base + block*store
	if q != nil {
		total += block*f32 + 4*f32*matrix
		if q.needsData() {
			total += 2 * 8 * widest * widest
		}
	}
	if set != nil {
		t := int64(max(set.set.Calib.Longest(), set.set.Heldout.Longest()))
		total += 16 * f32 * t * max(int64(s.arch.D), ffn)
		total += headBytes(s.arch, store)
	}
	return total
}

// headBytes is the output head and a chunk of its logits.
func headBytes(m *arch.Model, store int64) int64 { return int64(m.V)*int64(m.D)*store + 64<<20 }
