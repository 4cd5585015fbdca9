package calib

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"modelpress/internal/num"
)

// Gram is a running second moment of the inputs of a linear layer: H = Σ w_i x_i x_iᵀ over rows x_i of width N, with
// token weights w_i. GPTQ's Hessian is 2/n of it (GPTQ section 3.1, arXiv:2210.17323; the weights are those of RSQ section
// 3.2, arXiv:2503.01820, squared by the caller where the paper squares them).
//
// Products are summed in f32 over at most 1024 rows and those sums in f64, in the order of the calls: the same calls give
// the same bits at any number of threads. Memory is 8·N² bytes, and the scratch of num.SyrkLower during Add.
type Gram struct {
	N      int
	H      []float64 // [N, N], the lower triangle; what lies above the diagonal has no meaning
	Tokens float64   // rows added, whatever their weights
}

// NewGram returns an empty Gram of width n.
func NewGram(n int) *Gram {
	return &Gram{N: n, H: make([]float64, n*n)}
}

// Add adds rows rows of x [rows, N] with weights w, nil for all ones. par runs the tiles of H; nil is serial.
func (g *Gram) Add(x []float32, rows int, w []float32, par func(n int, body func(i int))) {
	if len(x) < rows*g.N || w != nil && len(w) < rows {
		panic(fmt.Sprintf("calib: Gram.Add of %d rows of %d from %d values, %d weights", rows, g.N, len(x), len(w)))
	}
	if w != nil {
		w = w[:rows]
	}
	num.SyrkLower(g.H, x[:rows*g.N], g.N, w, rows, g.N, par)
	g.Tokens += float64(rows)
}

// Hessian returns 2/Tokens · H, the Hessian of the mean squared error, in the lower half with the diagonal; all zero where
// nothing was added. It is scaled in place: the Gram is empty afterwards.
func (g *Gram) Hessian() []float64 {
	h := g.H
	if g.Tokens > 0 {
		s := 2 / g.Tokens
		for i := range g.N {
			row := h[i*g.N:][:i+1]
			for j := range row {
				row[j] *= s
			}
		}
	}
	*g = Gram{N: g.N}
	return h
}

// Finite reports whether every sum is a finite number.
func (g *Gram) Finite() bool {
	for i := range g.N {
		for _, v := range g.H[i*g.N:][:i+1] {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return false
			}
		}
	}
	return true
}

// gramHead is the size of width and token count before the values.
const gramHead = 16

// MarshalBinary returns N, Tokens and the lower triangle of H, row by row, as little-endian 64-bit values.
func (g *Gram) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, gramHead+8*g.N*(g.N+1)/2)
	b = binary.LittleEndian.AppendUint64(b, uint64(g.N))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(g.Tokens))
	for i := range g.N {
		for _, v := range g.H[i*g.N : i*g.N+i+1] {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
	}
	return b, nil
}

// UnmarshalBinary restores what MarshalBinary wrote, bit for bit.
func (g *Gram) UnmarshalBinary(b []byte) error {
	if len(b) < gramHead {
		return errors.New("calib: a second moment is cut short")
	}
	n := binary.LittleEndian.Uint64(b)
	if n > 1<<20 || uint64(len(b)) != gramHead+8*n*(n+1)/2 {
		return fmt.Errorf("calib: %d bytes are no second moment of width %d", len(b), n)
	}
	*g = *NewGram(int(n))
	g.Tokens = math.Float64frombits(binary.LittleEndian.Uint64(b[8:]))
	b = b[gramHead:]
	for i := range g.N {
		for j := range i + 1 {
			v := math.Float64frombits(binary.LittleEndian.Uint64(b))
			g.H[i*g.N+j] = v
			b = b[8:]
		}
	}
	return nil
}
