package nn

import (
	"slices"

	"modelpress/internal/device"
)

// activations are what a block has computed of a group of windows that its way back starts from. While it holds them, the block need not
// be run again.
type activations struct {
	attn []device.Buf    // in the order of scratch.attn
	ffn  [][2]device.Buf // gate and up projections of ffnRows rows each
	mid  device.Buf      // [T, D], the input of the FFN
}

// attn lists the buffers of the attention sub-layer that Backward reads.
func (s *scratch) attn() []*device.Buf {
	g := &s.back
	return []*device.Buf{&s.q, &s.k, &s.v, &s.o, &s.lse, &g.q0, &g.k0, &s.gated, &s.full, &s.other, &s.lse2}
}

// swapAttn exchanges the buffers of scratch with those that are kept.
func (s *scratch) swapAttn(a *activations) {
	if a == nil {
		return
	}
	mine := s.attn()
	if a.attn == nil {
		a.attn = make([]device.Buf, len(mine))
	}
	for i, b := range mine {
		*b, a.attn[i] = a.attn[i], *b
	}
}

// swapFFN does so for a part of the rows of the FFN.
func (s *scratch) swapFFN(a *activations, part int) {
	if a == nil {
		return
	}
	for len(a.ffn) <= part {
		a.ffn = append(a.ffn, [2]device.Buf{})
	}
	p := &a.ffn[part]
	s.gate, p[0] = p[0], s.gate
	s.up, p[1] = p[1], s.up
}

func (a *activations) free() {
	release(a.attn)
	for _, p := range a.ffn {
		release(p[:])
	}
	release([]device.Buf{a.mid})
	*a = activations{}
}

// activationBytes is the memory that the activations of a layer take for t positions.
func (m *Model) activationBytes(l, t int, mix, gates bool) int64 {
	a := &m.Arch.Layers[l]
	row := int64(m.Arch.D) + 2*int64(a.F)
	hk, gk := int64(a.H)*int64(a.K), int64(a.G)*int64(a.K)
	row += 2*hk + 2*gk + int64(a.H)
	if a.QNorm.Present() {
		row += hk
	}
	if a.KNorm.Present() {
		row += gk
	}
	if gates {
		row += hk
	}
	if mix {
		row += 2*hk + int64(a.H)
	}
	return 4 * int64(t) * row
}

// activationStore holds activations between the two ways of Back, and the memory of them from one call to the next.
type activationStore struct {
	groups []group
	kept   map[[2]int]*activations
	busy   bool // during a call
}

// bytes is the memory of what is kept.
func (s *activationStore) bytes() (n int64) {
	for _, a := range s.kept {
		n += bytesOf(a.attn...) + bytesOf(a.mid)
		for _, p := range a.ffn {
			n += bytesOf(p[:]...)
		}
	}
	return n
}

// keepable is how many bytes of activations are kept: as the caller says, or three quarters of what a device with a memory of its own has
// beyond passes of so many rows and the states of windows at all boundaries.
func (m *Model) keepable(keep int64, lengths []int, rows int) int64 {
	if _, ok := m.Dev.(device.Remote); !ok {
		return keep
	}
	states := int64(0)
	for _, t := range lengths {
		states += 4 * int64(t) * int64(m.Arch.D) * int64(len(m.Arch.Layers)+1)
	}
	return max(0, (m.Spare(rows, true)+m.scratch.store.bytes()-states)/4*3)
}

// activations returns where those of each layer and group of windows go, as far as limit bytes reach, those of the last layers first.
func (m *Model) activations(groups []group, limit int64, mix, gates bool) *activationStore {
	s := &m.scratch.store
	if !slices.Equal(s.groups, groups) {
		s.free()
		s.groups = groups
	}
	want, used := map[[2]int]*activations{}, int64(0)
	for l := len(m.Arch.Layers) - 1; l >= 0; l-- {
		for i, g := range groups {
			n := m.activationBytes(l, g.rows, mix, gates)
			if n > limit-used {
				continue
			}
			used += n
			at := [2]int{l, i}
			if want[at] = s.kept[at]; want[at] == nil {
				want[at] = &activations{}
			}
			delete(s.kept, at)
		}
	}
	s.free()
	s.groups, s.kept = groups, want
	return s
}

// of returns where the activations of a layer over a group of windows go, nil where they are not kept.
func (s *activationStore) of(l, group int) *activations { return s.kept[[2]int{l, group}] }

func (s *activationStore) free() {
	for _, a := range s.kept {
		a.free()
	}
	*s = activationStore{}
}
