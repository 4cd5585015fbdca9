package nn

import (
	"context"
	"errors"
	"sync"

	"modelpress/internal/device"
)

// Spread has [Model.Run] share windows out among the model's device and others of its class, each of which loads blocks for itself. What
// becomes of a window depends on neither their number nor which of them it goes through.
func (m *Model) Spread(others ...device.Device) {
	for _, p := range m.peers {
		p.Release()
	}
	m.peers = nil
	for _, dev := range others {
		m.peers = append(m.peers, New(dev, m.Src, m.Arch))
	}
}

// Peers returns the model on its own device and on the others that it is spread over, in their order.
func (m *Model) Peers() []*Model {
	for _, p := range m.peers {
		p.Kept, p.aside = m.Kept, m.aside
	}
	return append([]*Model{m}, m.peers...)
}

// Deal cuts windows, of which the lengths are given, into so many runs of about as many positions each, and returns where each begins, and
// the end. It depends on nothing else.
func Deal(lengths []int, parts int) []int {
	total := 0
	for _, t := range lengths {
		total += t
	}
	cuts, at, seen := []int{0}, 0, 0
	for p := 1; p < parts; p++ {
		// A window goes to the part that most of it lies in.
		for at < len(lengths) && (2*seen+lengths[at])*parts <= 2*p*total {
			seen += lengths[at]
			at++
		}
		cuts = append(cuts, at)
	}
	return append(cuts, len(lengths))
}

// spreads reports whether a run is one that several devices share: nothing looks at single windows on their way.
func (m *Model) spreads(windows [][]int32, opt *RunOptions) bool {
	return len(m.peers) > 0 && len(windows) > 1 && opt.Pass == nil && opt.Output == nil
}

// shared is forward of the windows by all peers at once.
func (r *run) shared(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lengths, err := lengthsOf(r.windows)
	if err != nil {
		return err
	}
	peers := r.Peers()
	cuts, parts, errs := Deal(lengths, len(peers)), make([]*run, len(peers)), make([]error, len(peers))
	defer func() {
		for _, p := range parts[1:] {
			if p != nil {
				err = errors.Join(err, p.states.Close())
			}
		}
	}()
	opt := r.guarded()
	for j, m := range peers {
		if parts[j], err = r.part(m, opt, lengths, cuts[j], cuts[j+1]); err != nil {
			return err
		}
	}
	AtOnce(len(peers), func(j int) {
		defer parts[j].DropAhead()
		if len(parts[j].windows) == 0 {
			return
		}
		if errs[j] = parts[j].forward(ctx); errs[j] != nil {
			cancel()
		}
	})
	if err := firstCause(errs); err != nil {
		return err
	}
	for j, p := range parts[1:] {
		for w := range p.windows {
			x, err := p.states.View(w)
			if err == nil {
				err = r.states.Put(cuts[j+1]+w, x)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// firstCause returns the first error that is not the end of a run because of another one.
func firstCause(errs []error) (first error) {
	for _, err := range errs {
		if err != nil && (first == nil || errors.Is(first, context.Canceled)) {
			first = err
		}
	}
	return first
}

// guarded are the options with callbacks that several goroutines may call.
func (r *run) guarded() RunOptions {
	var mu sync.Mutex
	opt := r.opt
	opt.Progress = func(int, int) {
		mu.Lock()
		defer mu.Unlock()
		r.step()
	}
	if masks := r.opt.Masks; masks != nil {
		opt.Masks = func(l int) []device.Mask {
			mu.Lock()
			defer mu.Unlock()
			return masks(l)
		}
	}
	if gate := r.opt.EmbedGate; gate != nil {
		opt.EmbedGate = func(w int) []float32 {
			mu.Lock()
			defer mu.Unlock()
			return gate(w)
		}
	}
	return opt
}

// part is the run of the windows from lo to hi by a peer. The states of the first one are those of all windows.
func (r *run) part(m *Model, opt RunOptions, lengths []int, lo, hi int) (*run, error) {
	states, gate := r.states, opt.EmbedGate
	if lo > 0 {
		opt.EmbedGate = nil
		if gate != nil {
			opt.EmbedGate = func(w int) []float32 { return gate(lo + w) }
		}
	}
	groups := together(lengths[lo:hi], opt.Together)
	if m != r.Model {
		var err error
		if states, err = NewStates(r.states.dir, lengths[lo:hi], m.Arch.D, max(1, r.states.limit/int64(len(lengths))*int64(hi-lo))); err != nil {
			return nil, err
		}
		states.OnDevice(m, longest(groups), false)
	}
	return &run{Model: m, opt: opt, windows: r.windows[lo:hi], groups: groups, states: states}, nil
}

// AtOnce runs body(0..n-1), each on a goroutine of its own, and waits for all. Where some panic, the first of them in order does so in the
// caller.
func AtOnce(n int, body func(i int)) {
	panics := make([]any, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { panics[i] = recover() }()
			body(i)
		}()
	}
	wg.Wait()
	for _, p := range panics {
		if p != nil {
			panic(p)
		}
	}
}
