package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/internal/pipeline"
)

func (a *app) planCmd() *cobra.Command {
	var model, recipe, out, precision, layout string
	var data pipeline.DataPaths
	var targets []string
	var remote, detailed bool
	c := &cobra.Command{
		Use:   "plan --model DIR --recipe FILE [--calib FILE] -o PLAN",
		Short: "Decide everything, write the decisions to a file, change nothing",
		Example: `  compress plan --model llama --recipe release.yaml --calib text.jsonl -o plan.json
  compress show plan.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.usePrecision(precision); err != nil {
				return err
			}
			if err := checkFile(out); err != nil {
				return err
			}
			r, digest, err := readRecipe(recipe)
			if err != nil {
				return err
			}
			if len(targets) > 0 {
				if err := r.SetTargets(targets); err != nil {
					return err
				}
			}
			if layout != "" {
				if err := r.SetLayout(layout); err != nil {
					return err
				}
			}
			env := a.env()
			env.StateFile = out + ".state"
			var verdicts []pipeline.Verdict
			plan, err := pipeline.Plan(cmd.Context(), pipeline.PlanOptions{ModelDir: model, Recipe: r, RecipeDigest: digest, Data: data,
				AllowRemoteCode: remote, Tool: tool(), Env: env, Verdicts: func(list []pipeline.Verdict) { verdicts = list }})
			if err != nil {
				return err
			}
			doc, err := planfile.Encode(plan)
			if err != nil {
				return err
			}
			if err := formats.WriteFileAtomic(out, doc); err != nil {
				return err
			}
			a.showPlan(plan, false)
			a.showConditions(verdicts)
			a.next(fmt.Sprintf("Saved %s (plan_id %s).", out, short(plan.PlanID)), applyCommand(plan, out, model, data, remote))
			if detailed && plan.Changed() {
				return errChanges
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&model, "model", "", "checkpoint directory (required)")
	f.StringVar(&recipe, "recipe", "", "recipe in YAML (required)")
	f.StringVar(&data.Calib, "calib", "", "calibration data: text, .jsonl, .gz or .zst of these, DIR:.ext, or token ids in .npy or .safetensors")
	f.StringVar(&data.Teacher, "teacher", "", "checkpoint directory of the teacher to distil from; the model itself by default")
	f.StringVar(&data.Train, "train", "", "windows that weights and masks are trained on, of the same kinds; the calibration windows by default")
	f.StringVar(&data.Heldout, "heldout", "", "held-out data of the same kinds; cut from the calibration data by default")
	f.StringVarP(&out, "output", "o", "plan.json", "plan file to write")
	f.StringSliceVar(&targets, "target", nil, "runtimes that the result must load in, instead of the recipe's: "+pipeline.KnownTargets())
	f.StringVar(&layout, "layout", "", "of merged KV heads, instead of the recipe's: portable (as many in every layer) or compact (each layer its own number)")
	f.BoolVar(&remote, "allow-remote-code", false, "accept checkpoints that bring Python code, and carry it over")
	f.BoolVar(&detailed, "detailed-exitcode", false, "exit with 10 where the plan changes something")
	a.precisionFlag(c, &precision)
	required(c, "model", "recipe")
	return c
}

// readRecipe reads and checks a recipe and returns it with the digest of its file.
func readRecipe(path string) (*pipeline.Recipe, string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, "", usageError{fmt.Errorf("recipe: %w", err)}
	}
	r, err := pipeline.ParseRecipe(raw)
	sum := sha256.Sum256(raw)
	return r, "sha256:" + hex.EncodeToString(sum[:]), err
}

func tool() planfile.Tool { return planfile.Tool{Name: "compress", Version: version} }

// applyCommand is the command that carries a plan out.
func applyCommand(p *planfile.Plan, planPath, model string, data pipeline.DataPaths, remote bool) string {
	s := fmt.Sprintf("compress apply %s --model %s", quoted(planPath), quoted(model))
	if p.Calibration != nil {
		s += " --calib " + quoted(data.Calib)
		if data.Heldout != "" {
			s += " --heldout " + quoted(data.Heldout)
		}
		if data.Train != "" {
			s += " --train " + quoted(data.Train)
		}
	}
	if data.Teacher != "" {
		s += " --teacher " + quoted(data.Teacher)
	}
	if remote {
		s += " --allow-remote-code"
	}
	return s + " -o OUT"
}
