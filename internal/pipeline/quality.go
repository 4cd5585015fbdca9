package pipeline

import (
	"context"
	"encoding/json"
	"math"

	"modelpress/calib"
	"modelpress/formats/planfile"
	"modelpress/internal/nn"
)

// quality is what the result is worth on held-out data. Numbers have six decimal digits.
type quality struct {
	Source *comparison `json:"against_source,omitempty"` // dense result against the source model
	Plan   []metric    `json:"attention_plan,omitempty"` // the result without and with its attention plan
	// NeedleDrop is the accuracy that the result under its attention plan loses against the dense source.
	NeedleSource json.Number `json:"needle_accuracy_source,omitempty"`
	Needle       json.Number `json:"needle_accuracy,omitempty"`
	Tokens       int         `json:"held_out_tokens"`
	Prompts      int         `json:"held_out_prompts"`
}

// comparison is how far the result's predictions lie from the source's.
type comparison struct {
	SourcePPL json.Number `json:"perplexity_source"`
	PPL       json.Number `json:"perplexity"`
	Ratio     json.Number `json:"perplexity_ratio"`
	KL        json.Number `json:"kl_mean"`
	KLP99     json.Number `json:"kl_p99"`
	Top1      json.Number `json:"top1_agreement"`
}

// measure judges a result against its source on the held-out side.
func measure(ctx context.Context, src, result *nn.Model, h *headsDecision, set *dataset, env Env) (*quality, error) {
	q := &quality{Tokens: set.set.Heldout.Tokens(), Prompts: len(set.held)}
	if w := set.set.Heldout; len(w.IDs) > 0 {
		c, err := compare(ctx, src, result, w, env, "held-out text against the source")
		if err != nil {
			return nil, err
		}
		q.Source = &comparison{SourcePPL: number(c.Ref.PPL), PPL: number(c.Model.PPL), Ratio: number(c.Model.PPL / c.Ref.PPL),
			KL: number(c.KL), KLP99: number(c.P99), Top1: number(c.Top1)}
	}
	if len(set.held) > 0 {
		s, err := retrieval(ctx, src, set.held, nil, env, "needles, source")
		if err != nil {
			return nil, err
		}
		q.NeedleSource, q.Needle = number(s.Accuracy), number(s.Accuracy)
		r, err := retrieval(ctx, result, set.held, nil, env, "needles, result")
		if err != nil {
			return nil, err
		}
		q.Needle = number(r.Accuracy)
	}
	if h == nil {
		return q, nil
	}
	var err error
	if q.Plan, err = measurePlan(ctx, result, h.Plan, set, env); err != nil {
		return nil, err
	}
	for _, m := range q.Plan {
		if m.Name == nameNeedle {
			q.Needle = m.Plan
		}
	}
	return q, nil
}

// compare compares two models on held-out text. One that is so far from it that its perplexity is no number is good for nothing, and cannot
// be reported.
func compare(ctx context.Context, src, m *nn.Model, w calib.Windows, env Env, name string) (calib.Comparison, error) {
	tick, stop := counter(env.Progress, name)
	c, err := calib.Compare(ctx, src, m, w, env.eval(nil, tick))
	stop()
	if err != nil {
		return c, err
	}
	for _, v := range []struct {
		of        string
		ppl, loss float64
	}{{"source", c.Ref.PPL, c.Ref.NLL}, {"result", c.Model.PPL, c.Model.NLL}} {
		if math.IsInf(v.ppl, 0) || math.IsNaN(v.ppl) {
			return c, errKind(KindGate, "change the recipe and plan again", "the %s is no model of held-out text: it loses %.4g nats a token, and its perplexity is no number", v.of, v.loss)
		}
	}
	return c, nil
}

// planPassed reports whether the attention plan keeps the gates, at the sizes that it ships: without retrieval prompts nothing
// was measured that tells whether it retrieves. A recipe without the needle gate allows no drop.
func (q *quality) planPassed(g Gates) bool {
	c := costOf(q.Plan)
	passed := c.needles && c.drop <= g.NeedleDrop+gateSlack
	for _, b := range planGates(g) {
		// A gate on text from which the plan hides nothing is kept, as it is where gates are judged.
		if v, ok := b.of(c); ok && v > b.bound+gateSlack {
			passed = false
		}
	}
	return passed
}

// gateResult is the verdict on one gate.
type gateResult struct {
	Metric string      `json:"metric"`
	Op     string      `json:"op"`
	Bound  float64     `json:"bound"`
	Value  json.Number `json:"value"`
	Passed bool        `json:"passed"`
}

// gateSlack is what a bound is passed by for nothing but the rounding of a difference: 1 - 0.95 is more than 0.05.
const gateSlack = 1e-9

// judge applies the planned gates. A gate whose metric was not measured fails.
func judge(gates []planfile.Gate, q *quality) []gateResult {
	list := []gateResult{}
	for _, g := range gates {
		r := gateResult{Metric: g.Metric, Op: g.Op, Bound: g.Bound}
		if v, ok := q.value(g.Metric); ok {
			r.Value = number(v)
			r.Passed = g.Op == "<=" && v <= g.Bound+gateSlack || g.Op == ">=" && v >= g.Bound-gateSlack
		}
		list = append(list, r)
	}
	return list
}

func (q *quality) value(metric string) (float64, bool) {
	switch {
	case q == nil:
		return 0, false
	case metric == metricPPLRatio && q.Source != nil:
		return toFloat(q.Source.Ratio), true
	case metric == metricKL && q.Source != nil:
		return toFloat(q.Source.KL), true
	case metric == metricNeedleDrop && q.Prompts > 0:
		return max(toFloat(q.NeedleSource)-toFloat(q.Needle), costOf(q.Plan).drop), true
	case metric == metricPlanPPL && q.Source != nil:
		return costOf(q.Plan).ratio, true // 1 where the plan hides nothing of what it is judged by
	case metric == metricPlanKL && q.Source != nil:
		return costOf(q.Plan).kl, true
	}
	return 0, false
}
