package nn

import (
	"fmt"
	"math"
	"strings"

	"modelpress/formats/manifest"
)

// layerEntry is what a plan says about a layer whatever the window.
type layerEntry struct {
	share   int   // the layer whose selection this one uses, -1 for none
	sharers []int // the layers that use this one's
	heads   []headEntry
}

// headEntry holds the hints for one KV head.
type headEntry struct {
	kBits, vBits int
	channels     []bool // kept channels of keys, nil for all
	kept         int    // their number
}

// describe checks the plan against the model and collects its entries.
func (s *Server) describe() error {
	p, layers := s.opt.Plan, s.m.Arch.Layers
	s.entries = make([]layerEntry, len(layers))
	for l, a := range layers {
		s.entries[l] = layerEntry{share: -1, heads: make([]headEntry, a.G)}
		for g := range s.entries[l].heads {
			s.entries[l].heads[g].kept = a.K
		}
	}
	if p == nil {
		return nil
	}
	if err := s.fits(p); err != nil {
		return err
	}
	for i := range p.Layers {
		e := &p.Layers[i]
		if e.ShareAttentionWith != nil {
			s.entries[e.Layer].share = *e.ShareAttentionWith
			from := &s.entries[*e.ShareAttentionWith]
			from.sharers = append(from.sharers, e.Layer)
		}
		for j := range e.KVHeads {
			if err := s.hints(e.Layer, &e.KVHeads[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

// fits refuses plans with faults of policies and heads, and plans for other shapes.
func (s *Server) fits(p *manifest.Plan) error {
	for _, f := range p.Validate() {
		for _, part := range []string{"policies", "defaults", "layers", "layer ", "a KV head", "phases", "rope_positions", "granularity", "window_semantics"} {
			if strings.HasPrefix(f.Path, part) {
				return fmt.Errorf("nn: serve: plan: %s", f)
			}
		}
	}
	if p.Model.Layers != len(s.m.Arch.Layers) {
		return fmt.Errorf("nn: serve: a plan for %d layers, and the model has %d", p.Model.Layers, len(s.m.Arch.Layers))
	}
	for l, a := range s.m.Arch.Layers {
		h, g := p.Counts(l)
		if want := a.G; h != a.H || a.H > 0 && g != want {
			return fmt.Errorf("nn: serve: layer %d: a plan for %d query and %d KV heads, and the model has %d and %d", l, h, g, a.H, a.G)
		}
	}
	if s.renumbers() && s.m.Arch.Rope == nil {
		return fmt.Errorf("nn: serve: within_cache_positions: the positions of %s are learned, not rotated", s.m.Arch.Family)
	}
	for id, pol := range p.Policies {
		if !pol.Known() {
			return fmt.Errorf("nn: serve: policy %.80q is of the unknown kind %.80q", id, pol.Kind)
		}
	}
	return nil
}

// renumbers reports whether keys stand at their places in the cache.
func (s *Server) renumbers() bool {
	return s.opt.Plan != nil && s.opt.Plan.RopePositions == "within_cache"
}

func (s *Server) hints(l int, h *manifest.KVHead) error {
	e := &s.entries[l].heads[h.Head]
	if len(h.KVBits) == 2 {
		e.kBits, e.vBits = h.KVBits[0], h.KVBits[1]
	}
	if h.KChannelMask == "" {
		return nil
	}
	if s.renumbers() {
		return fmt.Errorf("nn: serve: layer %d, KV head %d: k_channel_mask together with within_cache_positions", l, h.Head)
	}
	k := s.m.Arch.Layers[l].K
	e.channels, e.kept = make([]bool, k), 0
	if len(h.KChannelMask) != (k+3)/4 {
		return fmt.Errorf("nn: serve: layer %d, KV head %d: k_channel_mask of %d digits for %d channels", l, h.Head, len(h.KChannelMask), k)
	}
	digits := strings.ToLower(h.KChannelMask)
	for c := range e.channels {
		digit := strings.IndexByte("0123456789abcdef", digits[c/4])
		if digit < 0 {
			return fmt.Errorf("nn: serve: layer %d, KV head %d: k_channel_mask is not hexadecimal", l, h.Head)
		}
		if digit>>(3-c%4)&1 == 1 {
			e.channels[c] = true
			e.kept++
		}
	}
	return nil
}

// length returns the tokens that rules of decoding are resolved at: prompt and all that may be generated.
func (s *Server) length(window int) int {
	w := &s.stats.Windows[window]
	if s.opt.MaxNew > 0 {
		return w.Prompt + s.opt.MaxNew
	}
	return w.Tokens
}

// policy returns the policy of a head in terms that do not depend on the length: elastic ones become streaming. query is
// -1 for a KV head in decoding. Where it hides nothing from queries before reach, it is full.
func (s *Server) policy(l, g, query, window, reach int) (manifest.Policy, error) {
	p, own := s.opt.Plan, s.m.Arch.Layers[l].Window
	if p == nil {
		return manifest.Full(), nil
	}
	prompt, length := s.stats.Windows[window].Prompt, s.length(window)
	var pol manifest.Policy
	if query < 0 {
		pol, _ = p.Resolve(l, g, manifest.Decoding, length)
	} else {
		pol, _ = p.ResolveQuery(l, query, manifest.Prefill, prompt)
	}
	if pol.Kind == manifest.KindElastic {
		n := length
		if pol.Length == "prompt" {
			n = prompt
		}
		span := pol.Span(n)
		pol = manifest.Streaming(pol.Sink, max(1, span-pol.Sink))
	}
	if pol.Kind == manifest.KindStreaming {
		if query < 0 {
			pol.Recent = s.pages(pol.Sink+pol.Recent) - pol.Sink
		}
		if own > 0 && own <= pol.Sink+pol.Recent {
			return manifest.Full(), nil
		}
		if pol.Compensation && own > 0 {
			return pol, fmt.Errorf("nn: serve: layer %d: compensation in a layer with a sliding window", l)
		}
		if pol.Compensation && s.renumbers() {
			return pol, fmt.Errorf("nn: serve: layer %d: compensation together with within_cache_positions", l)
		}
	}
	if query >= 0 && pol.Kind == manifest.KindTokenTopK || !s.opt.stepwise && hidesNothing(pol, reach) {
		return manifest.Full(), nil
	}
	return pol, nil
}

// hidesNothing reports whether a policy lets every query before reach see all keys.
func hidesNothing(p manifest.Policy, reach int) bool {
	switch p.Kind {
	case manifest.KindStreaming:
		return p.Sink+p.Recent >= reach
	case manifest.KindVerticalSlash:
		return p.Vertical >= reach || p.Slash >= reach || p.ForceVertical >= reach || p.ForceSlash >= reach
	case manifest.KindBlockTopK:
		if p.Selector == "mean_pool" {
			return p.Blocks >= (reach+p.Block-1)/p.Block
		}
		return p.Threshold >= 1
	case manifest.KindTokenTopK:
		return max(p.Budget, p.Window) >= reach
	case manifest.KindLocalStride:
		return p.VertStride == 1 && p.Offset == 0 || p.LocalBlocks >= (reach+p.Block-1)/p.Block
	case manifest.KindPower:
		return p.LocalBlocks >= (reach+p.Block-1)/p.Block
	case manifest.KindSinkScaled:
		return p.Scale == 1
	}
	return p.Kind == manifest.KindFull
}

// pages rounds tokens up to whole pages where the plan does.
func (s *Server) pages(tokens int) int {
	if s.opt.Plan == nil {
		return tokens
	}
	d := s.opt.Plan.Phases.Decode
	if d.Round != "up" || d.Page < 2 || tokens > math.MaxInt-d.Page {
		return tokens
	}
	return (tokens + d.Page - 1) / d.Page * d.Page
}
