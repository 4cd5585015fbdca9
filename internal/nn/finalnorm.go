package nn

import (
	"fmt"

	"modelpress/internal/device"
)

// normRows is how many rows the final norm takes at once.
const normRows = 1024

// finalNorm is the norm after the last block, with room for some rows.
type finalNorm struct {
	norm norm
	x, y device.Buf // [rows, D]
}

func (f *finalNorm) free() {
	f.norm.free()
	norm{f.x, f.y}.free()
}

func (m *Model) finalNorm() (*finalNorm, error) {
	if m.final != nil {
		return m.final, nil
	}
	f := &finalNorm{}
	u := m.uploader(m.relieve)
	var err error
	if f.norm, err = u.norm(m.Arch.FinalNorm, m.Arch.D); err != nil {
		f.free()
		return nil, err
	}
	m.keepGains(f.norm)
	m.final = f
	return f, nil
}

// FinalNorm writes to y [T, D] the final norm of hidden states x [T, D], the output of the last block. y may be x. It needs
// 8*min(T, 1024)*D bytes on the device. The norm stays loaded until [Model.Release].
func (m *Model) FinalNorm(y, x []float32, t int) error {
	return m.normed(t, len(y), len(x), func(f *finalNorm, lo, n int) {
		d := m.Arch.D
		m.Dev.Upload(f.x, 0, x[lo*d:(lo+n)*d])
		m.normalize(f.y, f.x, f.norm, n)
		m.Dev.Download(y[lo*d:(lo+n)*d], f.y, 0)
	})
}

// FinalNormBack replaces g [T, D], the gradient of a loss by the output of FinalNorm, by the gradient by its input x
// [T, D]. It needs the memory of FinalNorm.
func (m *Model) FinalNormBack(g, x []float32, t int) error {
	return m.normed(t, len(g), len(x), func(f *finalNorm, lo, n int) {
		d := m.Arch.D
		m.Dev.Upload(f.x, 0, x[lo*d:(lo+n)*d])
		m.Dev.Upload(f.y, 0, g[lo*d:(lo+n)*d])
		m.normBack(f.y, f.x, f.norm, n)
		m.Dev.Download(g[lo*d:(lo+n)*d], f.y, 0)
	})
}

// normed runs body over t rows, some at a time.
func (m *Model) normed(t, y, x int, body func(f *finalNorm, lo, n int)) error {
	if d := m.Arch.D; t < 0 || y < t*d || x < t*d {
		panic(fmt.Sprintf("nn: final norm of %d values to %d for %d positions of width %d", x, y, t, d))
	}
	f, err := m.finalNorm()
	if err == nil {
		rows := min(t, normRows)
		err = m.scratch.fit(want{&f.x, rows, m.Arch.D}, want{&f.y, rows, m.Arch.D})
	}
	if err != nil {
		return fmt.Errorf("nn: final norm: %w", err)
	}
	for lo := 0; lo < t; lo += normRows {
		body(f, lo, min(normRows, t-lo))
	}
	return nil
}
