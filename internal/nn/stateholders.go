package nn

import (
	"slices"
	"sync"

	"modelpress/internal/device"
)

// holders are the states that may lie in the memory of a device.
var holders struct {
	sync.Mutex
	of map[device.Device][]*States
}

// evict takes the state of one window out of the memory of a device and reports whether there was any.
func evict(dev device.Device) bool {
	holders.Lock()
	defer holders.Unlock()
	for _, s := range holders.of[dev] {
		if s.evict() {
			return true
		}
	}
	return false
}

// join makes dev the device of the states.
func (s *States) join(dev device.Device) {
	d := deviceStates{dev: dev, bufs: make([]device.Buf, len(s.lengths))}
	d.share, _ = dev.(device.Sharer)
	d.remote, _ = dev.(device.Remote)
	s.mu.Lock()
	s.device = d
	s.mu.Unlock()
	if d.remote == nil {
		return
	}
	holders.Lock()
	defer holders.Unlock()
	if holders.of == nil {
		holders.of = map[device.Device][]*States{}
	}
	holders.of[dev] = append(holders.of[dev], s)
}

// leave gives the memory of the device back, with what lies there.
func (s *States) leave() {
	holders.Lock()
	if dev := s.device.dev; s.device.remote != nil {
		if holders.of[dev] = slices.DeleteFunc(holders.of[dev], func(o *States) bool { return o == s }); len(holders.of[dev]) == 0 {
			delete(holders.of, dev)
		}
	}
	holders.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	release(s.device.bufs)
	release([]device.Buf{s.device.stage})
	s.device = deviceStates{}
}
