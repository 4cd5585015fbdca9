package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/internal/device/cpu"
	"modelpress/internal/pipeline"
)

// row is what one method reached at one share with one seed.
type row struct {
	Method    string  `json:"method"`
	Share     float64 `json:"share"`
	Seed      uint64  `json:"seed"`
	Settings  string  `json:"settings"` // recipes and paths that it was made with
	Params    int64   `json:"params"`   // counted on what was written
	Shape     string  `json:"shape"`
	Before    score   `json:"before"` // recovery
	Recovered score   `json:"recovered"`
	Scratch   score   `json:"scratch"` // trained from nothing for as many tokens
}

// score is what a model is worth on held-out data.
type score struct {
	PPL float64 `json:"ppl,omitempty"`
	KL  float64 `json:"kl,omitempty"`
}

type bench struct {
	settings
	env pipeline.Env
	out io.Writer
}

func run(ctx context.Context, s settings, out io.Writer) error {
	b := &bench{settings: s, env: pipeline.Env{Device: cpu.New(s.threads), Progress: silent{}}, out: out}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	source, err := b.measure(ctx, s.model)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "source: perplexity %.4f\n", source.PPL)
	var rows []row
	for _, share := range s.params {
		for _, m := range s.methods {
			for _, seed := range s.seeds {
				r, err := b.row(ctx, m, share, seed)
				if err != nil {
					return fmt.Errorf("%s, %g, seed %d: %w", m, share, seed, err)
				}
				fmt.Fprintf(out, "%s %g seed %d: %d parameters (%s), perplexity %.4f (KL %.4f), recovered %.4f (%.4f), from nothing %.4f\n", m, share, seed, r.Params, r.Shape,
					r.Before.PPL, r.Before.KL, r.Recovered.PPL, r.Recovered.KL, r.Scratch.PPL)
				rows = append(rows, r)
			}
		}
	}
	b.table(rows)
	return nil
}

// row does one result, or reads what an earlier run made of it.
func (b *bench) row(ctx context.Context, method string, share float64, seed uint64) (row, error) {
	r := row{Method: method, Share: share, Seed: seed}
	settings := b.pruneRecipe(method, share, seed) + b.distillRecipe(seed, b.rate, "") + fmt.Sprint(b.scratch, b.model, b.calib, b.train, b.heldout, b.windows)
	r.Settings = settings
	name := fmt.Sprintf("%s-%g-%d", method, share, seed)
	path := filepath.Join(b.settings.out, name+".json")
	if raw, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(raw, &r); err != nil || r.Settings == settings {
			return r, err
		}
		return r, fmt.Errorf("%s was made with other settings: choose another directory with -o", path)
	} else if !errors.Is(err, os.ErrNotExist) {
		return r, err
	}
	pruned := filepath.Join(b.settings.out, name)
	if err := b.apply(ctx, b.pruneRecipe(method, share, seed), b.model, "", pruned); err != nil {
		return r, fmt.Errorf("prune: %w", err)
	}
	var err error
	if r.Params, r.Shape, err = b.count(ctx, pruned); err != nil {
		return r, err
	}
	if r.Before, err = b.measure(ctx, pruned); err != nil {
		return r, err
	}
	if b.steps > 0 {
		if r.Recovered, err = b.trained(ctx, b.distillRecipe(seed, b.rate, "logits: 1, ce: 0"), pruned, pruned+"-recovered"); err != nil {
			return r, fmt.Errorf("recover: %w", err)
		}
	}
	if b.steps > 0 && b.scratch > 0 && method == b.methods[0] {
		if err := forget(pruned, pruned+"-random", seed); err != nil {
			return r, err
		}
		if r.Scratch, err = b.trained(ctx, b.distillRecipe(seed, b.scratch, "logits: 0, ce: 1"), pruned+"-random", pruned+"-scratch"); err != nil {
			return r, fmt.Errorf("train from nothing: %w", err)
		}
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return r, err
	}
	return r, formats.WriteFileAtomic(path, append(raw, '\n'))
}

// trained trains a checkpoint and measures the result.
func (b *bench) trained(ctx context.Context, recipe, student, out string) (score, error) {
	if err := b.apply(ctx, recipe, student, b.model, out); err != nil {
		return score{}, err
	}
	return b.measure(ctx, out)
}

// apply plans and applies a recipe, unless that was done before.
func (b *bench) apply(ctx context.Context, text, model, teacher, out string) error {
	r, err := pipeline.ParseRecipe([]byte(text))
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(text))
	data := pipeline.DataPaths{Calib: b.calib, Teacher: teacher}
	if r.Distill != nil || r.Prune.VIB != nil { // others train nothing
		data.Train = b.train
	}
	env := b.env
	env.StateFile = out + ".state"
	p, err := pipeline.Plan(ctx, pipeline.PlanOptions{ModelDir: model, Recipe: r, RecipeDigest: "sha256:" + hex.EncodeToString(sum[:]), Data: data,
		Tool: planfile.Tool{Name: "pruning", Version: "1"}, Env: env})
	if err != nil {
		return err
	}
	doc, err := planfile.Encode(p)
	if err != nil {
		return err
	}
	_, err = pipeline.Apply(ctx, pipeline.ApplyOptions{Plan: p, PlanBytes: doc, ModelDir: model, Out: out, Data: data, Env: b.env})
	return err
}

func (b *bench) calibration(seed uint64) string {
	train := ""
	if b.train != "" {
		train = fmt.Sprintf(", train_sequences: %d, train_length: %d", b.trainSequences, b.trainLength)
	}
	return fmt.Sprintf("version: 1\nseed: %d\ntarget: [%s]\ncalibration: {sequences: %d, length: %d, holdout: 0, shuffle: true%s}\n", seed, b.target, b.sequences, b.length, train)
}

func (b *bench) pruneRecipe(method string, share float64, seed uint64) string {
	return b.calibration(seed) + fmt.Sprintf("prune:\n  method: %s\n  params: %g\n", method, share) + lines(b.prune)
}

func lines(fields []string) string {
	var s strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&s, "  %s\n", f)
	}
	return s.String()
}

func (b *bench) distillRecipe(seed uint64, rate float64, loss string) string {
	return b.calibration(seed) + fmt.Sprintf("distill: {steps: %d, batch: %d, rate: %g, warmup: %d, %s}\n", b.steps, b.batch, rate, b.steps/10, loss)
}

func (b *bench) measure(ctx context.Context, dir string) (score, error) {
	e, err := pipeline.Evaluate(ctx, pipeline.EvalOptions{ModelDir: dir, Reference: b.model, Data: b.heldout, Windows: b.windows, Length: b.length, BOS: b.bos,
		ReplaceFirst: b.replace, Env: b.env})
	if err != nil {
		return score{}, err
	}
	return score{e.Perplexity.PPL, e.Compare.KL}, nil
}

// silent shows no progress.
type silent struct{}

func (silent) Start(string, int64) {}
func (silent) Add(int64)           {}
func (silent) Done()               {}
