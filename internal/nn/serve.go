package nn

import (
	"context"
	"errors"
	"fmt"

	"modelpress/formats/manifest"
	"modelpress/internal/device"
)

// ServeOptions says how windows are served under an attention plan.
type ServeOptions struct {
	// Plan says what each head sees and keeps; nil serves the model as it is. Digests are not compared here.
	Plan *manifest.Plan
	// Prompt returns how many leading tokens of a window are processed in prefill; the others are decoded one by one. nil
	// takes whole windows for prompts.
	Prompt func(window int) int
	// MaxNew is the number of tokens that may be generated after a prompt, by which rules and spans for a length are
	// resolved; 0 for as many as the window holds after it.
	MaxNew int
	// Chunk is the number of tokens that prefill takes at once, 0 for the whole prompt.
	Chunk int
	// ElementBytes is the size of a cached value that no bits are given for, 0 for 2.
	ElementBytes int

	States   *States                                   // as in RunOptions
	Final    func(window int, hidden device.Buf) error // as in RunOptions
	Progress func(done, total int)                     // as in RunOptions

	stepwise bool // for tests: every policy goes through the cache, also where a mask gives the same
}

// Server runs a model as a runtime would that follows a plan: prefill of the prompt under the prefill policies, whole or
// in chunks, and then one token at a time from caches that hold what the decode policies leave, and nothing else. All
// tokens are known (teacher forcing), so layers are run one after the other over all windows, which changes no result.
//
// Semantics, beyond docs/MANIFEST.md:
//   - With chunk_mask "exact" what depends on the prompt is estimated from the whole prompt, with "chunk" from each chunk,
//     and policies of positions alone then let a query see what any query of its chunk sees.
//   - token_topk is dense in prefill: it chooses once the prompt has been read.
//   - In a layer with a sliding window every policy keeps within it, except that streaming heads keep their sinks where
//     sink+recent is less than the window, and are the window where it is not.
//   - kv_bits below 16 round the cached rows, per token and head, to levels between their least and largest value;
//     prefill reads unrounded ones. k_channel_mask leaves channels out of the scores of decoding.
//
// Memory beyond that of the model, for T tokens of which P are the prompt: up to 16*T*K bytes per KV head of one layer for
// its cache, 28*T bytes per thread, 16*(T-P) bytes per window, and for a layer whose selection is shared 16 bytes per
// selected span, step, KV head and window.
type Server struct {
	m       *Model
	opt     ServeOptions
	stats   *ServeStats
	held    []held
	shared  map[int]*selections // by the layer that selects
	entries []layerEntry
}

// NewServer checks that the plan fits the model and can be served over the windows.
func NewServer(m *Model, windows [][]int32, opt ServeOptions) (*Server, error) {
	if opt.ElementBytes == 0 {
		opt.ElementBytes = 2
	}
	if opt.Chunk < 0 || opt.MaxNew < 0 || opt.ElementBytes < 0 {
		return nil, fmt.Errorf("nn: serve: chunk %d, %d new tokens, %d bytes an element", opt.Chunk, opt.MaxNew, opt.ElementBytes)
	}
	s := &Server{m: m, opt: opt, stats: &ServeStats{}, shared: map[int]*selections{}}
	if err := s.describe(); err != nil {
		return nil, err
	}
	for i, w := range windows {
		prompt := len(w)
		if opt.Prompt != nil {
			prompt = opt.Prompt(i)
		}
		if prompt < 0 || prompt > len(w) || opt.MaxNew > 0 && len(w)-prompt > opt.MaxNew {
			return nil, fmt.Errorf("nn: serve: window %d has %d tokens, a prompt of %d and at most %d new ones", i, len(w), prompt, opt.MaxNew)
		}
		steps := len(w) - prompt + 1
		s.held = append(s.held, held{make([]int64, steps), make([]int64, steps)})
		s.stats.Windows = append(s.stats.Windows, ServeWindow{Prompt: prompt, Tokens: len(w), Layers: make([]ServeLayer, len(m.Arch.Layers))})
		for l := range m.Arch.Layers {
			if _, err := s.work(l, i); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// Pass is for [RunOptions].Pass. Layers must come in ascending order, each with all windows.
func (s *Server) Pass(layer, window int) *Pass {
	if !s.m.Arch.Layers[layer].HasAttention() {
		return nil
	}
	w, err := s.work(layer, window)
	if err != nil {
		return &Pass{Attend: func(*AttnState) error { return err }}
	}
	s.forget(layer)
	w.begin()
	if masks, ok := w.masks(); ok {
		w.countMasks(masks)
		for _, m := range masks {
			if !m.Full() {
				return &Pass{Masks: masks}
			}
		}
		return nil
	}
	return &Pass{Attend: w.attend}
}

// Stats returns the counts; they are complete once all layers have run over all windows.
func (s *Server) Stats() *ServeStats {
	out := &ServeStats{Windows: append([]ServeWindow(nil), s.stats.Windows...)}
	for i := range out.Windows {
		w := &out.Windows[i]
		for l, a := range s.m.Arch.Layers {
			if !a.HasAttention() {
				continue
			}
			tokens := w.Tokens
			if a.Window > 0 {
				tokens = min(tokens, a.Window)
			}
			w.DenseKVTokens += int64(a.G) * int64(tokens)
			w.DenseKVBytes += int64(a.G) * w.Layers[l].DenseKVBytes
		}
		w.finish(s.held[i])
	}
	return out
}

// Serve runs the model over the windows under a plan. each is that of [Model.Run]: row i of the hidden states predicts
// token i+1 as the runtime would have at that moment.
func (m *Model) Serve(ctx context.Context, windows [][]int32, opt ServeOptions, each func(window int, hidden []float32) error) (*ServeStats, error) {
	s, err := NewServer(m, windows, opt)
	if err != nil {
		return nil, err
	}
	err = m.Run(ctx, windows, RunOptions{Pass: s.Pass, States: opt.States, Final: opt.Final, Progress: opt.Progress}, each)
	if err != nil {
		return nil, err
	}
	return s.Stats(), nil
}

// errNoSelection: a layer was run before the one that selects for it.
var errNoSelection = errors.New("nn: serve: the layer that selects has not run over this window")

// maskOf returns a policy as a mask in a layer with the given sliding window, and whether it is one.
func maskOf(p manifest.Policy, window int) (device.Mask, bool) {
	switch {
	case p.Kind == manifest.KindFull:
		return device.Mask{Recent: window}, true
	case p.Kind == manifest.KindStreaming && !p.Compensation:
		return device.Mask{Sink: p.Sink, Recent: p.Recent}, true
	}
	return device.Mask{}, false
}
