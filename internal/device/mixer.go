package device

// Mixer is a device that multiplies by orthogonal matrices, in float64 and in the order of package num, so that it gives the bits of a host
// with fused multiply-adds.
type Mixer interface {
	Device
	// Mix replaces w [rows, cols], in the memory of the host, by Lᵀ·w·diag(gain)·R, computed in float64 and rounded once. L and R are block
	// diagonal, of blocks of one size each; left, right and gain may be nil, for ones. It may run at the same time as any other operation.
	Mix(w []float32, rows, cols int, gain []float32, left, right []Orthogonal) error
}

// Orthogonal is an orthogonal matrix [N, N]: diag(Signs) times num's normalised Hadamard matrix, or Values where that is set.
type Orthogonal struct {
	N      int
	Signs  []float64
	Values []float64 // [N, N]
}
