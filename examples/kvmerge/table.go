package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"modelpress/formats/planfile"
	"modelpress/internal/device/cpu"
	"modelpress/internal/pipeline"
)

// score is what a model is worth: one entry for each set.
type score struct {
	ppl, kl       []float64
	accuracy, nll float64
	cache         int64 // bytes of keys and values at one length
}

type table struct {
	settings
	env   pipeline.Env
	tasks *pipeline.Retrieval // of generated prompts; nil where there is a file
	dense int64
	out   io.Writer
}

func run(ctx context.Context, s settings, out io.Writer) error {
	t := &table{settings: s, env: pipeline.Env{Device: cpu.New(s.threads), Progress: silent{}}, out: out}
	if s.prompts == "" {
		r, err := pipeline.ParseRecipe([]byte(s.retrieval() + "quantize: {method: rtn}\n"))
		if err != nil {
			return err
		}
		t.tasks = r.Retrieval
	}
	t.header()
	source, err := t.measure(ctx, s.model, "")
	if err != nil {
		return err
	}
	t.dense = source.cache
	t.print("source", "", "", "", "", source)
	for _, r := range s.plan() {
		if err := t.row(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
	}
	return nil
}

// row plans, applies, measures and prints.
func (t *table) row(ctx context.Context, r row) error {
	dir, err := os.MkdirTemp("", "kvmerge")
	if err != nil {
		return err
	}
	s, err := t.merge(ctx, r, filepath.Join(dir, "merged"))
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		return err
	}
	t.print(r.name, r.keys+", "+r.values, r.grouping, yes(r.refit), yes(r.apart), s)
	return nil
}

func yes(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}

func (t *table) merge(ctx context.Context, r row, dir string) (score, error) {
	text := []byte(t.recipe(r))
	recipe, err := pipeline.ParseRecipe(text)
	if err != nil {
		return score{}, err
	}
	sum := sha256.Sum256(text)
	data := pipeline.DataPaths{Calib: t.calib}
	p, err := pipeline.Plan(ctx, pipeline.PlanOptions{ModelDir: t.model, Recipe: recipe, RecipeDigest: "sha256:" + hex.EncodeToString(sum[:]), Data: data,
		Tool: planfile.Tool{Name: "kvmerge", Version: "1"}, Env: t.env})
	if err != nil {
		return score{}, err
	}
	b, err := planfile.Encode(p)
	if err != nil {
		return score{}, err
	}
	if _, err := pipeline.Apply(ctx, pipeline.ApplyOptions{Plan: p, PlanBytes: b, ModelDir: t.model, Out: dir, Data: data, Env: t.env}); err != nil {
		return score{}, err
	}
	return t.measure(ctx, dir, t.model)
}

// measure evaluates a checkpoint on all sets, against the reference where there is one.
func (t *table) measure(ctx context.Context, dir, reference string) (score, error) {
	var s score
	for i, path := range t.sets() {
		o := pipeline.EvalOptions{ModelDir: dir, Reference: reference, Data: path, Windows: t.windows, Length: t.length, BOS: t.bos, ReplaceFirst: t.replace,
			Seed: t.seed, Env: t.env}
		if i == 1 { // the first held-out set
			o.Prompts, o.MaxPrompts, o.Retrieval = t.prompts, t.maxPrompts, t.tasks
		}
		e, err := pipeline.Evaluate(ctx, o)
		if err != nil {
			return s, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		kl := 0.0
		if e.Compare != nil {
			kl = e.Compare.KL
		}
		s.ppl, s.kl = append(s.ppl, e.Perplexity.PPL), append(s.kl, kl)
		if e.Retrieval != nil {
			s.accuracy, s.nll = e.Retrieval.Accuracy, e.Retrieval.AnswerNLL
		}
		s.cache = e.KV[0].Dense
	}
	return s, nil
}

// sets are the files to measure on: calibration, then held-out ones.
func (t *table) sets() []string { return append([]string{t.calib}, t.heldout...) }

func (t *table) header() {
	cols := []string{"KV heads", "keys, values", "groups", "refit", "apart", "cache"}
	for _, path := range t.sets() {
		cols = append(cols, filepath.Base(path)+": ppl", "KL")
	}
	cols = append(cols, "needle", "answer nll")
	fmt.Fprintf(t.out, "| %s |\n|%s\n", strings.Join(cols, " | "), strings.Repeat("---|", len(cols)))
}

func (t *table) print(name, ways, groups, refit, apart string, s score) {
	cols := []string{name, ways, groups, refit, apart, fmt.Sprintf("%.1f %%", 100*float64(s.cache)/float64(t.dense))}
	for i := range s.ppl {
		cols = append(cols, fmt.Sprintf("%.4f", s.ppl[i]), fmt.Sprintf("%.4f", s.kl[i]))
	}
	cols = append(cols, fmt.Sprintf("%.4f", s.accuracy), fmt.Sprintf("%.4f", s.nll))
	fmt.Fprintf(t.out, "| %s |\n", strings.Join(cols, " | "))
}

// silent shows no progress.
type silent struct{}

func (silent) Start(string, int64) {}
func (silent) Add(int64)           {}
func (silent) Done()               {}
