package heads

import (
	"fmt"
	"math"
	"strconv"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
)

// RazorPolicy says which heads RazorAttention (arXiv:2407.15891) keeps full and what the others see. Zero values stand for
// those in brackets.
type RazorPolicy struct {
	Induction float64 // share of KV heads kept for their induction score [0.14]
	Echo      float64 // share of KV heads kept for their echo score [0.01]
	Sink      int     // leading tokens; 0 is none
	MinRecent int     // S0, the least recent window [4000]
	Divisor   int     // C: the window is at least N/C of a sequence of N tokens [5]
	Page      int     // tokens of a cache page, to which sizes are rounded up; 0 for none
}

func (r *RazorPolicy) fill() error {
	set(&r.Induction, 0.14)
	set(&r.Echo, 0.01)
	set(&r.MinRecent, 4000)
	set(&r.Divisor, 5)
	if !(r.Induction > 0 && r.Induction <= 1) || !(r.Echo > 0 && r.Echo <= 1) || r.Sink < 0 || r.MinRecent < 1 || r.Divisor < 1 || r.Page < 0 {
		return fmt.Errorf("heads: razor of shares %g and %g, %d sinks, windows from %d and 1/%d, pages of %d", r.Induction, r.Echo,
			r.Sink, r.MinRecent, r.Divisor, r.Page)
	}
	return nil
}

// SelectRazor keeps the heads of the largest induction and of the largest echo scores full, at least one of each kind: the
// union of two selections. Cut and TiesAtCut are those by induction.
func SelectRazor(echo, induction *Scores, pol RazorPolicy) (Selection, error) {
	if err := pol.fill(); err != nil {
		return Selection{}, err
	}
	total := SelectCount(induction.KV, 0).Total
	if total == 0 || SelectCount(echo.KV, 0).Total != total || len(echo.KV) != len(induction.KV) {
		return Selection{}, fmt.Errorf("heads: echo and induction scores of %d and %d layers", len(echo.KV), len(induction.KV))
	}
	s := SelectCount(induction.KV, max(1, Count(total, pol.Induction)))
	for l, row := range SelectCount(echo.KV, max(1, Count(total, pol.Echo))).Full {
		if len(row) != len(s.Full[l]) {
			return Selection{}, fmt.Errorf("heads: layer %d: %d echo and %d induction scores", l, len(row), len(s.Full[l]))
		}
		for g, f := range row {
			if f && !s.Full[l][g] {
				s.Full[l][g] = true
				s.Count++
			}
		}
	}
	return s, nil
}

// WriteRazor gives the heads that [SelectRazor] leaves out sinks, a recent window of max(S0, N/C) tokens and the
// compensation token in decoding, and keeps both scores as evidence; prefill stays full, since RazorAttention drops tokens
// only once the prompt is read. Because the window grows with the sequence and only streaming policies have a compensation
// token, it is written as rules by length: windows double from S0 on, so that each rule holds at least N/C and at most twice
// as many tokens, until they cover the model's positions.
func WriteRazor(p *manifest.Plan, m *arch.Model, echo, induction *Scores, pol RazorPolicy, from Record) error {
	if err := pol.fill(); err != nil {
		return err
	}
	if err := shaped(m, "scores", induction.KV); err != nil {
		return err
	}
	sel, err := SelectRazor(echo, induction, pol)
	if err != nil {
		return err
	}
	w, err := newWriter(p, m)
	if err != nil {
		return err
	}
	rules := pol.rules(m.MaxPosition)
	sink := RoundUp(pol.Sink, pol.Page)
	for _, r := range rules {
		if err := w.policy(r.Use, r.policy(sink)); err != nil {
			return err
		}
	}
	w.scores(sel, induction, func(h *manifest.KVHead, own int) {
		h.Decode = nil
		for _, r := range rules {
			use := r.Use
			if own > 0 && own <= sink+r.recent {
				use = PolicyFull // the layer's own window is no longer
			}
			h.Decode = append(h.Decode, manifest.Rule{MaxLen: r.MaxLen, Use: use})
		}
		h.Decode = merged(h.Decode)
	})
	w.page(pol.Page)
	w.evidence(evidenceOf(echo, from.Seed, from.Digest), evidenceOf(induction, from.Seed, from.Digest))
	w.finish()
	return nil
}

// razorRule is a rule by length and the recent window of its policy.
type razorRule struct {
	manifest.Rule
	recent int
}

func (r razorRule) policy(sink int) manifest.Policy {
	pol := manifest.Streaming(sink, r.recent)
	pol.Compensation = true
	return pol
}

// rules lists windows that double from S0 until a C-th of longest fits.
func (r RazorPolicy) rules(longest int) []razorRule {
	var out []razorRule
	for recent := RoundUp(r.MinRecent, r.Page); ; recent *= 2 {
		rule := razorRule{manifest.Rule{Use: "razor-" + strconv.Itoa(recent)}, recent}
		if int64(recent)*int64(r.Divisor) >= int64(longest) || recent > math.MaxInt32/4 {
			return append(out, rule)
		}
		rule.MaxLen = recent * r.Divisor
		out = append(out, rule)
	}
}

// merged joins neighbouring rules that use one policy.
func merged(rules manifest.Rules) manifest.Rules {
	var out manifest.Rules
	for i, r := range rules {
		if i+1 < len(rules) && rules[i+1].Use == r.Use {
			continue
		}
		out = append(out, r)
	}
	return out
}
