package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"modelpress/internal/pipeline"
)

func (a *app) evalCmd() *cobra.Command {
	o := pipeline.EvalOptions{}
	var recipe, precision string
	var useplan bool
	c := &cobra.Command{
		Use:   "eval MODEL --data FILE [--reference DIR] [--attention-plan]",
		Short: "Measure perplexity, divergence from a reference, needle accuracy and KV bytes",
		Example: `  compress eval llama-int4 --data heldout.jsonl --reference llama
  compress eval llama-int4 --data heldout.jsonl --recipe release.yaml --attention-plan`,
		Args: exactArgs("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.usePrecision(precision); err != nil {
				return err
			}
			o.ModelDir, o.Env = args[0], a.env()
			if useplan && o.AttentionPlan == "" {
				o.AttentionPlan = "auto"
			}
			if recipe != "" {
				r, _, err := readRecipe(recipe)
				if err != nil {
					return err
				}
				o.Retrieval = r.Retrieval
			}
			if o.Data == "" && o.Prompts == "" {
				return usageError{fmt.Errorf("nothing to measure: give --data, --prompts or both")}
			}
			e, err := pipeline.Evaluate(cmd.Context(), o)
			if err != nil {
				return err
			}
			a.showEvaluation(e)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Data, "data", "", "held-out text or token ids, of the kinds that plan --calib takes")
	f.StringVar(&o.Reference, "reference", "", "checkpoint to compare the predictions with")
	f.StringVar(&o.Prompts, "prompts", "", "retrieval prompts as JSON: [{ids, answer, needle}, ...]")
	f.IntVar(&o.MaxPrompts, "max-prompts", 0, "prompts to take, evenly spread over the file; 0 for all")
	f.StringVar(&recipe, "recipe", "", "recipe whose retrieval section generates prompts in the data")
	f.BoolVar(&useplan, "attention-plan", false, "run under the attention plan that lies beside the weights")
	f.StringVar(&o.AttentionPlan, "attention-plan-file", "", "run under this attention plan")
	f.IntVar(&o.PrefillChunk, "prefill-chunk", 0, "tokens that prefill takes at once under the attention plan; 0 for whole prompts")
	f.IntVar(&o.Windows, "windows", 0, "windows to measure; 0 for all")
	f.IntVar(&o.Skip, "skip", 0, "windows to leave out at the start")
	f.IntVar(&o.Length, "length", 512, "tokens of a window; longer rows of ids are cut to it")
	f.StringVar(&o.BOS, "bos", "auto", "first id of every window: auto (the model's own for text, none for token ids), none, or an id")
	f.BoolVar(&o.ReplaceFirst, "replace-first", false, "the first id takes the place of each window's first token")
	f.IntVar(&o.ScoreFrom, "score-from", 0, "score only predictions made at this position or later")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of generated prompts")
	f.BoolVar(&o.AllowRemoteCode, "allow-remote-code", false, "accept checkpoints that bring Python code")
	a.precisionFlag(c, &precision)
	return c
}

func (a *app) verifyCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "verify DIR",
		Short:   "Check a result: digests, shapes, attention plan against tensors",
		Example: "  compress verify llama-int4",
		Args:    exactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := pipeline.Verify(cmd.Context(), args[0], a.env())
			if err != nil {
				return err
			}
			return a.showVerification(args[0], v)
		},
	}
}

func (a *app) showCmd() *cobra.Command {
	var detail func() (bool, error)
	c := &cobra.Command{
		Use:     "show PLAN",
		Short:   "Show a plan to people; needs no model",
		Example: "  compress show plan.json --detail=tensor",
		Args:    exactArgs("PLAN"),
		RunE: func(_ *cobra.Command, args []string) error {
			tensors, err := detail()
			if err != nil {
				return err
			}
			plan, _, err := readPlan(args[0])
			if err != nil {
				return err
			}
			a.showPlan(plan, tensors)
			return nil
		},
	}
	detail = detailFlag(c)
	return c
}
