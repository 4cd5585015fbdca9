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

// LoadAhead begins to load layer l, for [Model.LoadBlock] to have it sooner, where the device has a memory of its own with room for it
// beside another block through which so many positions go, also on the way back of gradients where back is set. Elsewhere the weights are
// read ahead of being loaded, as by [Model.Prefetch]. A layer that does not exist is passed over. The source must not change until the
// block is loaded, or given up by [Model.DropAhead].
func (m *Model) LoadAhead(l, rows int, back bool) {
	if l < 0 || l >= len(m.Arch.Layers) {
		return
	}
	dev, ok := m.Dev.(device.Remote)
	if !ok || dev.Room()-m.blockBytes(l) < max(0, 2*m.passBytes(rows, back)-m.scratch.bytes())+m.aside {
		m.Prefetch(l)
		return
	}
	m.DropAhead()
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

// LoadBlock reads the weights of layer l, in the type they are stored in.
func (m *Model) LoadBlock(l int) (*Block, error) {
	if l < 0 || l >= len(m.Arch.Layers) {
		panic(fmt.Sprintf("nn: layer %d of %d", l, len(m.Arch.Layers)))
	}
	p := m.ahead.take(func(p *pending) bool { return p.index == l })
	if p != nil && p.fault != nil {
		panic(p.fault)
	}
	var b *Block
	var err error
	if p != nil {
		b = p.block
	}
	if b == nil {
		b, err = m.load(l, m.relieve)
	}
	if err == nil {
		m.keepGains(b.attnNorm, b.ffnNorm)
	}
	return b, err
}

// take waits for what is loaded ahead, where it is what is wanted; nil where there is nothing.
func (a *ahead) take(wanted func(p *pending) bool) *pending {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.next
	if p == nil || !wanted(p) {
		return nil
	}
	a.next = nil
	<-p.done
	return p
}

// DropAhead gives a block that was loaded ahead back.
func (m *Model) DropAhead() { m.dropAhead() }

// dropAhead is DropAhead, and reports whether there was any.
func (m *Model) dropAhead() bool {
	p := m.ahead.take(func(*pending) bool { return true })
	switch {
	case p == nil:
		return false
	case p.block != nil:
		p.block.Free()
		return true
	}
	if _, ok := p.fault.(*device.Fault); p.fault != nil && !ok {
		panic(p.fault)
	}
	return false
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
