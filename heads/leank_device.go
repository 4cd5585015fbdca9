package heads

import "modelpress/internal/device"

// maskedThere is maskedError where the device reads attention: nothing but sums leaves it.
func maskedThere(d device.AttnReader, r rows, keep [][]bool, q, k, v, full device.Buf) (diff, size []float64, err error) {
	s := r.Shape
	masked, err := r.Dev.Alloc(device.F32, s.T*s.H*s.K)
	if err != nil {
		return nil, nil, err
	}
	defer masked.Free()
	out, err := r.Dev.Alloc(device.F32, s.T*s.H*s.K)
	if err != nil {
		return nil, nil, err
	}
	defer out.Free()
	stays := make([]float32, s.H*s.K)
	for i := range stays {
		if keep[i/s.K/(s.H/s.G)][i%s.K] {
			stays[i] = 1
		}
	}
	r.Dev.ScaleColumns(masked, q, stays, s.T, s.H*s.K)
	r.Dev.Attention(out, nil, masked, k, v, s, r.Masks)
	gaps, sizes := make([]float64, s.H), make([]float64, s.H)
	d.HeadGaps(gaps, sizes, full, out, 0, s)
	diff, size = make([]float64, s.G), make([]float64, s.G)
	for h := range gaps {
		diff[h/(s.H/s.G)] += gaps[h]
		size[h/(s.H/s.G)] += sizes[h]
	}
	return diff, size, nil
}
