package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"modelpress/internal/pipeline"
	"modelpress/internal/ui"
)

func (a *app) inspectCmd() *cobra.Command {
	var detail func() (bool, error)
	var targets []string
	var remote, strict bool
	c := &cobra.Command{
		Use:   "inspect MODEL [--target NAME,...] [--strict]",
		Short: "Say what is in a checkpoint and where it loads",
		Example: `  compress inspect llama --detail=tensor
  compress inspect llama-int4 --target vllm,llama.cpp --strict`,
		Args: exactArgs("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			tensors, err := detail()
			if err != nil {
				return err
			}
			if strict && len(targets) == 0 {
				return usageError{errors.New("--strict needs --target: the runtimes that the checkpoint must load in")}
			}
			i, err := pipeline.Inspect(args[0], remote, targets)
			if err != nil {
				return err
			}
			a.showInspection(i, tensors)
			if names := i.NotLoading(); strict && len(names) > 0 {
				return pipeline.Failed("%s does not load in %s", i.Name, strings.Join(names, ", "))
			}
			return nil
		},
	}
	detail = detailFlag(c)
	f := c.Flags()
	f.StringSliceVar(&targets, "target", nil, "runtimes to look at instead of all: "+pipeline.KnownTargets())
	f.BoolVar(&strict, "strict", false, "exit with 6 where a target does not load the checkpoint; needs --target")
	f.BoolVar(&remote, "allow-remote-code", false, "accept checkpoints that bring Python code")
	return c
}

// showInspection prints what is in a checkpoint, with detail a line per tensor, and the table of the runtimes with their reasons.
func (a *app) showInspection(i *pipeline.Inspection, detail bool) {
	lines := []string{
		fmt.Sprintf("%s  %s, %d layers, hidden %d, %d heads (%d kv) of %d, ffn %d, vocabulary %d, context %d", i.Name, i.Architecture, i.Layers,
			i.Hidden, i.Heads, i.KVHeads, i.HeadDim, i.FFN, i.Vocabulary, i.MaxPosition),
		fmt.Sprintf("%d tensors, %d parameters, %s, tied %t, quantized %t", len(i.Tensors), i.Parameters, ui.Bytes(i.Bytes), i.Tied, i.Quantized),
		fmt.Sprintf("KV cache %s per token in bf16", ui.Bytes(i.KVBytesToken)),
	}
	for _, w := range i.Warnings {
		lines = append(lines, "warning: "+w)
	}
	r := ui.Result{Name: "inspection", Data: i, Lines: lines}
	if detail {
		r.Table = &ui.Table{Head: []string{"tensor", "dtype", "shape", "bytes"}, Right: []bool{false, false, false, true}}
		for _, t := range i.Tensors {
			r.Table.Rows = append(r.Table.Rows, []string{t.Name, t.DType, shape(t.Shape), strconv.FormatInt(t.Bytes, 10)})
		}
	}
	a.ui.Show(r)
	a.showVerdicts(i.Targets)
}

// showVerdicts prints the table of runtimes, then the reasons. Programs have both in the result before.
func (a *app) showVerdicts(list []pipeline.Verdict) {
	t := &ui.Table{Head: []string{"runtime", "verdict", "known to load in", "tensor parallel"}}
	for _, v := range list {
		t.Rows = append(t.Rows, []string{v.Name, v.Words(), v.MinVersion, v.Parallel()})
	}
	a.ui.Show(ui.Result{Name: "verdicts", Table: t, Lines: pipeline.VerdictLines(list, false)})
}

// showConditions prints what the result of a plan needs to load in its targets, beyond what the plan itself says.
func (a *app) showConditions(list []pipeline.Verdict) {
	a.ui.Show(ui.Result{Name: "targets", Data: list, Lines: pipeline.VerdictLines(list, true)})
}
