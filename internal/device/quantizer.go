package device

import "fmt"

// Quantizer is a device that adds Hessians up and rounds matrices in its own memory. Packages calib and quantize do the same on the
// host, and say what is computed; a device does the same arithmetic but for the order of long sums and the precision of a factorization,
// so that codes differ where that breaks a tie the other way.
type Quantizer interface {
	Device
	// NewGram returns an empty second moment of width n.
	NewGram(n int) (Gram, error)
	// RTN rounds each weight of w [out, in], of any kind, to the nearest value of its group's grid, and sets dst, of kind r.Store, to these
	// values; dst nil is left out. The codes are those of the host. The error is a *GridError.
	RTN(dst, w Buf, out, in int, r Rounding) (*Rounded, error)
	// Distance returns Σ (a-b)² and Σ a² over [rows, n] of any kinds, in float64 and a fixed order.
	Distance(a, b Buf, rows, n int) (far, size float64)
	// NotFinite returns the index of the first element of w [rows, n] that is NaN or infinite, -1 where there is none.
	NotFinite(w Buf, rows, n int) int
}

// Gram is a second moment H = Σ w_i x_i x_iᵀ of rows of width n in the memory of a device, what can be asked of it, and its factor. It
// takes 8·n² bytes: the sums on and below the diagonal, the factor above it.
type Gram interface {
	// Add adds rows of x [rows, n] with weights w, nil for all ones. Products are summed in f32 over at most 1024 rows, and those sums in
	// f64 in the order of the calls.
	Add(x Buf, rows int, w []float32)
	// Finish multiplies the sums by scale. It comes after the last Add and before all that follows.
	Finish(scale float64)
	// Upload takes what is on and below the diagonal of h [n, n] in place of sums that are finished.
	Upload(h []float64)
	// NotFinite returns the first element on or below the diagonal, row by row, that is not finite.
	NotFinite() (row, col int, v float64, found bool)
	// Diagonal returns the diagonal.
	Diagonal() []float64
	// Download copies what is on and below the diagonal to h [n, n].
	Download(h []float64)
	// Energy returns tr((x-y)·H·(x-y)ᵀ) for x and y [out, n] of any kinds, y nil for zeros: quantize.OutputEnergy of x-y.
	Energy(x, y Buf, out int) float64
	// Factor factors H with diagonal in place of its own, and with rows and columns in order, that in which GPTQ takes them; nil leaves
	// them as they lie. Columns that are dead are apart from the others. It reports false where the matrix is not positive definite.
	// diagonal and dead are by column.
	Factor(order []int32, diagonal []float64, dead []bool) bool
	// GPTQ rounds w [out, n], of any kind, in the order of the last Factor, which must have succeeded, as quantize.GPTQ does, and sets dst,
	// of kind r.Store, to the values of the codes; dst nil is left out. weights, by column, are what errors count in the choice of grids.
	// The error is a *GridError.
	GPTQ(dst, w Buf, out int, weights []float32, r Rounding) (*Rounded, error)
	// SparseGPT makes w [out, n], of any kind, sparse as sparse.SparseGPT does, and sets dst to the result, rounded to its kind. The last
	// Factor must have succeeded, with the columns as they lie. Loss and moved are as in Rounded.
	SparseGPT(dst, w Buf, out int, s Sparsity) (loss, moved float64)
	// Free gives the memory back.
	Free()
}

// Sparsity says which weights go: package sparse's Scheme, in the terms of a device.
type Sparsity struct {
	Stay, Group int             // of every Group consecutive inputs of a row, 32 or fewer and a power of two, Stay stay; 0 where Zeros counts
	Zeros       func(n int) int // how many of n weights go
	Block       int             // columns whose mask is chosen at once, at most 1024
}

// Rounding says how matrices are rounded: package quantize's Scheme, in the terms of a device.
type Rounding struct {
	Bits      int
	Group     int  // columns that share a scale: 32, 64, 128 or all of a row
	Symmetric bool // zero points are all 0
	Clip      bool // scales are searched for
	Static    bool // GPTQ: grids are found beforehand, on w; else when a group begins, which takes columns in the order they lie in
	Store     Kind // of scales, and what values are rounded to
}

// Rounded is a matrix as it was rounded.
type Rounded struct {
	Codes  []int8    // [out, in], signed
	Scales []float32 // [out, groups]
	Zeros  []int8    // [out, groups]; nil where they are all 0
	// Loss is Σ over rows of (w-q)·F·(w-q)ᵀ, F the matrix that was factored, and Moved Σ (w-q)², of GPTQ.
	Loss, Moved float64
}

// GridError is a group of weights for which there is no grid: its scale is not among the values of the stored type.
type GridError struct {
	Row, Group int
	Most       float32 // the largest magnitude
}

// Error says which group and why.
func (e *GridError) Error() string {
	return fmt.Sprintf("row %d, group %d: values up to %g need a scale that the stored type does not hold", e.Row, e.Group, e.Most)
}
