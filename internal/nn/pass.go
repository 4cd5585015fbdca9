package nn

import (
	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// Site is one of the distinct inputs of a block's linear layers; see [arch.Site].
type Site = arch.Site

// The sites of a block, in the order of the forward pass.
const (
	SiteQKV    = arch.SiteQKV
	SiteO      = arch.SiteO
	SiteGateUp = arch.SiteGateUp
	SiteDown   = arch.SiteDown
)

// Pass says what a forward pass does besides computing. The zero value and nil mean nothing.
type Pass struct {
	// Masks holds one mask per KV head and replaces the layer's own; nil keeps the layer's own: full attention, or its
	// sliding window. A caller that plans masks for a layer with a window must keep them within it.
	Masks []device.Mask
	// Attend replaces attention: it must write the whole of AttnState.Out, which is there without Read and the only part that it may
	// change. There is no LSE then, and ColumnSums must not be asked for. An error of it is that of the pass. Masks are of no
	// consequence.
	Attend func(a *AttnState) error
	// Tap is called with the input of the linear layers at each site of the block, x [rows, cols] with rows = T. x must
	// not be changed and is valid during the call only.
	Tap func(s Site, x []float32, rows, cols int)
	// TapBuf is Tap for a reader on the device, where x stays: a buffer of at least rows*cols values, of which those are the input.
	TapBuf func(s Site, x device.Buf, rows, cols int)
	// TapHeads is called with queries [T, H*K], keys and values [T, G*K] before the rotary embedding and after the heads' own
	// norms. They must not be changed and are valid during the call only. It may be nil. Where it returns true the pass ends
	// there; the hidden states are unspecified then.
	TapHeads func(q, k, v []float32, t int) (stop bool)
	// TapAttn is called after attention, before the output projection.
	TapAttn func(a *AttnState)
	// HasStop ends the pass right after the Tap of site StopAfter (or at the end of a block without that site); the
	// hidden states are those that the half of the block began with in which it stopped.
	HasStop   bool
	StopAfter Site
	// ColumnSums asks for AttnState.ColumnSums.
	ColumnSums bool
	// Mix blends attention with another one; nil for none.
	Mix *Mix

	// Gates multiply units of the block; nil for none.
	Gates *Gates

	// Sequences is the number of windows of one length whose rows follow one another; 0 means one. With more than one, attention has no
	// column sums and no Mix, and nothing looks at it or stands in for it.
	Sequences int

	keep bool         // queries and keys before their norms stay in scratch, for Backward
	acts *activations // where what Backward needs is kept; nil for nowhere
}

// Mix blends the attention of a block, under the masks in force, with attention under other masks, KV head by KV head:
//
//	out = Alpha[g]*out + (1-Alpha[g])*out under Masks
//
// for the query heads of KV head g, the gated attention of DuoAttention (Xiao et al., arXiv:2410.10819).
type Mix struct {
	Masks []device.Mask // [G]
	Alpha []float32     // [G]
}

// masksOf returns the masks in force for a layer, nil for full attention.
func (b *Block) masksOf(p *Pass) []device.Mask {
	if p.Masks != nil || b.arch.Window == 0 {
		return p.Masks
	}
	return b.window
}
