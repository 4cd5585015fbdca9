package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/heads"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"

	"modelpress/formats/planfile"
)

// decideHeads scores every KV head on the calibration side, keeps the best share full, and measures the resulting plan on
// the held-out side at the very sink and window sizes that it ships.
func decideHeads(ctx context.Context, s *source, r *Recipe, set *dataset, env Env) (*headsDecision, error) {
	m := s.model(env.Device)
	scores, digest, err := scoreHeads(ctx, m, r, set, env)
	if err != nil {
		return nil, unfit(err)
	}
	sel := heads.Select(scores.KV, r.Heads.FullShare)
	h := &headsDecision{Method: scores.Method, Unit: scores.Unit, Samples: scores.Samples, Digest: digest, Seed: r.Seed,
		Scores: numbers(scores.KV), Full: sel.Full, Sink: r.Heads.Sink, Recent: r.Heads.Recent, Page: r.Heads.Page,
		Share: exactly(r.Heads.FullShare), TiesAt: sel.TiesAtCut, Cut: "0"}
	if sel.Count > 0 {
		h.Cut = number(sel.Cut)
	}
	h.warn(set, env)
	h.HeldOut, err = measurePlan(ctx, m, h, set, env)
	return h, err
}

// unfit gives an error that is nobody else's the class of wrong recipes: package heads refuses options that do not fit the
// model or the data, such as windows that a streaming head sees as a whole.
func unfit(err error) error {
	var input *formats.Error
	var file *fs.PathError
	if errors.As(err, &input) || errors.As(err, &file) || KindOf(err) != 0 || errors.Is(err, context.Canceled) {
		return err
	}
	return &Error{Kind: KindUsage, Err: err, Hint: "change the sections heads and calibration of the recipe, or give other data"}
}

// scoreHeads returns the scores of the recipe's method, larger for heads that need the whole cache, and the digest of the
// data behind them.
func scoreHeads(ctx context.Context, m *nn.Model, r *Recipe, set *dataset, env Env) (*heads.Scores, string, error) {
	tick, stop := counter(env.Progress, "scoring heads")
	defer stop()
	h, how := r.Heads, heads.Options{Dir: env.Scratch, MemLimit: env.stateLimit(), Progress: tick}
	switch h.Score {
	case "wu":
		sc, err := heads.Wu(ctx, m, set.profile, how)
		return sc, calib.PromptsDigest(set.profile), err
	case "echo", "induction":
		opt := heads.RazorOptions{Seed: r.Seed, BOS: set.bos, Options: how}
		if set.bos != nil {
			opt.Exclude = []int32{*set.bos}
		}
		echo, induction, err := heads.Razor(ctx, m, opt)
		if h.Score == "echo" {
			return echo, "", err
		}
		return induction, "", err
	}
	loss, err := heads.StreamingLoss(ctx, m, set.set.Calib, heads.StreamingOptions{Sink: h.Sink, Recent: h.Recent, Options: how})
	if err != nil {
		return nil, "", err
	}
	return loss.Projected, set.set.Calib.Digest, nil
}

// hides reports whether a streaming head of the plan fails to see something of a sequence of length tokens.
func (h *headsDecision) hides(length int) bool { return length > h.Sink+h.Recent }

// warn says where the held-out side is too short to tell what the plan costs.
func (h *headsDecision) warn(set *dataset, env Env) {
	if n := set.set.Heldout.Longest(); n > 0 && !h.hides(n) {
		env.warn("held-out windows of %d tokens hide nothing from %d sinks and %d recent tokens: perplexity says nothing about the attention plan", n, h.Sink, h.Recent)
	}
	if n := longestPrompt(set.held); n > 0 && !h.hides(n) {
		env.warn("held-out prompts of %d tokens hide nothing from %d sinks and %d recent tokens: needles say nothing about the attention plan", n, h.Sink, h.Recent)
	}
}

// measurePlan compares the model with and without the attention plan on held-out data from which the plan hides something.
func measurePlan(ctx context.Context, m *nn.Model, h *headsDecision, set *dataset, env Env) ([]metric, error) {
	masks := h.masks(m.Arch)
	list := []metric{}
	if w := set.set.Heldout; h.hides(w.Longest()) {
		dense, err := perplexity(ctx, m, w, nil, env, "held-out text, dense")
		if err != nil {
			return nil, err
		}
		plan, err := perplexity(ctx, m, w, masks, env, "held-out text, planned")
		if err != nil {
			return nil, err
		}
		list = append(list, metric{namePerplexity, number(dense.PPL), number(plan.PPL)})
	}
	if h.hides(longestPrompt(set.held)) {
		dense, err := retrieval(ctx, m, set.held, nil, env, "needles, dense")
		if err != nil {
			return nil, err
		}
		plan, err := retrieval(ctx, m, set.held, masks, env, "needles, planned")
		if err != nil {
			return nil, err
		}
		list = append(list, metric{nameNeedle, number(dense.Accuracy), number(plan.Accuracy)},
			metric{nameNeedleNLL, number(dense.AnswerNLL), number(plan.AnswerNLL)})
	}
	return list, nil
}

func perplexity(ctx context.Context, m *nn.Model, w calib.Windows, masks func(int) []device.Mask, env Env, name string) (calib.PerplexityResult, error) {
	tick, stop := counter(env.Progress, name)
	defer stop()
	return calib.Perplexity(ctx, m, w, env.eval(masks, tick))
}

func retrieval(ctx context.Context, m *nn.Model, prompts []calib.Prompt, masks func(int) []device.Mask, env Env, name string) (calib.RetrievalResult, error) {
	tick, stop := counter(env.Progress, name)
	defer stop()
	return calib.Retrieval(ctx, m, prompts, env.eval(masks, tick))
}

// eval says how models are run for a measurement.
func (e Env) eval(masks func(int) []device.Mask, tick func(done, total int)) calib.EvalOptions {
	return calib.EvalOptions{Masks: masks, Dir: e.Scratch, MemLimit: e.stateLimit(), Progress: tick}
}

func (h *headsDecision) masks(m *arch.Model) func(layer int) []device.Mask {
	return heads.Masks(h.Full, h.Sink, h.Recent, m)
}

// numbers rounds scores to the digits that plans hold and selection compares.
func numbers(rows [][]float64) [][]json.Number {
	out := make([][]json.Number, len(rows))
	for l, row := range rows {
		out[l] = make([]json.Number, len(row))
		for g, v := range row {
			out[l][g] = number(heads.Round(v))
		}
	}
	return out
}

// counts returns the number of full heads and of all heads.
func (h *headsDecision) counts() (full, total int) {
	for _, row := range h.Full {
		for _, f := range row {
			total++
			if f {
				full++
			}
		}
	}
	return full, total
}

func (h *headsDecision) summary() string {
	full, total := h.counts()
	return fmt.Sprintf("%d of %d kv heads streaming (sink %d, recent %d), %d full by %s", total-full, total, h.Sink, h.Recent, full, h.Method)
}

func (h *headsDecision) rows() []planfile.Row {
	rows := []planfile.Row{{Mark: "~", Scope: layerRange(0, len(h.Full)), Text: h.summary()}}
	for _, m := range h.HeldOut {
		rows = append(rows, planfile.Row{Mark: "=", Scope: "held out", Text: fmt.Sprintf("%s %s -> %s", m.Name, m.Dense, m.Plan)})
	}
	return rows
}

func layerRange(lo, hi int) string {
	if hi-lo == 1 {
		return fmt.Sprintf("layer %d", lo)
	}
	return fmt.Sprintf("layers %d-%d", lo, hi-1)
}

func (q *quantDecision) summary() string {
	group := fmt.Sprintf("g%d", q.Group)
	if q.Group == -1 {
		group = "per channel"
	}
	sym := "symmetric"
	if !q.Symmetric {
		sym = "asymmetric"
	}
	s := fmt.Sprintf("%d matrices to int%d %s %s by %s, %s", len(q.Modules), q.Bits, group, sym, q.Method, q.Output)
	if q.Rotation != nil {
		s += fmt.Sprintf(", rotated (%s, seed %d)", q.Rotation.Kind, q.Rotation.Seed)
	}
	return s
}

// rows gives one line per reason with its bytes.
func (q *quantDecision) rows(p *planfile.Plan) []planfile.Row {
	marks := map[string]string{reasonPacked: "~", reasonDequant: "~", reasonRotated: "~", reasonFolded: "~", reasonUntied: "+"}
	var rows []planfile.Row
	for _, c := range p.Summary() {
		mark := marks[c.Reason]
		if mark == "" {
			mark = "="
		}
		rows = append(rows, planfile.Row{Mark: mark, Scope: fmt.Sprintf("%d tensors", c.Tensors), Text: c.Reason, Delta: c.After - c.Before})
	}
	return rows
}
