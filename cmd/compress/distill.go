package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/internal/pipeline"
)

// distillCmd plans and applies a recipe that distils and does nothing else, in one go.
func (a *app) distillCmd() *cobra.Command {
	var student, recipe, out, precision string
	var data pipeline.DataPaths
	var remote, strict bool
	c := &cobra.Command{
		Use:   "distill --teacher DIR --student DIR --calib FILE -o OUT",
		Short: "Train a checkpoint to predict what another one predicts; continues after a crash",
		Long: `distill trains the student on what the teacher predicts, and writes it as a new checkpoint. It makes a plan, saves it as
OUT.plan.json, and applies it: the same command goes on where an interrupted one stopped. Without a recipe the flags and
the defaults of docs/PLAN.md say how; with one, its section distill.`,
		Example: `  compress distill --teacher llama --student llama-pruned --calib text.jsonl --steps 1000 -o llama-recovered`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.usePrecision(precision); err != nil {
				return err
			}
			r, digest, err := distillRecipe(cmd, recipe)
			if err != nil {
				return err
			}
			planPath := strings.TrimRight(out, "/") + ".plan.json"
			plan, err := pipeline.Plan(cmd.Context(), pipeline.PlanOptions{ModelDir: student, Recipe: r, RecipeDigest: digest,
				Data: data, AllowRemoteCode: remote, Tool: tool(), Env: a.env()})
			if err != nil {
				return err
			}
			doc, err := planfile.Encode(plan)
			if err != nil {
				return err
			}
			if err := keepsPlan(out, planPath, plan); err != nil {
				return err
			}
			if err := formats.WriteFileAtomic(planPath, doc); err != nil {
				return err
			}
			if plan, doc, err = readPlan(planPath); err != nil {
				return err
			}
			res, err := pipeline.Apply(cmd.Context(), pipeline.ApplyOptions{Plan: plan, PlanBytes: doc, ModelDir: student, Out: out, Data: data,
				AllowRemoteCode: remote, Strict: strict, Env: a.env()})
			if err != nil {
				return err
			}
			a.showReport(res.Report)
			did := fmt.Sprintf("Wrote %s.", out)
			if res.Already {
				did = fmt.Sprintf("already applied: %s holds this plan's result and verifies", out)
			}
			a.next(did, "compress verify "+quoted(out))
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&data.Teacher, "teacher", "", "checkpoint directory of the teacher (required)")
	f.StringVar(&student, "student", "", "checkpoint directory to train (required); it is not changed")
	f.StringVar(&recipe, "recipe", "", "recipe in YAML with a section distill, in place of the flags below")
	f.StringVar(&data.Calib, "calib", "", "text or token ids to train on, as for compress plan (required)")
	f.StringVar(&data.Train, "train", "", "windows to train on in place of those of --calib")
	f.StringVar(&data.Heldout, "heldout", "", "held-out data of the same kinds; cut from --calib by default")
	f.StringVarP(&out, "output", "o", "", "directory to create (required)")
	f.BoolVar(&remote, "allow-remote-code", false, "accept checkpoints that bring Python code, and carry it over")
	f.BoolVar(&strict, "strict", false, "fail where a matrix fell back to plain rounding")
	for _, o := range distillFlags {
		f.String(o.flag, "", o.usage)
	}
	a.precisionFlag(c, &precision)
	required(c, "teacher", "student", "calib", "output")
	return c
}

// keepsPlan refuses to write over the plan of an interrupted run that this one does not go on with.
func keepsPlan(out, path string, plan *planfile.Plan) error {
	if _, err := os.Stat(strings.TrimRight(out, "/") + ".partial"); err != nil {
		return nil
	}
	old, _, err := readPlan(path)
	if err != nil || old.PlanID == plan.PlanID {
		return nil
	}
	return &pipeline.Error{Kind: pipeline.KindExists, Err: fmt.Errorf("%s.partial belongs to an interrupted run with other settings or data, whose plan is %s", out, path),
		Hint: "run it again as it was, remove both, or choose another directory with -o"}
}

// distillFlags are the flags that stand for a field of a recipe.
var distillFlags = []struct{ flag, section, field, usage string }{
	{"steps", "distill", "steps", "steps of training"},
	{"batch", "distill", "batch", "windows that pass at a time"},
	{"accumulate", "distill", "accumulate", "such parts a step"},
	{"rate", "distill", "rate", "learning rate at its peak"},
	{"warmup", "distill", "warmup", "steps in which the rate rises"},
	{"temperature", "distill", "temperature", "temperature of both sides' predictions"},
	{"top-k", "distill", "top_k", "predictions of the teacher that are kept for each token; 0 for all"},
	{"ce", "distill", "ce", "weight of the cross entropy of the text"},
	{"sequences", "calibration", "sequences", "windows to take from --calib"},
	{"holdout", "calibration", "holdout", "windows to judge by"},
	{"length", "calibration", "length", "tokens of a window"},
}

// distillRecipe reads the recipe, or writes one that the flags stand for.
func distillRecipe(cmd *cobra.Command, path string) (*pipeline.Recipe, string, error) {
	var given []string
	doc := map[string]string{}
	for _, o := range distillFlags {
		if v := cmd.Flags().Lookup(o.flag); v.Changed {
			given = append(given, "--"+o.flag)
			doc[o.section] += fmt.Sprintf("  %s: %s\n", o.field, v.Value)
		}
	}
	if path != "" {
		if len(given) > 0 {
			return nil, "", usageError{fmt.Errorf("%s: a recipe says that already", strings.Join(given, ", "))}
		}
		r, digest, err := readRecipe(path)
		if err == nil && !r.OnlyDistills() {
			err = usageError{fmt.Errorf("recipe: distill takes one with the section distill and no other step; compress plan takes any")}
		}
		return r, digest, err
	}
	text := "version: 1\ndistill:\n  steps: 200\n"
	if doc["distill"] != "" {
		text = "version: 1\ndistill:\n" + doc["distill"]
	}
	if doc["calibration"] != "" {
		text += "calibration:\n" + doc["calibration"]
	}
	r, err := pipeline.ParseRecipe([]byte(text))
	sum := sha256.Sum256([]byte(text))
	return r, "sha256:" + hex.EncodeToString(sum[:]), err
}
