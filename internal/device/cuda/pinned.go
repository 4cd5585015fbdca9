//go:build cuda

package cuda

import (
	"slices"
	"unsafe"

	cu "gorgonia.org/cu"
)

const (
	slotBytes     = 8 << 20
	uploadSlots   = 8
	downloadSlots = 4
	ringBytes     = 32 << 20
	maxPending    = 64 // tables that may be under way
)

// slot is pinned memory that one copy at a time goes through; the event stands behind the last one.
type slot struct {
	data  []byte
	event cu.Event
}

func newSlot() (*slot, error) {
	data, err := hostAlloc(slotBytes)
	if err != nil {
		return nil, err
	}
	event, err := cu.MakeEvent(cu.DisableTiming)
	if err != nil {
		_ = cu.MemFreeHost(unsafe.Pointer(&data[0]))
		return nil, failed("cuEventCreate", err, "")
	}
	return &slot{data, event}, nil
}

// wait waits for the last copy.
func (s *slot) wait() error { return failed("cuEventSynchronize", s.event.Synchronize(), "") }

// record puts the event behind what is queued.
func (s *slot) record(stream cu.Stream) error {
	return failed("cuEventRecord", s.event.Record(stream), "")
}

func (s *slot) close() {
	_ = cu.DestroyEvent(&s.event)
	_ = cu.MemFreeHost(unsafe.Pointer(&s.data[0]))
}

// newSlots returns slots to take and to put back.
func newSlots(n int) (chan *slot, error) {
	slots := make(chan *slot, n)
	for range n {
		s, err := newSlot()
		if err != nil {
			closeSlots(slots)
			return nil, err
		}
		slots <- s
	}
	return slots, nil
}

func closeSlots(slots chan *slot) {
	for {
		select {
		case s := <-slots:
			s.close()
		default:
			return
		}
	}
}

// ring is pinned memory for the tables of operations. They follow one another around it; the room of those that are copied is used again.
type ring struct {
	data    []byte
	head    int       // where the next table goes
	pending []segment // not known to be copied, in the order of copies
	spare   []cu.Event
}

type segment struct {
	from, to int
	event    cu.Event
}

func newRing() (*ring, error) {
	data, err := hostAlloc(ringBytes)
	if err != nil {
		return nil, err
	}
	return &ring{data: data}, nil
}

// send queues a copy of src to dst, in parts of an eighth of the ring.
func (r *ring) send(stream cu.Stream, dst ptr, src []byte) error {
	for len(src) > 0 {
		n := min(len(src), len(r.data)/8)
		at, err := r.place(n)
		if err != nil {
			return err
		}
		copy(r.data[at:], src[:n])
		if err := cu.MemcpyHtoDAsync(cu.DevicePtr(dst), unsafe.Pointer(&r.data[at]), int64(n), stream); err != nil {
			return failed("cuMemcpyHtoDAsync", err, "")
		}
		if err := r.note(stream, at, at+n); err != nil {
			return err
		}
		dst, src = dst+ptr(n), src[n:]
	}
	return nil
}

// place returns where n bytes may be written, and waits for the copies that are in the way.
func (r *ring) place(n int) (int, error) {
	at := r.head
	if at+n > len(r.data) {
		at = 0
	}
	for len(r.pending) >= maxPending || r.clash(at, at+n) {
		p := r.pending[0]
		if err := p.event.Synchronize(); err != nil {
			return 0, failed("cuEventSynchronize", err, "")
		}
		r.spare = append(r.spare, p.event)
		r.pending = r.pending[1:]
	}
	r.head = (at + n + 63) / 64 * 64
	return at, nil
}

func (r *ring) clash(from, to int) bool {
	return slices.ContainsFunc(r.pending, func(p segment) bool { return p.from < to && p.to > from })
}

// note puts an event behind the copy of a segment.
func (r *ring) note(stream cu.Stream, from, to int) error {
	var event cu.Event
	if n := len(r.spare); n > 0 {
		event, r.spare = r.spare[n-1], r.spare[:n-1]
	} else {
		var err error
		if event, err = cu.MakeEvent(cu.DisableTiming); err != nil {
			return failed("cuEventCreate", err, "")
		}
	}
	r.pending = append(r.pending, segment{from, to, event})
	return failed("cuEventRecord", event.Record(stream), "")
}

func (r *ring) close() {
	for _, p := range r.pending {
		_ = cu.DestroyEvent(&p.event)
	}
	for i := range r.spare {
		_ = cu.DestroyEvent(&r.spare[i])
	}
	_ = cu.MemFreeHost(unsafe.Pointer(&r.data[0]))
}
