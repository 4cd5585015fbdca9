package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"modelpress/formats"
	"modelpress/formats/imatrix"
	"modelpress/formats/planfile"
	"modelpress/internal/convert"
	"modelpress/internal/pipeline"
	"modelpress/internal/ui"
)

func (a *app) convertCmd() *cobra.Command {
	var o convert.Options
	var imp pipeline.EvalOptions
	var shard, report, precision, matrix string
	var dry bool
	c := &cobra.Command{
		Use:   "convert MODEL --to FORMAT -o OUT",
		Short: "Write a model in another format, and prove what that did to its values",
		Long: `convert reads a checkpoint directory, quantized or not, or a GGUF file, and writes it in another format:

  same                the same tensors in other files, or under other names
  safetensors         plain weights
  compressed-tensors  codes on grids as they are, or quantized by --scheme: w4a16, w4a16-asym, w8a16, w8a8, fp8, fp8-dynamic, fp8-block, nvfp4, mxfp4
  gptq, gptq_v2, awq  codes on grids as they are, or quantized by --bits and --group-size
  gguf                types as they are, or a type or mix of llama.cpp by --type: f32, f16, bf16, q8_0, q4_0, q4_k_m, ...

Codes that carry over are carried over, and every value is compared after the result was read again. What is quantized anew is rounded to nearest, with
the steps searched: plan and apply quantize better. Nothing is at OUT before all of it is.`,
		Example: `  compress convert llama-int4 --to gguf -o llama-int4.gguf
  compress convert llama --to gguf --type q4_k_m --imatrix imatrix.gguf -o llama-q4.gguf
  compress convert llama-awq --to compressed-tensors --lossless -o llama-ct
  compress convert llama --to same --max-shard-size 5GB -o llama-shards`,
		Args: exactArgs("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Model, o.AllowRemoteCode, o.Threads = args[0], imp.AllowRemoteCode, a.threads
			o.Tool = planfile.Tool{Name: "compress", Version: version}
			if shard != "" {
				n, err := ui.ParseBytes(shard)
				if err != nil {
					return usageError{fmt.Errorf("--max-shard-size: %w", err)}
				}
				o.MaxShardBytes = n
			}
			if (o.Out == "") != dry {
				return usageError{fmt.Errorf("give either -o OUT or --dry-run")}
			}
			if report != "" {
				if err := errors.Join(checkFile(report), o.CheckBeside(report)); err != nil {
					return err
				}
			}
			if err := a.usePrecision(precision); err != nil {
				return err
			}
			o.Env = a.env()
			if err := o.Check(); err != nil { // before the work
				return err
			}
			imp.ModelDir, imp.Env = o.Model, o.Env
			var err error
			if o.Importance, err = importance(cmd.Context(), matrix, o, imp); err != nil {
				return err
			}
			if report != "" {
				o.Report = func(r *convert.Result) error {
					raw, err := json.MarshalIndent(r, "", " ")
					if err != nil {
						return err
					}
					return formats.WriteFileAtomic(report, append(raw, '\n'))
				}
			}
			r, err := convert.Convert(cmd.Context(), o)
			if err != nil {
				return err
			}
			a.showConverted(r, o.Out)
			return nil
		},
	}
	f := c.Flags()
	f.StringVarP(&o.Out, "output", "o", "", "directory of the result, or file where --to is gguf")
	f.StringVar(&o.Format, "to", "", "format of the result")
	f.StringVar(&o.Scheme, "scheme", "", "how compressed-tensors stores weights; without it grids stay as they are")
	f.StringVar(&o.Type, "type", "", "type or mix of GGUF tensors; without it types stay as near as they can")
	f.IntVar(&o.Bits, "bits", 0, "bits of a code: 2, 3, 4 or 8")
	f.IntVar(&o.Group, "group-size", 0, "columns that share a scale: 32, 64, 128, or -1 for whole rows")
	f.BoolVar(&o.Asymmetric, "asymmetric", false, "grids with zero points")
	f.StringVar(&o.DType, "dtype", "keep", "type of tensors that are not quantized: keep, f32, f16, bf16")
	f.StringArrayVar(&o.Ignore, "ignore", nil, "module to leave unquantized: a name, or re:<regular expression>; may be repeated")
	f.StringArrayVar(&o.Rename, "rename", nil, "PATTERN=REPLACEMENT for names of tensors, a regular expression; may be repeated")
	f.BoolVar(&o.Head, "quantize-head", false, "quantize the output head too")
	f.BoolVar(&o.Untie, "untie", false, "write a tied output head as a tensor of its own")
	f.StringVar(&shard, "max-shard-size", "", "size of a file of the result, such as 5GB; default one file")
	f.BoolVar(&o.Lossless, "lossless", false, "fail where a value would change")
	f.BoolVar(&o.Prove, "prove", false, "measure the error of every value, not of one in sixteen where that is slower than writing")
	f.BoolVar(&dry, "dry-run", false, "say what would be written, and how large, and write nothing")
	f.StringVar(&report, "report", "", "file for what became of each tensor, as JSON")
	f.StringVar(&imp.Data, "calib", "", "text or token ids: errors of blocks are weighted by what the model makes of them")
	f.StringVar(&matrix, "imatrix", "", "importance matrix of llama.cpp, or of compress imatrix: errors of blocks are weighted by it")
	f.IntVar(&imp.Windows, "windows", 0, "windows of --calib to take; 0 for all")
	f.IntVar(&imp.Length, "length", 512, "tokens of a window of --calib")
	f.StringVar(&imp.BOS, "bos", "auto", "first id of every window of --calib: auto, none, or an id")
	f.BoolVar(&imp.AllowRemoteCode, "allow-remote-code", false, "accept checkpoints that bring Python code")
	a.precisionFlag(c, &precision)
	required(c, "to")
	return c
}

// importance returns what errors of blocks are weighted by, nil for nothing: what a file says, or what the model makes of the data of o.
func importance(ctx context.Context, file string, c convert.Options, o pipeline.EvalOptions) (*imatrix.Matrix, error) {
	switch {
	case file == "" && o.Data == "":
		return nil, nil
	case file != "" && o.Data != "":
		return nil, usageError{fmt.Errorf("give either --imatrix or --calib")}
	case c.Format != convert.GGUF || c.Type == "":
		return nil, usageError{fmt.Errorf("--imatrix and --calib weight the errors of blocks: they have no use without --to gguf --type TYPE")}
	case file != "":
		return imatrix.Read(file)
	}
	return pipeline.ImportanceMatrix(ctx, o, false)
}

// showConverted prints what was done: a line for each kind of tensor, the proof and the files.
func (a *app) showConverted(r *convert.Result, out string) {
	lines := []string{fmt.Sprintf("compress convert  %s  %s -> %s, %s -> %s", r.Model, r.From, r.To, ui.Bytes(r.BytesBefore), ui.Bytes(r.BytesAfter))}
	for _, row := range r.Rows() {
		line := fmt.Sprintf("  %-11s %4d tensors  %s -> %s", row.How, row.Tensors, row.From, row.To)
		switch {
		case row.How == convert.Copied || row.How == convert.Computed || row.How == convert.Carried:
		case row.Changed == 0 && row.Sampled:
			line += fmt.Sprintf(", none of the %d values changed that were compared", row.Values)
		case row.Changed == 0 && row.Values > 0:
			line += ", no value changed"
		case row.Values > 0:
			line += fmt.Sprintf(", relative error %.3g at most (%s)", row.Worst, row.WorstTensor)
		}
		lines = append(lines, line)
	}
	if p := r.Proof; p != nil {
		lines = append(lines, fmt.Sprintf("  proof       %d weights read again: all %d values equal the source's bit for bit", p.Weights, p.Values))
	}
	for _, f := range r.Files {
		lines = append(lines, fmt.Sprintf("  %s  %s", f.Name, ui.Bytes(f.Bytes)))
	}
	a.ui.Show(ui.Result{Name: "conversion", Data: r, Lines: lines})
	if out == "" {
		return
	}
	if r.To == convert.GGUF { // of several files, the first
		out = filepath.Join(filepath.Dir(out), r.Files[0].Name)
	}
	a.next("Written.", "compress inspect "+quoted(out))
}
