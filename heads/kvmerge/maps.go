package kvmerge

// Maps are the linear maps that merge the KV heads of one layer.
//
// Memory: 32·G·K² bytes, and 4·D·H·K for a fitted output.
type Maps struct {
	Shape  Shape
	Groups Groups
	Key    Side
	Value  Side
	// Output, where it is not nil, is the weight of the output projection [D, H·K], its columns in the order of the merged layer,
	// in place of the fused one; see [Refit].
	Output []float32
}

// Side holds the maps of keys or of values, [G] matrices [K, K] each. With x_g the key or value of KV head g, its group shares
// x̂ = Σ_g Encode_g·x_g, and x_g is read back as Decode_g·x̂. Queries of g become Decode_gᵀ·q, its columns of the output
// projection W·Decode_g. Under a rotary embedding the maps of keys commute with it.
type Side struct {
	Encode, Decode [][]float64
}

// newSide returns maps of zeros.
func newSide(s Shape) Side {
	out := Side{make([][]float64, s.G), make([][]float64, s.G)}
	for g := range s.G {
		out.Encode[g], out.Decode[g] = make([]float64, s.K*s.K), make([]float64, s.K*s.K)
	}
	return out
}
