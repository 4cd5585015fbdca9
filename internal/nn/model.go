package nn

import (
	"context"
	"fmt"

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

	scratch scratch
	tables  []rotaryTable
	final   *finalNorm
	head    *head
}

// New returns a model over tensors that [arch.Describe] has checked. It reads nothing yet.
func New(dev device.Device, src formats.Source, m *arch.Model) *Model {
	return &Model{Dev: dev, Src: src, Arch: m, scratch: scratch{dev: dev}}
}

// Prefetch asks for the weights of layer l to be read ahead while another layer computes. A layer that does not exist is
// passed over.
func (m *Model) Prefetch(l int) {
	if l >= 0 && l < len(m.Arch.Layers) {
		formats.Prefetch(m.Src, m.Arch.LayerTensors(l))
	}
}

// Release gives back scratch memory and the output head; they come back when needed.
func (m *Model) Release() {
	m.scratch.free()
	m.tables = nil
	if m.final != nil {
		m.final.free()
		m.final = nil
	}
	if m.head != nil {
		m.head.free()
		m.head = nil
	}
}

// Embed writes the input of the first block, [T, D], for a window of token ids. Ids outside the vocabulary and, where
// positions are learned, too long a window are errors.
func (m *Model) Embed(dst []float32, ids []int32) error {
	d := m.Arch.D
	if len(dst) < len(ids)*d {
		panic(fmt.Sprintf("nn: Embed of %d ids of width %d into %d values", len(ids), d, len(dst)))
	}
	if m.Arch.PosEmbed != "" && len(ids) > m.Arch.MaxPosition {
		return fmt.Errorf("nn: window of %d tokens, and the model has %d positions", len(ids), m.Arch.MaxPosition)
	}
	first := make(map[int32]int, len(ids)) // where each id stands first: its row is read once
	for i, id := range ids {
		if id < 0 || int(id) >= m.Arch.V {
			return fmt.Errorf("nn: token id %d at position %d lies outside the vocabulary of %d", id, i, m.Arch.V)
		}
		row := dst[i*d : (i+1)*d]
		if j, seen := first[id]; seen {
			copy(row, dst[j*d:(j+1)*d])
			continue
		}
		first[id] = i
		if err := formats.ReadF32(m.Src, m.Arch.Embed, row, int64(id)*int64(d)); err != nil {
			return fmt.Errorf("nn: embed: %w", err)
		}
	}
	return m.addPositions(dst, len(ids))
}

// addPositions adds the learned position embeddings, where there are any.
func (m *Model) addPositions(dst []float32, t int) error {
	if m.Arch.PosEmbed == "" {
		return nil
	}
	d := m.Arch.D
	row := make([]float32, d)
	for i := range t {
		if err := formats.ReadF32(m.Src, m.Arch.PosEmbed, row, int64(i)*int64(d)); err != nil {
			return fmt.Errorf("nn: embed: %w", err)
		}
		for j, v := range row {
			dst[i*d+j] += v
		}
	}
	return nil
}

// normalize applies a norm over rows of width D.
func (m *Model) normalize(y, x device.Buf, n norm, rows int) {
	if m.Arch.LayerNorm {
		m.Dev.LayerNorm(y, x, n.w, n.b, rows, m.Arch.D, float32(m.Arch.D), m.Arch.Eps)
		return
	}
	m.Dev.RMSNorm(y, x, n.w, rows, m.Arch.D, float32(m.Arch.D), m.Arch.Eps)
}

// normBack turns the gradient g by the output of a norm over rows of width D into the one by its input x.
func (m *Model) normBack(g, x device.Buf, n norm, rows int) {
	if m.Arch.LayerNorm {
		m.Dev.LayerNormBack(g, g, x, n.w, rows, m.Arch.D, float32(m.Arch.D), m.Arch.Eps)
		return
	}
	m.Dev.RMSNormBack(g, g, x, n.w, rows, m.Arch.D, float32(m.Arch.D), m.Arch.Eps)
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
