// Package num holds the numeric kernels: matrix products, attention with its gradients and statistics, normalisation
// and activations with theirs, steps of AdamW, Hadamard transforms, Cholesky factors and symmetric eigenproblems, on slices
// and nothing else. Matrices are row-major with a leading dimension: element (i, j) of a matrix with leading dimension ld
// stands at [i*ld+j].
//
// Every kernel has a body in plain Go, which its comment describes as a loop and which is the oracle of the assembly
// that replaces it on amd64 (AVX2 with FMA, or AVX-512, chosen when the program starts; the build tag noasm keeps plain
// Go). The order of every sum is fixed by the shapes alone: results do not depend on the number of threads, nor on how
// rows are batched into calls, and the two assembly versions agree bit for bit. Class names what the bits depend on.
//
// Sizes that do not fit are bugs of the caller and panic at entry.
package num

// Par runs body(0), …, body(n-1), in any order and on any number of threads, and returns when all are done. Kernels
// that take a Par give it independent pieces of the output. A nil Par means a plain loop.
type Par = func(n int, body func(i int))

// each runs body(0..n-1) on par, or in a loop where par is nil or there is a single piece.
func each(par Par, n int, body func(i int)) {
	if par == nil || n == 1 {
		for i := range n {
			body(i)
		}
		return
	}
	if n > 0 {
		par(n, body)
	}
}
