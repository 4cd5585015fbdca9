package heads

import "modelpress/internal/device"

// columnSums returns Σ_i A[h, i, j], [H, T].
func (r rows) columnSums() []float64 {
	st := device.AttnStats{ColumnSums: make([]float64, r.Shape.H*r.Shape.T)}
	r.Dev.AttnStatistics(&st, r.DevQ, r.DevK, nil, nil, nil, r.DevLSE, r.Shape, r.Masks)
	return st.ColumnSums
}

// blocks returns Σ A over blocks of so many queries by as many keys, [H, N, N], where the device reads attention, else nil.
func (r rows) blocks(width int) []float64 {
	if r.reader() == nil {
		return nil
	}
	n := device.AttnBands(r.Shape.T, width)
	st := device.AttnStats{Width: width, Blocks: make([]float64, r.Shape.H*n*n)}
	r.Dev.AttnStatistics(&st, r.DevQ, r.DevK, nil, nil, nil, r.DevLSE, r.Shape, r.Masks)
	return st.Blocks
}

// even returns the importance of each key where every query attends evenly to the keys that it sees.
func (r rows) even() []float64 {
	t := r.Shape.T
	share := make([]float64, t+1) // [i], what keys get from the queries before i together
	for i := range t {
		share[i+1] = share[i] + 1/float64(i+1-r.low(i))
	}
	out := make([]float64, t)
	for k := range out {
		last := t
		if r.window > 0 {
			last = min(t, k+r.window)
		}
		out[k] = (share[last] - share[k]) / float64(t-k)
	}
	return out
}
