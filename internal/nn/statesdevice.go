package nn

import (
	"slices"

	"modelpress/internal/device"
)

// deviceStates says which states lie on a device.
type deviceStates struct {
	dev    device.Device // nil while no device is known
	remote device.Remote // dev where it has a memory of its own
	share  device.Sharer // dev where it reads states in the memory of the host where they lie
	need   func() int64  // bytes of a remote memory that passes will take yet
	full   bool          // no more windows go there
	bufs   []device.Buf  // by window, nil for those elsewhere
	stage  device.Buf    // room for one of these
	pinned []int         // windows that are in use where they are
}

// OnDevice tells the states for the model of which device they are, whose blocks take up to rows positions at once, also on the way back
// of gradients where back is set. A device that reads the memory of the host uses them where they are. On a device with a memory of its
// own, windows that are put from then on lie there as long as its [device.Remote.Room] leaves what a pass needs, [Model.Reserve]; others
// stay where they would be without a device. States of any model give that memory back where a pass has too little of it.
func (s *States) OnDevice(m *Model, rows int, back bool) {
	s.mu.Lock()
	same := s.device.dev == m.Dev
	s.mu.Unlock()
	if !same {
		s.leave()
		s.join(m.Dev)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.device.need, s.device.full = func() int64 { return m.Reserve(rows, back) - m.holds() }, false
}

// NewDeviceStates returns states that lie in the memory of the model's device or nowhere: what has no room there, or has to give way, is
// lost, and [States.Holds] says so. On a device without a memory of its own there is never room.
func NewDeviceStates(m *Model, lengths []int, rows int) *States {
	s := &States{d: m.Arch.D, lengths: lengths, lossy: true, memory: make([][]float32, len(lengths)), offset: make([]int64, len(lengths))}
	s.OnDevice(m, rows, false)
	return s
}

// Holds reports whether the state of window i is there.
func (s *States) Holds(i int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.lossy || s.resident(i) != nil
}

// resident returns the state of window i where it lies on the device, nil where it does not.
func (s *States) resident(i int) device.Buf {
	if s.device.remote == nil || s.device.bufs == nil {
		return nil
	}
	return s.device.bufs[i]
}

// place returns where window i is to lie on the device, nil for elsewhere. What it held is lost where it is not there yet.
func (s *States) place(i int) device.Buf {
	d := &s.device
	if d.remote == nil || d.bufs[i] != nil || d.full {
		return s.resident(i)
	}
	if d.remote.Room()-max(0, d.need()) < s.bytes(i) {
		return nil
	}
	b, err := d.remote.Alloc(device.F32, s.lengths[i]*s.d)
	if err != nil {
		d.full = true
		return nil
	}
	d.bufs[i] = b
	if s.memory[i] != nil {
		s.used -= s.bytes(i)
		s.memory[i] = nil
	}
	return b
}

// evict moves the state of one window that is not in use from the device to the host, and lets no more of them go there.
func (s *States) evict() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.device.bufs) - 1; i >= 0; i-- {
		b := s.resident(i)
		if b == nil || slices.Contains(s.device.pinned, i) || !s.lossy && s.fetch(i, b) != nil {
			continue
		}
		b.Free()
		s.device.bufs[i], s.device.full = nil, true
		return true
	}
	return false
}

// fetch copies the state of window i from the device to the place that it has elsewhere.
func (s *States) fetch(i int, b device.Buf) error {
	dev := s.device.dev
	if err := s.home(i); err != nil {
		return err
	}
	if s.memory[i] != nil {
		dev.Download(s.memory[i], b, 0)
		return nil
	}
	return s.write(i, func(at int, part []float32) { dev.Download(part, b, at) })
}

// claim returns the state of window i on the device, to be changed there until unclaim is called: nil where it lies elsewhere. With fresh set
// what it held does not matter, and it may be moved there.
func (s *States) claim(i int, fresh bool) device.Buf {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.device
	b := s.resident(i)
	if b == nil && fresh {
		b = s.place(i)
	}
	if b == nil && d.share != nil && s.memory[i] != nil {
		if d.bufs[i] == nil {
			d.bufs[i] = d.share.Share(s.memory[i])
		}
		return d.bufs[i]
	}
	if b != nil {
		d.pinned = append(d.pinned, i)
	}
	return b
}

// unclaim ends the use of the windows that were claimed.
func (s *States) unclaim() {
	s.mu.Lock()
	s.device.pinned = s.device.pinned[:0]
	s.mu.Unlock()
}

// GetBuf copies the state of window i to dst[off:], [T, D]. The states must know the device.
func (s *States) GetBuf(i int, dst device.Buf, off int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dev := s.device.dev
	switch b := s.resident(i); {
	case b != nil:
		dev.Copy(dst, off, b, 0, s.lengths[i]*s.d)
	case s.memory[i] != nil:
		dev.Upload(dst, off, s.memory[i])
	case s.lossy:
		return errLost
	default:
		return s.read(i, func(at int, part []float32) { dev.Upload(dst, off+at, part) })
	}
	return nil
}

// PutBuf copies src[off:], [T, D], to the state of window i. The states must know the device.
func (s *States) PutBuf(i int, src device.Buf, off int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dev := s.device.dev
	if b := s.place(i); b != nil {
		dev.Copy(b, 0, src, off, s.lengths[i]*s.d)
		return nil
	}
	if err := s.home(i); err != nil {
		if s.lossy {
			return nil
		}
		return err
	}
	if s.memory[i] != nil {
		dev.Download(s.memory[i], src, off)
		return nil
	}
	return s.write(i, func(at int, part []float32) { dev.Download(part, src, off+at) })
}

// Buf returns the state of window i, [T, D], on the device: it is not to be changed and valid until the next Put or Buf. The states must
// know the device.
func (s *States) Buf(i int) (device.Buf, error) {
	s.unclaim()
	if b := s.claim(i, false); b != nil {
		return b, nil
	}
	n := s.lengths[i] * s.d
	if b := s.device.stage; b != nil && b.Len() < n {
		b.Free()
		s.device.stage = nil
	}
	for s.device.stage == nil {
		b, err := s.device.dev.Alloc(device.F32, n)
		if err != nil && !evict(s.device.dev) {
			return nil, err
		}
		s.device.stage = b
	}
	return s.device.stage, s.GetBuf(i, s.device.stage, 0)
}

// Change has f replace the state x [T, D] of window i on the device, and keeps what f leaves. The states must know the device.
func (s *States) Change(i int, f func(x device.Buf) error) error {
	x, err := s.Buf(i)
	if err != nil {
		return err
	}
	defer s.unclaim()
	if err := f(x); err != nil || x != s.device.stage {
		return err
	}
	return s.PutBuf(i, x, 0)
}
