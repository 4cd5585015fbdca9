// Package sparse sets weights of a matrix to zero: those that are smallest (magnitude), smallest by their inputs (Wanda,
// arXiv:2306.11695), or smallest by what the outputs lose once the weights that stay are corrected (SparseGPT,
// arXiv:2301.00774). Zeros are a share of all weights, or n:m: of every m consecutive inputs n stay.
//
// Weights are [out, in] row-major, y = x·Wᵀ, and stay dense. Everything is a pure function of its arguments: work is split into
// chunks of a fixed size, so that results are the same bits at any number of threads.
package sparse
