package heads

import (
	"fmt"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
)

// PolicyStreaming is the id of the policy of streaming heads in plans of one window size.
const PolicyStreaming = "streaming"

// TieBreak is how [Select] orders heads of equal score, as plans state it.
const TieBreak = "score desc, layer asc, head asc"

// StreamingPolicy says what the heads that are not full see (StreamingLLM, arXiv:2309.17453).
type StreamingPolicy struct {
	Sink, Recent int     // tokens
	Compensation bool    // a mean of the dropped keys and values stands in for them (RazorAttention)
	Page         int     // tokens of a cache page; sink and recent are rounded up to whole ones. 0 for none
	DenseDecode  bool    // only prefill streams
	DensePrefill bool    // only decoding streams
	MinSaving    float64 // sequences at which a streaming head would save a smaller share decode dense; 0 for none do
	MinSeq       int     // prompts shorter than this are processed dense
}

func (s StreamingPolicy) check() error {
	if s.Sink < 0 || s.Recent < 1 || s.Page < 0 || s.MinSeq < 0 || !(s.MinSaving >= 0 && s.MinSaving < 1) {
		return fmt.Errorf("heads: streaming policy of %d sinks, %d recent tokens, pages of %d, prompts from %d, a saving from %g",
			s.Sink, s.Recent, s.Page, s.MinSeq, s.MinSaving)
	}
	return nil
}

// WriteStreaming gives every KV head that is not selected the streaming policy, and records scores, selection and evidence
// under the method of scores. A head whose layer has a sliding window no longer than sinks and recent tokens stays as it is:
// see [StreamMask].
func WriteStreaming(p *manifest.Plan, m *arch.Model, sel Selection, scores *Scores, pol StreamingPolicy, from Record) error {
	if err := pol.check(); err != nil {
		return err
	}
	if err := shaped(m, "selection", sel.Full); err != nil {
		return err
	}
	if err := shaped(m, "scores", scores.KV); err != nil {
		return err
	}
	w, err := newWriter(p, m)
	if err != nil {
		return err
	}
	sink, recent := RoundUp(pol.Sink, pol.Page), RoundUp(pol.Recent, pol.Page)
	decode := manifest.Always(PolicyStreaming)
	if dense := DenseUpTo(sink, recent, pol.MinSaving); pol.MinSaving > 0 {
		decode = manifest.Rules{{MaxLen: dense, Use: PolicyFull}, {Use: PolicyStreaming}}
	}
	stream := manifest.Streaming(sink, recent)
	stream.Compensation = pol.Compensation
	if err := w.policy(PolicyStreaming, stream); err != nil {
		return err
	}
	w.scores(sel, scores, func(h *manifest.KVHead, own int) {
		if own > 0 && own <= sink+recent {
			return
		}
		if !pol.DenseDecode {
			h.Decode = append(manifest.Rules(nil), decode...)
		}
		if !pol.DensePrefill {
			h.Prefill = PolicyStreaming
		}
	})
	w.page(pol.Page)
	p.Phases.Prefill.MinSeq = max(p.Phases.Prefill.MinSeq, pol.MinSeq)
	w.evidence(evidenceOf(scores, from.Seed, from.Digest))
	w.finish()
	return nil
}

// scores keeps the score of every head and the record of the selection, and shows narrow each head that is not full with
// the sliding window of its layer.
func (w *writer) scores(sel Selection, s *Scores, narrow func(h *manifest.KVHead, window int)) {
	for l, row := range sel.Full {
		for g, full := range row {
			h, v := w.head(l, g), Round(s.KV[l][g])
			h.Score = &v
			if !full {
				narrow(h, w.m.Layers[l].Window)
			}
		}
	}
	r := &manifest.Selection{Method: s.Method, TieBreak: TieBreak, TiesAtCut: sel.TiesAtCut}
	if sel.Total > 0 {
		r.TargetFullRatio = Round(float64(sel.Count) / float64(sel.Total))
	}
	if sel.Count > 0 && sel.Count < sel.Total {
		cut := sel.Cut
		r.CutScore = &cut
	}
	w.p.Selection = r
}
