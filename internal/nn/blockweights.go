package nn

import (
	"fmt"

	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// WeightBuf returns a projection's weight [Out, In] where it is, on the device: it must not be changed, and is valid until the weight is
// replaced. An error where the block has no such projection.
func (b *Block) WeightBuf(r arch.Role) (device.Buf, error) {
	l := b.linears[r]
	if l.w == nil {
		return nil, b.missing(r)
	}
	return l.w, nil
}

// SetWeightBuf replaces a projection's weight by w [Out, In], of any kind, which the block then owns.
func (b *Block) SetWeightBuf(r arch.Role, w device.Buf) error {
	l := &b.linears[r]
	if l.w == nil {
		return b.missing(r)
	}
	if w.Len() != l.in*l.out {
		panic(fmt.Sprintf("nn: weight of %d values for a projection [%d, %d]", w.Len(), l.out, l.in))
	}
	b.replace(l, w)
	return nil
}

func (b *Block) missing(r arch.Role) error {
	return fmt.Errorf("nn: layer %d has no %s projection", b.index, r)
}
