package nn

import (
	"modelpress/internal/device"
)

// AttnState is what attention has computed. Buffers, and slices once they are asked for by Read, are valid during the call of TapAttn or
// Attend only and must not be changed, but for Out by Attend.
type AttnState struct {
	Shape device.AttnShape
	Masks []device.Mask // those in force, nil for full attention

	// On the host, nil until Read asks for them.
	Q, K, V    []float32 // [T, H*K], [T, G*K], [T, G*K]; Q and K after the rotary embedding
	Out        []float32 // [T, H*K], the input of the output projection
	LSE        []float32 // [H, T], natural log of the sum of exponentials of each row's scores
	ColumnSums []float32 // [H, T] where Pass.ColumnSums is set: the attention that each key receives from all queries

	Dev              device.Device
	DevQ, DevK, DevV device.Buf // Q, K and V on the device, for attention under other masks
	DevOut, DevLSE   device.Buf // Out and LSE; under a Mix, Out is the blend and LSE that of the masks in force
	DevSums          device.Buf // ColumnSums

	from *scratch
}

// AttnPart is a part of an AttnState, or several.
type AttnPart uint8

// The parts of an AttnState.
const (
	Queries AttnPart = 1 << iota
	Keys
	Values
	Outputs
	LSE
	ColumnSums
)

// AllHeads are queries, keys and values.
const AllHeads = Queries | Keys | Values

// Read brings parts to the host: their slices are set when it returns. Parts that are there stay as they are. What the host can address
// is not copied. It is not safe for concurrent use: ask before a loop over threads.
func (a *AttnState) Read(parts AttnPart) {
	s := a.Shape
	hk, gk, ht := s.T*s.H*s.K, s.T*s.G*s.K, s.H*s.T // of one sequence: there is no more than one
	for slot, p := range []struct {
		dst *[]float32
		buf device.Buf
		n   int
	}{{&a.Q, a.DevQ, hk}, {&a.K, a.DevK, gk}, {&a.V, a.DevV, gk}, {&a.Out, a.DevOut, hk}, {&a.LSE, a.DevLSE, ht}, {&a.ColumnSums, a.DevSums, ht}} {
		if parts&(1<<slot) != 0 && *p.dst == nil && p.buf != nil {
			*p.dst = a.from.view(slot+1, p.buf, p.n)
		}
	}
}

// AttnGradState is what attention has computed and the gradient of the loss by its output: what
// [device.Device.AttnStatistics] needs. It is valid during the call of a Tap only and must not be changed.
type AttnGradState struct {
	*AttnState
	DOut    []float32 // [T, H*K] on the host, nil until ReadDOut asks for it
	DevDOut device.Buf
	// DAlpha is the gradient by the gates of a Mix, [G]; nil without one.
	DAlpha []float64
}

// ReadDOut brings DOut to the host.
func (g *AttnGradState) ReadDOut() {
	if g.DOut == nil {
		g.DOut = g.from.view(7, g.DevDOut, g.Shape.T*g.Shape.H*g.Shape.K)
	}
}

// attnState is what attention starts from and leaves, on the device.
func (b *Block) attnState(shape device.AttnShape, masks []device.Mask) *AttnState {
	s := &b.model.scratch
	return &AttnState{Shape: shape, Masks: masks, Dev: b.model.Dev, DevQ: s.q, DevK: s.k, DevV: s.v, DevOut: s.o, DevLSE: s.lse, from: s}
}
