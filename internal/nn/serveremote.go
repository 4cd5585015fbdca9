package nn

import (
	"modelpress/formats/manifest"
	"modelpress/internal/device"
)

// prefillThere has a device with a memory of its own compute the prompt of the KV heads whose query heads are all under one mask of
// positions, and enters their pairs in before. It returns which query heads these are, nil for none; the others are for the host, which
// is as near to the memory of other devices as they are.
func (w *work) prefillThere(a *AttnState, before []int64) []bool {
	s := a.Shape
	if w.prompt == 0 || a.Dev.Host(a.DevQ) != nil {
		return nil
	}
	done, masks, some := make([]bool, s.H), make([]device.Mask, s.G), false
	group := s.H / s.G
	for g := range masks {
		m, ok := w.maskThere(g)
		if masks[g] = m; !ok {
			masks[g] = device.Mask{Recent: 1} // what it gives is not used
		}
		for h := g * group; h < (g+1)*group; h++ {
			done[h], some = ok, some || ok
			if ok {
				before[h] = w.maskPairs(w.prefill[h])
			}
		}
	}
	if !some {
		return nil
	}
	s.T = w.prompt
	a.Dev.Attention(a.DevOut, nil, a.DevQ, a.DevK, a.DevV, s, masks)
	if seg := w.segments()[0]; seg.dense {
		for g := range masks {
			masks[g] = device.Mask{Recent: w.own}
		}
		s.T = seg.hi
		a.Dev.Attention(a.DevOut, nil, a.DevQ, a.DevK, a.DevV, s, masks)
	}
	a.Dev.Download(a.Out[:w.prompt*s.H*s.K], a.DevOut, 0)
	return done
}

// maskThere returns the mask that the query heads of a KV head are under over the whole prompt, but for a dense first chunk.
func (w *work) maskThere(g int) (device.Mask, bool) {
	group := len(w.prefill) / len(w.decode)
	first, _ := maskOf(w.prefill[g*group], w.own)
	for _, p := range w.prefill[g*group : (g+1)*group] {
		m, ok := maskOf(p, w.own)
		if !ok || m != first {
			return m, false
		}
		if p.Kind == manifest.KindFull {
			continue
		}
		if w.s.renumbers() && !m.Full() {
			return m, false
		}
		for _, seg := range w.segments() {
			if seg.chunk {
				return m, false
			}
		}
	}
	return first, true
}

// maskPairs is the number of pairs of a query head of the prompt under a policy that is a mask.
func (w *work) maskPairs(p manifest.Policy) (pairs int64) {
	segments := []segment{{hi: w.prompt}}
	if p.Kind != manifest.KindFull {
		segments = w.segments()
	}
	for _, seg := range segments {
		pol := p
		if seg.dense {
			pol = manifest.Full()
		}
		pairs += seenBy(seg.lo, seg.hi, w.limit(pol))
	}
	return pairs
}
