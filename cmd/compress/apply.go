package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"modelpress/internal/pipeline"
)

func (a *app) applyCmd() *cobra.Command {
	var model, out string
	var data pipeline.DataPaths
	var remote, strict bool
	c := &cobra.Command{
		Use:   "apply PLAN --model DIR [--calib FILE] -o OUT",
		Short: "Carry a plan out; continues after a crash, commits by one rename",
		Example: `  compress apply plan.json --model llama --calib text.jsonl -o llama-int4
  compress verify llama-int4`,
		Args: exactArgs("PLAN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			plan, raw, err := readPlan(args[0])
			if err != nil {
				return err
			}
			if err := a.usePlanned(plan.DeviceClass); err != nil {
				return err
			}
			res, err := pipeline.Apply(cmd.Context(), pipeline.ApplyOptions{Plan: plan, PlanBytes: raw, ModelDir: model, Out: out, Data: data,
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
	f.StringVar(&model, "model", "", "checkpoint directory that was planned on (required)")
	f.StringVarP(&out, "output", "o", "", "directory to create (required)")
	f.StringVar(&data.Calib, "calib", "", "the calibration data that the plan was made with")
	f.StringVar(&data.Teacher, "teacher", "", "the teacher that the plan was made with")
	f.StringVar(&data.Train, "train", "", "the training data that the plan was made with")
	f.StringVar(&data.Heldout, "heldout", "", "the held-out data that the plan was made with")
	f.BoolVar(&remote, "allow-remote-code", false, "accept checkpoints that bring Python code, and carry it over")
	f.BoolVar(&strict, "strict", false, "fail where a matrix fell back to a plainer method")
	a.device.add(f)
	required(c, "model", "output")
	return c
}
