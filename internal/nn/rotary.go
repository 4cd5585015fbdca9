package nn

import (
	"math"
	"slices"

	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// rotaryTable holds cosines and sines [T, K/2] for one head dim.
type rotaryTable struct {
	k, t, freqT int // freqT is the length that the frequencies were made for, 0 where they do not depend on it
	sequences   int // how often the positions stand one after the other
	cos, sin    []float32
	back        []float32     // -sin, once it is asked for
	dev         [3]device.Buf // cos, sin and back where the device keeps them
}

func (e *rotaryTable) free() {
	release(e.dev[:])
	e.dev = [3]device.Buf{}
}

// rotate turns x [t, heads*K] by the angles of a table, backwards where back is set: the transposed rotation, the way back of a gradient.
func (m *Model) rotate(e *rotaryTable, x device.Buf, t, heads int, back bool) {
	sin, slot := e.sin, 1
	if back {
		sin, slot = e.negated(), 2
	}
	if dev, ok := m.Dev.(device.Rotator); ok {
		cos, sin := m.keep(&e.dev[0], e.cos), m.keep(&e.dev[slot], sin)
		if cos != nil && sin != nil {
			dev.Rotate(x, t, heads, e.k, cos, sin)
			return
		}
	}
	m.Dev.RoPE(x, t, heads, e.k, e.cos, sin)
}

// keep uploads values once; it returns nil where there is no room for them.
func (m *Model) keep(b *device.Buf, v []float32) device.Buf {
	if *b == nil {
		buf, err := m.Dev.Alloc(device.F32, len(v))
		if err != nil {
			return nil
		}
		m.Dev.Upload(buf, 0, v)
		*b = buf
	}
	return *b
}

// negated returns -sin.
func (e *rotaryTable) negated() []float32 {
	if e.back == nil {
		e.back = make([]float32, len(e.sin))
		for i, v := range e.sin {
			e.back[i] = -v
		}
	}
	return e.back
}

// rotaryTable returns the table for t rows of head dim k, the positions of so many sequences of one length (0 means one), made anew only
// where a longer sequence or more of them need it.
func (m *Model) rotaryTable(k, rows, sequences int) *rotaryTable {
	sequences = max(1, sequences)
	r, t := m.Arch.Rope, rows/sequences
	freqT := 0
	if r.Type == "dynamic" {
		freqT = max(t, r.OriginalMaxPosition)
	}
	for i := range m.tables {
		e := &m.tables[i]
		if e.k != k || (e.sequences > 1 || sequences > 1) && (e.sequences < sequences || e.t != t) {
			continue
		}
		if e.t < t || e.freqT != freqT {
			e.free()
			*e = newRotaryTable(r, k, t, freqT)
		}
		return e
	}
	m.tables = slices.DeleteFunc(m.tables, func(e rotaryTable) bool {
		old := e.k == k && (e.sequences > 1) == (sequences > 1)
		if old {
			e.free()
		}
		return old
	})
	m.tables = append(m.tables, newRotaryTable(r, k, t, freqT).repeated(sequences))
	return &m.tables[len(m.tables)-1]
}

// repeated returns the table with its positions so often.
func (e rotaryTable) repeated(sequences int) rotaryTable {
	e.sequences, e.cos, e.sin = sequences, slices.Repeat(e.cos, sequences), slices.Repeat(e.sin, sequences)
	return e
}

func newRotaryTable(r *arch.Rope, k, t, freqT int) rotaryTable {
	inv, factor := InvFreq(r, k, max(freqT, 1))
	e := rotaryTable{k: k, t: t, freqT: freqT, sequences: 1, cos: make([]float32, t*len(inv)), sin: make([]float32, t*len(inv))}
	for i := range t {
		for j, f := range inv {
			s, c := math.Sincos(float64(float32(i) * f))
			e.cos[i*len(inv)+j] = float32(c) * factor
			e.sin[i*len(inv)+j] = float32(s) * factor
		}
	}
	return e
}
