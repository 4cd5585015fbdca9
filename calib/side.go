package calib

import (
	"fmt"
	"math/rand/v2"
)

// side cuts windows from the documents that it is given and keeps the first ones, or a draw.
type side struct {
	opt     *SetOptions
	need    int // windows wanted; 0 for all
	keep    int // windows kept; more than need where some may be dropped at the end
	windows [][]int32
	stream  []int32    // joined documents that do not fill a window yet
	rng     *rand.Rand // nil: keep the first
	offered int64
	tokens  int64

	spans    *spans // of the kept windows; nil where there is no other side
	other    *side
	overlaps int
}

// body is the number of document tokens in a window, 0 where each document is one window.
func (s *side) body() int {
	if s.opt.Length > 0 && s.opt.BOS != nil && !s.opt.ReplaceBOS {
		return s.opt.Length - 1
	}
	return s.opt.Length
}

// full reports whether further documents cannot change the result.
func (s *side) full() bool { return s.rng == nil && s.need > 0 && len(s.windows) >= s.need }

// filled is the share of the wanted tokens that the side was given.
func (s *side) filled() float64 { return float64(s.tokens) / float64(max(s.need, 1)) }

// push cuts a document into windows.
func (s *side) push(d Document) {
	s.tokens += int64(len(d.IDs))
	body := s.body()
	switch {
	case body == 0:
		s.offer(d.IDs)
	case d.Alone:
		for ids := d.IDs; len(ids) >= body; ids = ids[body:] {
			s.offer(ids[:body])
		}
	default:
		s.stream = append(s.stream, d.IDs...)
		if s.opt.EOS != nil {
			s.stream = append(s.stream, *s.opt.EOS)
		}
		rest := s.stream
		for ; len(rest) >= body && !s.full(); rest = rest[body:] {
			s.offer(rest[:body])
		}
		s.stream = append(s.stream[:0], rest...)
	}
}

// offer keeps a window of body tokens if there is room for it and it repeats nothing of the other side.
func (s *side) offer(body []int32) {
	if s.full() {
		return
	}
	w := s.window(body)
	if len(w) < 2 {
		return
	}
	if s.rng != nil && s.keep > 0 {
		s.draw(w)
		return
	}
	if s.spans != nil {
		if s.other.spans.shares(w) {
			s.overlaps++
			return
		}
		if s.rng == nil {
			s.spans.add(w)
		}
	}
	s.windows = append(s.windows, w)
}

// draw is one step of reservoir sampling: after n windows each was kept with probability keep/n (Vitter 1985, algorithm R).
func (s *side) draw(w []int32) {
	s.offered++
	if len(s.windows) < s.keep {
		s.windows = append(s.windows, w)
		return
	}
	if j := s.rng.Int64N(s.offered); j < int64(s.keep) {
		s.windows[j] = w
	}
}

// window copies document tokens and sets BOS.
func (s *side) window(body []int32) []int32 {
	w := make([]int32, 0, len(body)+1)
	if s.opt.BOS != nil && !s.opt.ReplaceBOS {
		w = append(w, *s.opt.BOS)
	}
	w = append(w, body...)
	if s.opt.BOS != nil && s.opt.ReplaceBOS && len(w) > 0 {
		w[0] = *s.opt.BOS
	}
	return w
}

// checkVocab returns an error that names the first id outside 0..vocab-1; vocab 0 checks nothing.
func checkVocab(ids []int32, vocab int) error {
	if vocab <= 0 {
		return nil
	}
	for i, id := range ids {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("id %d at position %d lies outside the vocabulary of %d", id, i, vocab)
		}
	}
	return nil
}
