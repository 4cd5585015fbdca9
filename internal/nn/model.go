package nn

import (
	"context"
	"fmt"
	"sync/atomic"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// Model is a transformer whose weights are read from a source as they are needed. Its methods and those of its blocks
// are not safe for concurrent use; several models may share a device.
type Model struct {
	Dev  device.Device
	Src  formats.Source
	Arch *arch.Model
	// Kept says which channels of the residual stream are not masked; nil for all. It must not change while weights are loaded.
	Kept *KeptChannels

	scratch scratch
	tables  []rotaryTable
	final   *finalNorm
	head    *head
	ahead   ahead
	peers   []*Model     // on other devices, see Spread
	loaded  atomic.Int64 // bytes of blocks

	aside     int64      // bytes of the device that are left to others
	positions device.Buf // learned ones, on a device with a memory of its own
}

// New returns a model over tensors that [arch.Describe] has checked. It reads nothing yet.
func New(dev device.Device, src formats.Source, m *arch.Model) *Model {
	out := &Model{Dev: dev, Src: src, Arch: m, scratch: scratch{dev: dev}}
	out.scratch.relieve = out.relieve
	return out
}

// Release gives back scratch memory and the output head; they come back when needed.
func (m *Model) Release() {
	for _, p := range m.peers {
		p.Release()
	}
	m.scratch.free()
	for i := range m.tables {
		m.tables[i].free()
	}
	m.tables = nil
	m.Refresh()
}

// Refresh gives back the weights that stay loaded between calls, for a source whose values have changed.
func (m *Model) Refresh() {
	for _, p := range m.peers {
		p.Refresh()
	}
	if m.final != nil {
		m.final.free()
		m.final = nil
	}
	if m.head != nil {
		m.head.free()
		m.head = nil
	}
	release([]device.Buf{m.positions})
	m.positions = nil
	m.DropAhead()
}

// normalize applies a norm over rows of width D.
func (m *Model) normalize(y, x device.Buf, n norm, rows int) {
	if m.Arch.LayerNorm {
		m.Dev.LayerNorm(y, x, n.w, n.b, rows, m.Arch.D, m.over(), m.Arch.Eps)
		return
	}
	m.Dev.RMSNorm(y, x, n.w, rows, m.Arch.D, m.over(), m.Arch.Eps)
}

// normBack turns the gradient g by the output of a norm over rows of width D into the one by its input x.
func (m *Model) normBack(g, x device.Buf, n norm, rows int) {
	if m.Arch.LayerNorm {
		m.Dev.LayerNormBack(g, g, x, n.w, rows, m.Arch.D, m.over(), m.Arch.Eps)
		return
	}
	m.Dev.RMSNormBack(g, g, x, n.w, rows, m.Arch.D, m.over(), m.Arch.Eps)
}

// Logits runs the whole model over one window and returns [T, V]: for tests and single prompts, since it keeps every
// logit.
func (m *Model) Logits(ids []int32) ([]float32, error) {
	if len(ids) == 0 {
		return nil, fmt.Errorf("nn: no tokens")
	}
	n, err := product(len(ids), m.Arch.V)
	if err != nil {
		return nil, err
	}
	out := make([]float32, n)
	err = m.Run(context.Background(), [][]int32{ids}, RunOptions{}, func(_ int, hidden []float32) error {
		return m.Head(hidden, len(ids), len(ids), func(row, rows int, logits []float32) error {
			copy(out[row*m.Arch.V:], logits)
			return nil
		})
	})
	return out, err
}
