// Package gptq writes and reads the weights of GPTQ checkpoints (quant_method "gptq"): 2, 3, 4 or 8 bits, one scale and one zero point per
// group of columns, in the layout of AutoGPTQ and GPTQModel.
//
// A code u is unsigned, in [0, 2^b-1]; the weight it stands for is (u - zero) * scale. The weight [out, in] of a module M is stored in
//
//	M.qweight I32 [in·b/32, out]      codes, a little-endian bit stream along the columns of each row
//	M.qzeros  I32 [groups, out·b/32]  zero points, a bit stream along the rows of each group
//	M.scales  F16 [groups, out]
//	M.g_idx   I32 [in]                the group of each column
//
// Version 1 of the format (checkpoint_format "gptq") stores zero-1, version 2 ("gptq_v2") stores zero. The words of 2, 4 and 8 bits went
// from one version to the other as a whole, by adding or subtracting 1 in every field at once, so that a field that ran over took from
// its neighbour; this package reads version 1 by the same addition. Fields of 3 bits were always treated one by one.
package gptq
