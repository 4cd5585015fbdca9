package heads

import (
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// channelError measures what masks of key channels do to the output of attention, and improves them.
type channelError struct {
	opt     LeanKOptions
	k       *LeanK
	rotary  bool
	windows int
	diff    [][]float64 // [layer][KV head], sums of squares over the windows so far
	full    [][]float64
	held    []rows            // with Refine, the windows of the layer so far, on the host
	there   device.AttnReader // the device where it reads attention, else nil
	lost    [][]float64
	err     error
}

func newChannelError(m *arch.Model, k *LeanK, windows int, opt LeanKOptions) *channelError {
	table := func() [][]float64 { return rowsOf(m.Layers, kvHeads) }
	return &channelError{opt: opt, k: k, rotary: m.Rope != nil, windows: windows, diff: table(), full: table(), lost: table()}
}

func (e *channelError) tap(layer, window int, r rows) {
	if e.err != nil {
		return
	}
	e.there = r.reader()
	diff, full, err := e.masked(r, e.k.Keep[layer], r.DevQ, r.DevK, r.DevV, r.DevOut)
	if err != nil {
		e.err = err
		return
	}
	for g := range diff {
		e.diff[layer][g] += diff[g]
		e.full[layer][g] += full[g]
	}
	if e.opt.Refine > 0 {
		e.held = append(e.held, r.whole())
	}
	if window < e.windows-1 {
		return
	}
	for g := range diff {
		e.lost[layer][g] = rootRatio(e.diff[layer][g], e.full[layer][g])
	}
	if e.opt.Refine > 0 {
		e.err = e.refine(layer)
	}
	e.held = nil
}

// whole copies a layer's attention.
func (r rows) whole() rows {
	r.Read(nn.AllHeads | nn.Outputs)
	a := &nn.AttnState{Shape: r.Shape, Dev: r.Dev, Masks: append([]device.Mask(nil), r.Masks...)}
	a.Q, a.K = append(a.Q, r.Q...), append(a.K, r.K...)
	a.V, a.Out = append(a.V, r.V...), append(a.Out, r.Out...)
	if r.Masks == nil {
		a.Masks = nil
	}
	return rows{AttnState: a, window: r.window}
}

// masked is maskedError or maskedThere.
func (e *channelError) masked(r rows, keep [][]bool, q, k, v, out device.Buf) (diff, full []float64, err error) {
	if e.there != nil {
		return maskedThere(e.there, r, keep, q, k, v, out)
	}
	return maskedError(r, keep, k, v)
}

// maskedError runs attention with the queries' channels under masks and returns the squared difference of the outputs and the
// squared output of each KV head's query heads.
func maskedError(r rows, keep [][]bool, k, v device.Buf) (diff, full []float64, err error) {
	s := r.Shape
	r.Read(nn.Queries | nn.Outputs)
	q := append([]float32(nil), r.Q...)
	r.Dev.For(s.H, func(h int) {
		for c, stays := range keep[h/(s.H/s.G)] {
			for i := h*s.K + c; !stays && i < len(q); i += s.H * s.K {
				q[i] = 0
			}
		}
	})
	qBuf, err := r.Dev.Alloc(device.F32, len(q))
	if err != nil {
		return nil, nil, err
	}
	defer qBuf.Free()
	out, err := r.Dev.Alloc(device.F32, len(q))
	if err != nil {
		return nil, nil, err
	}
	defer out.Free()
	r.Dev.Upload(qBuf, 0, q)
	r.Dev.Attention(out, nil, qBuf, k, v, s, r.Masks)
	r.Dev.Download(q, out, 0)
	diff, full = make([]float64, s.G), make([]float64, s.G)
	size := s.H / s.G
	r.Dev.For(s.G, func(g int) {
		for h := g * size; h < (g+1)*size; h++ {
			d, f := outputLost(r, q, h, 0)
			diff[g] += d
			full[g] += f
		}
	})
	return diff, full, nil
}

// trial is one exchange in the order of units: place a of those that stay, from the last, against place b of those that go.
type trial struct{ a, b int }

// trials lists exchanges by the distance from the cut.
func trials(stay, leave, most int) []trial {
	var out []trial
	for d := 0; d < stay+leave-1 && len(out) < most; d++ {
		for a := 0; a <= d && len(out) < most; a++ {
			if b := d - a; a < stay && b < leave {
				out = append(out, trial{a, b})
			}
		}
	}
	return out
}

// refine tries exchanges, one of each KV head at a time: heads do not see each other's masks.
func (e *channelError) refine(layer int) error {
	keep := e.k.Keep[layer]
	order, stay := make([][][]int, len(keep)), make([]int, len(keep))
	most := 0
	lists := make([][]trial, len(keep))
	for g := range keep {
		order[g] = units(e.k.Share[layer][g], e.rotary)
		for _, u := range order[g] {
			if keep[g][u[0]] {
				stay[g]++
			}
		}
		lists[g] = trials(stay[g], len(order[g])-stay[g], e.opt.Refine)
		most = max(most, len(lists[g]))
	}
	for n := range most {
		exchange := func(g int) {
			if n < len(lists[g]) {
				flip(keep[g], order[g][stay[g]-1-lists[g][n].a])
				flip(keep[g], order[g][stay[g]+lists[g][n].b])
			}
		}
		for g := range keep {
			exchange(g)
		}
		now, err := e.again(keep)
		if err != nil {
			return err
		}
		for g := range keep {
			switch v := rootRatio(now[g], e.full[layer][g]); {
			case n >= len(lists[g]):
			case Round(v) < Round(e.lost[layer][g]):
				e.lost[layer][g] = v
				i, j := stay[g]-1-lists[g][n].a, stay[g]+lists[g][n].b
				order[g][i], order[g][j] = order[g][j], order[g][i]
			default:
				exchange(g)
			}
		}
	}
	return nil
}

func flip(keep []bool, unit []int) {
	for _, c := range unit {
		keep[c] = !keep[c]
	}
}

// again measures masks on the windows that are held.
func (e *channelError) again(keep [][]bool) ([]float64, error) {
	total := make([]float64, len(keep))
	for _, r := range e.held {
		parts := nn.Keys | nn.Values
		if e.there != nil {
			parts = nn.AllHeads | nn.Outputs
		}
		q, k, v, out, _, err := r.onDevice(parts)
		if err != nil {
			return nil, err
		}
		diff, _, err := e.masked(r, keep, q, k, v, out)
		freeAll(q, k, v, out)
		if err != nil {
			return nil, err
		}
		for g := range total {
			total[g] += diff[g]
		}
	}
	return total, nil
}
