// Package awq writes and reads the weights of AWQ checkpoints (quant_method "awq") in the layout "gemm" of AutoAWQ: 4 bits, one scale and
// one zero point per group of columns.
//
// A code u is unsigned, in [0, 15]; the weight it stands for is (u - zero) * scale. The weight [out, in] of a module M is stored in
//
//	M.qweight I32 [in, out/8]      codes, eight rows to a word
//	M.qzeros  I32 [groups, out/8]  zero points, in the same way
//	M.scales  F16 [groups, out]
//
// Nibble i of a word, from the lowest, belongs to row order[i] of its eight: 0, 2, 4, 6, 1, 3, 5, 7 (AutoAWQ, awq/modules/linear/gemm.py).
package awq
