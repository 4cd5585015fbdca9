package nn

import (
	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// weightBytes is what a tensor takes on the device.
func (m *Model) weightBytes(name string, n int) int64 {
	t, ok := m.Src.Lookup(name)
	if !ok {
		return 0
	}
	return int64(n) * int64(KindOf(t.DType).Size())
}

// blockBytes is what the weights of layer l take on the device.
func (m *Model) blockBytes(l int) int64 {
	a := &m.Arch.Layers[l]
	total := int64(0)
	for _, lin := range a.Linears {
		if lin.Present() {
			total += m.weightBytes(lin.Weight, lin.Out*lin.In)
		}
		if lin.Bias != "" {
			total += 4 * int64(lin.Out)
		}
	}
	for _, n := range []arch.Norm{a.AttnNorm, a.FFNNorm, a.QNorm, a.KNorm} {
		if n.Present() {
			total += 8 * int64(max(m.Arch.D, a.K))
		}
	}
	return total
}

// passBytes is what a pass of t positions through the largest layer holds beside weights and states; see [Block.Forward] and
// [Block.Backward].
func (m *Model) passBytes(t int, back bool) int64 {
	most := int64(0)
	for l := range m.Arch.Layers {
		a := &m.Arch.Layers[l]
		hk, gk, f := int64(a.H*a.K), int64(a.G*a.K), int64(a.F)
		n := int64(t)*(int64(m.Arch.D)+2*hk+2*gk+int64(a.H)) + 2*int64(min(t, ffnRows))*f
		if back {
			n += int64(t)*(3*int64(m.Arch.D)+4*hk+3*gk) + 2*int64(min(t, ffnRows))*f
		}
		most = max(most, 4*n)
	}
	return most
}

// Reserve is how many bytes of a device's own memory states leave to everything else: the weights of the largest block twice, since the
// next one is loaded meanwhile; those of the output head, and 1024 rows of logits; and twice what a pass of so many rows holds, also on
// the way back of gradients where back is set, the second time for what operations need themselves; and what was set aside.
func (m *Model) Reserve(rows int, back bool) int64 {
	block := int64(0)
	for l := range m.Arch.Layers {
		block = max(block, m.blockBytes(l))
	}
	head := m.weightBytes(m.Arch.LMHead, m.Arch.V*m.Arch.D) + 4*int64(min(rows, 1024))*int64(m.Arch.V)
	return 2*block + head + 2*m.passBytes(rows, back) + m.aside
}

// SetAside has states leave n bytes of a device's own memory to others than the model, beside what [Model.Reserve] says.
func (m *Model) SetAside(n int64) { m.aside = n }

// Together is a number of positions up to which windows of one length should go through a layer at once: [RemoteTogether] on a device with
// a memory of its own that has room for them, as inputs of linear layers are looked at; 0 elsewhere.
func (m *Model) Together() int {
	dev, ok := m.Dev.(device.Remote)
	if !ok {
		return 0
	}
	rows, f := RemoteTogether, int64(0)
	for l := range m.Arch.Layers {
		f = max(f, int64(m.Arch.Layers[l].F))
	}
	for rows > 0 && m.passBytes(rows, false)+8*int64(rows)*f > dev.Room()/4+m.scratch.bytes() {
		rows /= 2
	}
	return rows
}

// Alloc is that of the device, for memory that others use beside the model: where there is too little, blocks that are loaded ahead and
// states of windows give way.
func (m *Model) Alloc(kind device.Kind, n int) (device.Buf, error) {
	return m.uploader(m.relieve).alloc(kind, n)
}

// GiveWay gives device memory back that can be done without, and reports whether there was any: see [Model.Alloc].
func (m *Model) GiveWay() bool { return m.relieve(false) }

// holds is how much of that the model has taken already.
func (m *Model) holds() int64 {
	n := m.scratch.bytes() + m.loaded.Load()
	if m.head != nil {
		n += bytesOf(m.head.bufs()...)
	}
	return n
}

// Spare is how many bytes of a device's own memory are free beyond what passes of so many rows need; 0 where it has none.
func (m *Model) Spare(rows int, back bool) int64 {
	dev, ok := m.Dev.(device.Remote)
	if !ok {
		return 0
	}
	return max(0, dev.Room()-max(0, m.Reserve(rows, back)-m.holds()))
}

// bytesOf is the size of buffers.
func bytesOf(bufs ...device.Buf) (n int64) {
	for _, b := range bufs {
		if b != nil {
			n += int64(b.Len()) * int64(b.Kind().Size())
		}
	}
	return n
}
