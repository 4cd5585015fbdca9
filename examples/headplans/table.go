package main

import (
	"context"
	"fmt"
	"io"

	"modelpress/calib"
	"modelpress/formats/hf"
	"modelpress/formats/manifest"
	"modelpress/heads"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
)

// exam is the held-out data at one length.
type exam struct {
	length int
	text   calib.Windows
	tasks  []task
}

type task struct {
	kind    calib.Kind
	prompts []calib.Prompt
}

// score is what a model is worth under a plan: perplexity, divergence from the dense model, and the accuracy of each task.
type score struct {
	density, ppl, kl float64
	accuracy, nll    []float64
}

type table struct {
	settings
	m     *nn.Model
	exams []exam
	out   io.Writer
}

func run(ctx context.Context, s settings, out io.Writer) error {
	ckpt, err := hf.Open(s.model)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	a, err := arch.Describe(ckpt.Config(), ckpt)
	if err != nil {
		return err
	}
	t := &table{settings: s, m: nn.New(cpu.New(s.threads), ckpt, a), out: out}
	if err := t.load(ckpt); err != nil {
		return err
	}
	return t.run(ctx)
}

// load makes the held-out tasks and windows at every length.
func (t *table) load(ckpt *hf.Checkpoint) error {
	raw, err := ckpt.ReadFile("tokenizer.json", 64<<20)
	if err != nil {
		return err
	}
	tok, err := calib.LoadTokenizer(raw)
	if err != nil {
		return err
	}
	docs, err := calib.OpenDocs(t.heldout, calib.TextOptions{})
	if err != nil {
		return err
	}
	bos := int32(0)
	longest := 2 * t.length
	set, err := calib.BuildSet(docs, tok, calib.SetOptions{Length: longest, Vocab: t.m.Arch.V})
	if err != nil {
		return err
	}
	hay := set.Calib.Flat(1)
	for i, length := range []int{t.length / 2, t.length, 2 * t.length} {
		e := exam{length: length}
		var w [][]int32
		for _, ids := range set.Calib.IDs {
			for at := 0; at+length <= len(ids) && len(w) < t.windows; at += length {
				w = append(w, append([]int32{bos}, ids[at+1:at+length]...))
			}
		}
		e.text = calib.NewWindows(w)
		for k, kind := range []calib.Kind{calib.SingleNeedle, calib.MultiKey} {
			// The answer must not stand within the window of any head that streams.
			p, err := calib.MakePrompts(tok, hay, calib.RetrievalOptions{Kind: kind, Lengths: []int{length}, Depths: []float64{0, 0.2, 0.4},
				PerCell: t.perCell, Distractors: 1, BOS: &bos, Seed: 100000*t.questions + 1000*uint64(i+1) + uint64(k)})
			if err != nil {
				return err
			}
			e.tasks = append(e.tasks, task{kind, p})
		}
		t.exams = append(t.exams, e)
	}
	return nil
}

func (t *table) run(ctx context.Context) error {
	fmt.Fprintf(t.out, "%-22s %6s %7s %9s %9s %8s %8s %8s\n", "plan", "length", "KV", "ppl", "KL", "needle", "multikey", "nll")
	for _, e := range t.exams {
		if err := t.row(ctx, "dense", nil, e); err != nil {
			return err
		}
	}
	for _, budget := range t.budgets {
		for _, method := range t.methods {
			p, err := t.make(ctx, method, budget)
			if err != nil {
				return err
			}
			if err := t.compare(ctx, fmt.Sprintf("%s %g%%", method, 100*budget), p); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare prints a plan beside the thoughtless ones of its size, at every length.
func (t *table) compare(ctx context.Context, name string, p *manifest.Plan) error {
	const sink = 4
	for _, e := range t.exams {
		if err := t.row(ctx, name, p, e); err != nil {
			return err
		}
		if err := t.row(ctx, "  uniform", uniform(p, t.m.Arch, e.length, sink), e); err != nil {
			return err
		}
		window := t.length / 16
		if s := heads.PlanBytes(p, t.m.Arch, 2, e.length); s.Density()*float64(e.length) <= float64(sink+window) {
			window = max(1, int(s.Density()*float64(e.length))-sink-1)
		}
		var plans []*manifest.Plan
		for seed := range t.seeds {
			plans = append(plans, random(p, t.m.Arch, e.length, sink, window, uint64(seed+1)))
		}
		if err := t.row(ctx, "  random heads", plans[0], e, plans[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// row measures a plan, or the mean of several, and prints it.
func (t *table) row(ctx context.Context, name string, p *manifest.Plan, e exam, more ...*manifest.Plan) error {
	var sum score
	plans := append([]*manifest.Plan{p}, more...)
	n := float64(len(plans))
	for _, p := range plans {
		s, err := t.measure(ctx, p, e)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		sum.density += s.density / n
		sum.ppl += s.ppl / n
		sum.kl += s.kl / n
		if sum.accuracy == nil {
			sum.accuracy, sum.nll = make([]float64, len(s.accuracy)), make([]float64, len(s.nll))
		}
		for i := range s.accuracy {
			sum.accuracy[i] += s.accuracy[i] / n
			sum.nll[i] += s.nll[i] / n
		}
	}
	fmt.Fprintf(t.out, "%-22s %6d %6.1f%% %9.4f %9.5f %8.3f %8.3f %8.4f\n", name, e.length, 100*sum.density, sum.ppl, sum.kl,
		sum.accuracy[0], sum.accuracy[1], (sum.nll[0]+sum.nll[1])/2)
	return nil
}

func (t *table) measure(ctx context.Context, p *manifest.Plan, e exam) (score, error) {
	opt := calib.EvalOptions{Plan: p, MemLimit: 1 << 30}
	s := score{density: heads.PlanBytes(p, t.m.Arch, 2, e.length).Density()}
	c, err := calib.Compare(ctx, t.m, t.m, e.text, opt)
	if err != nil {
		return s, err
	}
	s.ppl, s.kl = c.Model.PPL, c.KL
	for _, task := range e.tasks {
		r, err := calib.Retrieval(ctx, t.m, task.prompts, opt)
		if err != nil {
			return s, err
		}
		s.accuracy, s.nll = append(s.accuracy, r.Accuracy), append(s.nll, r.AnswerNLL)
	}
	return s, nil
}
