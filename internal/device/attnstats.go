package device

// BandKeys is the width of the bands and blocks of attention statistics, in positions, where none is given.
const BandKeys = 64

// AttnBands returns the number of bands, and of blocks in each direction, of t positions; width 0 means BandKeys.
func AttnBands(t, width int) int {
	if width == 0 {
		width = BandKeys
	}
	return (t + width - 1) / width
}

// AttnStats says what AttnStatistics computes and receives it, in host memory and for each query head: a slice that is nil
// is left out. N stands for AttnBands(T, Width). With A the attention, band b of query i is the keys j with
// Width*b <= i-j < Width*(b+1), less those before Sink, which belong to no band. G[i,j] = dout[i]·v[j] is the
// slope of a loss by A[i,j], and g[i] = Σ_j A[i,j]*G[i,j].
type AttnStats struct {
	Width int // of bands and blocks in positions, any above 0; 0 for BandKeys

	ColumnSums []float64 // [H, T], Σ_i A[i,j]
	Blocks     []float64 // [H, N, N], Σ A over Width queries times Width keys
	Bands      []float64 // [H, N], Σ_i Σ_{j in band} A[i,j]

	Rows   []int     // queries whose most attended key is asked for
	ArgMax []int     // [H, len(Rows)], that key, the first of equals; needed where Rows is set
	Peak   []float32 // [H, len(Rows)], its attention

	Sink int
	// Influence [H, N] is Σ_i Σ_{j in band} |A/(1-A)*(G-g)|: how the loss changes, to first order in the output, where
	// one key is taken from one query, summed up as if these changes did not interact.
	Influence []float64
	// Drop and DropAbs [H, N] sum over queries the change of the loss, to first order in the output, where only the sinks
	// and the bands before b are kept, which is Mask{Sink, Width*b}; DropAbs sums magnitudes. Entry 0 is 0.
	Drop, DropAbs []float64
}

// NeedsGradient reports whether what is asked for takes values and the gradient by the output.
func (s *AttnStats) NeedsGradient() bool {
	return s.Influence != nil || s.Drop != nil || s.DropAbs != nil
}
