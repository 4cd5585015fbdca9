package pipeline

import (
	"errors"

	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// passStates is the room for the states of blockPasses, which one block after the other uses.
type passStates struct {
	windows [][]int32
	limit   int64  // bytes of each kind of states that stay in memory
	scratch string // directory for the others

	attn, mid, act *nn.States // nil before they are first needed
	work           workStates
}

// workStates is room for the states of some windows on a device, in the memory of the host where the device uses that.
type workStates struct {
	buf  device.Buf
	host []float32
}

// of returns room for n values; what it holds does not matter.
func (w *workStates) of(m *nn.Model, n int) (device.Buf, error) {
	if share, ok := m.Dev.(device.Sharer); ok {
		if cap(w.host) < n {
			w.host = make([]float32, n)
		}
		return share.Share(w.host[:n]), nil
	}
	if w.buf != nil && w.buf.Len() < n {
		w.free()
	}
	if w.buf == nil {
		var err error
		if w.buf, err = m.Alloc(device.F32, n); err != nil {
			return nil, err
		}
	}
	return w.buf, nil
}

func (w *workStates) free() {
	if w.buf != nil {
		w.buf.Free()
	}
	*w = workStates{}
}

// close gives the room back.
func (k *passStates) close() error {
	var err error
	for _, s := range []*nn.States{k.attn, k.mid, k.act} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	k.attn, k.mid, k.act = nil, nil, nil
	k.work.free()
	return err
}

// room returns *s made fit for states of a width, on the device of a model whose blocks take up to rows positions at once.
func (k *passStates) room(s **nn.States, width int, m *nn.Model) (*nn.States, error) {
	if *s != nil {
		if (*s).Width() == width {
			(*s).OnDevice(m, k.rows(m), false)
			return *s, nil
		}
		if err := (*s).Close(); err != nil {
			return nil, err
		}
		*s = nil
	}
	lengths := make([]int, len(k.windows))
	for i, w := range k.windows {
		lengths[i] = len(w)
	}
	var err error
	if *s, err = nn.NewStates(k.scratch, lengths, width, k.limit); err == nil {
		(*s).OnDevice(m, k.rows(m), false)
	}
	return *s, err
}

// keeps reports whether states of a width that may as well be computed again are kept.
func (k *passStates) keeps(width int, m *nn.Model) bool {
	bytes := k.tokens() * 4 * int64(width)
	if _, ok := m.Dev.(device.Remote); ok {
		return bytes <= m.Spare(k.rows(m), false)
	}
	return bytes <= k.limit
}

// rows is how many positions go through a block at once.
func (k *passStates) rows(m *nn.Model) int {
	n := 0
	for lo := 0; lo < len(k.windows); {
		hi := k.group(m, lo)
		n = max(n, (hi-lo)*len(k.windows[lo]))
		lo = hi
	}
	return n
}

// group returns the end of the windows from lo on that go through a block together: those of one length, as far as the model says.
func (k *passStates) group(m *nn.Model, lo int) int {
	hi, t, most := lo+1, len(k.windows[lo]), m.Together()
	for hi < len(k.windows) && len(k.windows[hi]) == t && (hi+1-lo)*t <= most {
		hi++
	}
	return hi
}

func (k *passStates) tokens() (n int64) {
	for _, w := range k.windows {
		n += int64(len(w))
	}
	return n
}
