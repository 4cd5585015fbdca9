package pipeline

import (
	"fmt"
)

// Failed is an error of the class of failed gates and verifications.
func Failed(format string, args ...any) error { return errKind(KindGate, "", format, args...) }

// QualityLines says what a result is worth, a line per measurement.
func (r *Report) QualityLines() []string {
	var lines []string
	if s := r.Sparsity; s != nil {
		lines = append(lines, fmt.Sprintf("sparse weights, %s by %s: %d of %d are 0", s.Pattern, s.Method, s.Zeros, s.Weights))
	}
	q := r.Quality
	if q == nil {
		return lines
	}
	if c := q.Source; c != nil {
		lines = append(lines, fmt.Sprintf("held-out text, %d tokens: perplexity %s -> %s (ratio %s), KL %s nats per token (p99 %s), same top token %s",
			q.Tokens, c.SourcePPL, c.PPL, c.Ratio, c.KL, c.KLP99, c.Top1))
	}
	for _, m := range q.Plan {
		lines = append(lines, fmt.Sprintf("with the attention plan: %s %s -> %s", m.Name, m.Dense, m.Plan))
	}
	if q.Prompts > 0 {
		lines = append(lines, fmt.Sprintf("needles, %d prompts: accuracy %s for the source, %s for the result", q.Prompts, q.NeedleSource, q.Needle))
	}
	return lines
}

// Lines says what was measured, a line per measurement.
func (e *Evaluation) Lines() []string {
	lines := []string{fmt.Sprintf("%s, attention: %s", e.Model, e.Plan)}
	if p := e.Perplexity; p != nil {
		lines = append(lines, fmt.Sprintf("perplexity %.4f (nll %.6f over %d tokens)", p.PPL, p.NLL, p.Tokens))
	}
	if c := e.Compare; c != nil {
		lines = append(lines, fmt.Sprintf("against the reference: perplexity %.4f (ratio %.5f), KL %.6f (p50 %.6f, p90 %.6f, p99 %.6f), same top token %.4f",
			c.Ref.PPL, c.Model.PPL/c.Ref.PPL, c.KL, c.P50, c.P90, c.P99, c.Top1))
	}
	if r := e.Retrieval; r != nil {
		lines = append(lines, fmt.Sprintf("needles: accuracy %.4f (%d of %d prompts), answer nll %.4f", r.Accuracy, r.Correct, r.Prompts, r.AnswerNLL))
		for _, c := range r.Grid {
			lines = append(lines, fmt.Sprintf("  length %d depth %.2f: %d of %d", c.Length, c.Depth, c.Correct, c.Prompts))
		}
	}
	if s := e.Served; s != nil && s.KVBytesDense > 0 {
		lines = append(lines, fmt.Sprintf("served: %d of %d bytes of KV cache at the peaks (%.1f %%), %.1f %% of the query-key pairs in prefill, %.1f %% in decoding",
			s.KVBytes, s.KVBytesDense, 100*float64(s.KVBytes)/float64(s.KVBytesDense), 100*s.PrefillDensity, 100*s.DecodeDensity))
	}
	for _, c := range e.KV {
		lines = append(lines, fmt.Sprintf("KV cache at %d tokens: %d bytes dense, %d planned (%.1f %%)", c.Length, c.Dense, c.Planned, 100*c.Density()))
	}
	return lines
}
