package nn

// Pairs counts query-key pairs over query heads.
type Pairs struct {
	Attended int64 // those whose value was read; a mean that stands in for dropped keys counts as one
	Dense    int64 // those of the model without a plan: causal, within its own sliding windows
}

// Density is Attended/Dense; 1 where there is nothing to attend to.
func (p Pairs) Density() float64 {
	if p.Dense == 0 {
		return 1
	}
	return float64(p.Attended) / float64(p.Dense)
}

func (p *Pairs) add(q Pairs) {
	p.Attended += q.Attended
	p.Dense += q.Dense
}

// ServeLayer counts what one layer did over one window.
type ServeLayer struct {
	KVTokens        []int   // [G] most tokens that the cache of a KV head held, after the prompt and after each step
	KVBytes         []int64 // [G] bytes of these, in whole pages where the plan rounds
	DenseKVBytes    int64   // of one KV head without a plan, at the end of the window
	Prefill, Decode Pairs
}

// ServeWindow counts what one window did.
type ServeWindow struct {
	Prompt, Tokens int // tokens of the prompt, and of prompt and answer
	Layers         []ServeLayer
	// PeakKVTokens and PeakKVBytes are the most that the caches of all layers held at once; dense ones are largest at the
	// end.
	PeakKVTokens, PeakKVBytes   int64
	DenseKVTokens, DenseKVBytes int64
	Prefill, Decode             Pairs
}

// ServeStats counts what a model did under a plan. Caches are those between steps of decoding: while a prompt is
// processed, a runtime may hold more for a while.
type ServeStats struct {
	Windows []ServeWindow
}

// Total returns the sums over windows: pairs of both phases, and the caches as if all windows were served at once.
func (s *ServeStats) Total() (t ServeWindow) {
	for i := range s.Windows {
		w := &s.Windows[i]
		t.Prompt += w.Prompt
		t.Tokens += w.Tokens
		t.PeakKVTokens += w.PeakKVTokens
		t.PeakKVBytes += w.PeakKVBytes
		t.DenseKVTokens += w.DenseKVTokens
		t.DenseKVBytes += w.DenseKVBytes
		t.Prefill.add(w.Prefill)
		t.Decode.add(w.Decode)
	}
	return t
}

// KVDensity is the share of the dense cache's bytes that was held at the peak; 1 where there is no cache.
func (w *ServeWindow) KVDensity() float64 {
	if w.DenseKVBytes == 0 {
		return 1
	}
	return float64(w.PeakKVBytes) / float64(w.DenseKVBytes)
}

// held counts the caches of one window by step: entry 0 after the prompt, entry s after s steps.
type held struct{ tokens, bytes []int64 }

// finish sets the peaks of a window whose layers are all done.
func (w *ServeWindow) finish(h held) {
	for s := range h.tokens {
		w.PeakKVTokens = max(w.PeakKVTokens, h.tokens[s])
		w.PeakKVBytes = max(w.PeakKVBytes, h.bytes[s])
	}
	for i := range w.Layers {
		w.Prefill.add(w.Layers[i].Prefill)
		w.Decode.add(w.Layers[i].Decode)
	}
}

// seenBy returns Σ min(i+1, limit) over the queries i of [lo, hi): the pairs of one head that sees so many keys at most,
// 0 for no limit.
func seenBy(lo, hi, limit int) int64 {
	ramp := func(n int64) int64 { return n * (n + 1) / 2 }
	if limit <= 0 || hi <= limit {
		return ramp(int64(hi)) - ramp(int64(lo))
	}
	mid := max(lo, min(hi, limit))
	return ramp(int64(mid)) - ramp(int64(lo)) + int64(hi-mid)*int64(limit)
}
