// Package quantize turns weights into small integers. It rounds to nearest (RTN), or column by column with the error of
// each column made good by the columns after it (GPTQ, arXiv:2210.17323), with a Hessian whose tokens may be weighted by
// the attention they receive (RSQ, arXiv:2503.01820), and rotates a model beforehand by orthogonal matrices that cancel out
// (QuaRot, arXiv:2404.00456; R1 and R2 of SpinQuant, arXiv:2405.16406).
//
// Weights are [out, in] row-major, y = x·Wᵀ. Everything is a pure function of its arguments: rows are split into chunks of
// a fixed size, so that results are the same bits at any number of threads.
package quantize
