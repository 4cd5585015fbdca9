package nn

import (
	"fmt"
	"sync"

	"modelpress/formats"
	"modelpress/internal/device"
)

// ahead is a block that is loaded while another one computes, on a device with a memory of its own that has room for both.
type ahead struct {
	mu   sync.Mutex // blocks that are loaded now may ask for its memory from several threads
	next *pending   // nil for none
}

// pending is a block on its way.
type pending struct {
	index int
	done  chan struct{} // closed once what follows is set
	block *Block        // nil where it could not be loaded
	fault any           // what loading panicked with
}

// aheadOf begins to load layer l, to be had by take. A layer that does not exist is passed over. Elsewhere than on a device with
// a memory of its own, its weights are read ahead of being loaded. rows is how many positions go through the block meanwhile.
func (m *Model) aheadOf(l, rows int, back bool) {
	if l < 0 || l >= len(m.Arch.Layers) {
		return
	}
	dev, ok := m.Dev.(device.Remote)
	if !ok || dev.Room()-m.blockBytes(l) < max(0, 2*m.passBytes(rows, back)-m.scratch.bytes()) {
		m.Prefetch(l)
		return
	}
	m.dropAhead()
	p := &pending{index: l, done: make(chan struct{})}
	m.ahead.mu.Lock()
	m.ahead.next = p
	m.ahead.mu.Unlock()
	go func() {
		defer close(p.done)
		defer func() { p.fault = recover() }()
		// Where this fails it is done again when the block is needed.
		if b, err := m.load(l, nil); err == nil {
			p.block = b
		}
	}()
}

// take returns layer l, loaded ahead or now.
func (m *Model) take(l int) (*Block, error) {
	p := m.ahead.take()
	if p != nil && p.fault != nil {
		panic(p.fault)
	}
	switch {
	case p == nil || p.block == nil:
		return m.LoadBlock(l)
	case p.index != l:
		p.block.Free()
		return m.LoadBlock(l)
	}
	m.keepGains(p.block.attnNorm, p.block.ffnNorm)
	return p.block, nil
}

// take waits for what is loaded ahead; nil where there is nothing.
func (a *ahead) take() *pending {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.next
	a.next = nil
	if p != nil {
		<-p.done
	}
	return p
}

// dropAhead gives a block that was loaded ahead back and reports whether there was any.
func (m *Model) dropAhead() bool {
	p := m.ahead.take()
	if p == nil || p.block == nil {
		if p != nil && p.fault != nil {
			if _, ok := p.fault.(*device.Fault); !ok {
				panic(p.fault)
			}
		}
		return false
	}
	p.block.Free()
	return true
}

// relieve gives device memory back that can be done without, and reports whether there was any: a block that was loaded ahead, then,
// where cheap is not set, activations of a call that is over, and states of windows, which go to the host.
func (m *Model) relieve(cheap bool) bool {
	if _, ok := m.Dev.(device.Remote); !ok {
		return false
	}
	if m.dropAhead() {
		return true
	}
	m.ahead.mu.Lock() // several threads may ask
	idle := !cheap && !m.scratch.store.busy && len(m.scratch.store.kept) > 0
	if idle {
		m.scratch.store.free()
	}
	m.ahead.mu.Unlock()
	return idle || !cheap && evict(m.Dev)
}

// Prefetch asks for the weights of layer l to be read ahead while another layer computes. A layer that does not exist is
// passed over.
func (m *Model) Prefetch(l int) {
	if l >= 0 && l < len(m.Arch.Layers) {
		formats.Prefetch(m.Src, m.Arch.LayerTensors(l))
	}
}

// LoadBlock reads the weights of layer l, in the type they are stored in.
func (m *Model) LoadBlock(l int) (*Block, error) {
	if l < 0 || l >= len(m.Arch.Layers) {
		panic(fmt.Sprintf("nn: layer %d of %d", l, len(m.Arch.Layers)))
	}
	b, err := m.load(l, m.relieve)
	if err == nil {
		m.keepGains(b.attnNorm, b.ffnNorm)
	}
	return b, err
}
