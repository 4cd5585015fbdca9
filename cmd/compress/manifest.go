package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"modelpress/formats"
	"modelpress/formats/manifest"
	"modelpress/internal/pipeline"
	"modelpress/internal/ui"
)

func (a *app) manifestCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "manifest",
		Short: "Check attention plans, and convert them to and from the formats of other programs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{errors.New("no subcommand is given: check, export, import or formats")}
		},
	}
	c.AddCommand(a.manifestCheckCmd(), a.manifestExportCmd(), a.manifestImportCmd(), a.manifestFormatsCmd())
	return c
}

func (a *app) manifestCheckCmd() *cobra.Command {
	var model string
	var remote bool
	c := &cobra.Command{
		Use:     "check FILE|DIR [--model DIR]",
		Short:   "List every fault of an attention plan, and compare it with a checkpoint",
		Example: "  compress manifest check llama-int4/attention_plan.json --model llama-int4",
		Args:    exactArgs("FILE|DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := pipeline.CheckPlan(cmd.Context(), args[0], model, remote, a.env())
			if err != nil {
				return err
			}
			return a.showPlanCheck(args[0], p)
		},
	}
	c.Flags().StringVar(&model, "model", "", "checkpoint whose digests the plan must have")
	c.Flags().BoolVar(&remote, "allow-remote-code", false, "accept checkpoints that bring Python code")
	return c
}

// showPlanCheck prints what a plan holds, or its faults; with faults it fails.
func (a *app) showPlanCheck(path string, p *pipeline.PlanCheck) error {
	lines := []string{fmt.Sprintf("%s: %d layers, %d KV heads, %d full at the model's context, requires %v", path, p.Layers, p.KVHeads, p.Full, p.Requires)}
	if len(p.Faults) > 0 {
		lines = p.Faults
	}
	a.ui.Show(ui.Result{Name: "plan_check", Data: p, Lines: lines})
	if n := len(p.Faults); n > 0 {
		return &pipeline.Error{Kind: pipeline.KindInput, Err: fmt.Errorf("%s has %d faults", path, n)}
	}
	if p.Compared {
		a.say("valid, and for this model: weights, headers and configuration have the plan's digests")
	} else {
		a.say("valid; not compared with a model")
	}
	return nil
}

func (a *app) manifestExportCmd() *cobra.Command {
	var format, out string
	var o manifest.Options
	c := &cobra.Command{
		Use:   "export PLAN --format F -o PATH [--lossy]",
		Short: "Write an attention plan in the format of another program",
		Example: `  compress manifest export llama-int4/attention_plan.json --format duo -o duo
  compress manifest export llama-int4/attention_plan.json --format layer-types --lossy -o layer_types.json`,
		Args: exactArgs("PLAN"),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := pipeline.FormatNamed(format)
			if err != nil {
				return err
			}
			if o.Length < 0 || o.Length > 1<<30 {
				return usageError{fmt.Errorf("--length %d: want 0 to %d", o.Length, 1<<30)}
			}
			if err := checkNew(out); err != nil {
				return err
			}
			x, err := pipeline.ExportPlan(args[0], f, o)
			if err != nil {
				return err
			}
			if err := writeExported(out, f.Dir, x.Files); err != nil {
				return err
			}
			a.showConversion("export", f, x.Losses, x.Notes)
			a.say("Wrote %s.", out)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&format, "format", "", "one of compress manifest formats (required)")
	f.StringVarP(&out, "output", "o", "", "file to write, or directory for a format of several files (required)")
	f.BoolVar(&o.Lossy, "lossy", false, "convert although something is lost, and say what")
	f.IntVar(&o.Length, "length", 0, "tokens at which lost savings are counted; 0 for the model's context, at most 131072")
	required(c, "format", "output")
	return c
}

func (a *app) manifestImportCmd() *cobra.Command {
	var format, out string
	var sparsity float64
	var o pipeline.ImportPlanOptions
	c := &cobra.Command{
		Use:     "import PATH --format F --model DIR [-o PLAN]",
		Short:   "Read an attention plan from the format of another program, for a checkpoint",
		Example: "  compress manifest import attn_patterns/llama/run --format duo --sparsity 0.5 --model llama -o attention_plan.json",
		Args:    exactArgs("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Format, err = pipeline.FormatNamed(format); err != nil {
				return err
			}
			if cmd.Flags().Changed("sparsity") {
				o.Options.Sparsity = &sparsity
			}
			if err := checkImport(&o.Options); err != nil {
				return err
			}
			if err := checkNew(out); err != nil {
				return err
			}
			o.Path, o.Tool, o.Env = args[0], tool(), a.env()
			in, doc, err := pipeline.ImportPlan(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := formats.WriteFileAtomic(out, doc); err != nil {
				return err
			}
			a.showConversion("import", o.Format, in.Losses, in.Notes)
			a.next(fmt.Sprintf("Wrote %s.", out), fmt.Sprintf("compress manifest check %s --model %s", quoted(out), quoted(o.ModelDir)))
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&format, "format", "", "one of compress manifest formats (required)")
	f.StringVar(&o.ModelDir, "model", "", "checkpoint that the plan is for (required)")
	f.StringVarP(&out, "output", "o", manifest.FileName, "attention plan to write")
	f.Float64Var(&sparsity, "sparsity", 0.5, "share of KV heads that stream, for formats that hold scores")
	f.IntVar(&o.Options.Sink, "sink", 0, "leading tokens that streaming heads keep, with --recent; by default what the format says")
	f.IntVar(&o.Options.Recent, "recent", 0, "latest tokens that streaming heads keep")
	f.IntVar(&o.Options.Stride, "stride", 0, "table to take where there is one for each stride (xattention)")
	f.BoolVar(&o.AllowRemoteCode, "allow-remote-code", false, "accept checkpoints that bring Python code")
	required(c, "format", "model")
	return c
}

// checkImport refuses sizes that mean nothing.
func checkImport(o *manifest.Options) error {
	const most = 1 << 30
	switch {
	case o.Sparsity != nil && !(*o.Sparsity >= 0 && *o.Sparsity <= 1):
		return usageError{fmt.Errorf("--sparsity %v: want 0 to 1", *o.Sparsity)}
	case o.Sink < 0 || o.Recent < 0 || o.Stride < 0 || o.Sink > most || o.Recent > most || o.Stride > most:
		return usageError{fmt.Errorf("--sink, --recent, --stride: want 0 to %d", most)}
	case o.Sink > 0 && o.Recent == 0:
		return usageError{errors.New("--sink needs --recent")}
	}
	return nil
}

func (a *app) manifestFormatsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "formats",
		Short: "List the formats, who reads them and what they can hold",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			t := &ui.Table{Head: []string{"format", "readers", "files", "loses nothing if"}}
			type row struct {
				Name      string `json:"name"`
				Readers   string `json:"readers"`
				Files     string `json:"files"`
				Condition string `json:"condition"`
			}
			var data []row
			for _, f := range manifest.Formats() {
				data = append(data, row{f.Name, f.Readers, f.Files, f.Condition})
				t.Rows = append(t.Rows, []string{f.Name, f.Readers, f.Files, f.Condition})
			}
			a.ui.Show(ui.Result{Name: "formats", Data: data, Table: t})
			return nil
		},
	}
}

// showConversion prints what got lost and what a reader has to be told.
func (a *app) showConversion(name string, f *manifest.Format, losses []manifest.Loss, notes []string) {
	var lines []string
	for _, l := range losses {
		lines = append(lines, "lost: "+l.What)
	}
	for _, n := range notes {
		lines = append(lines, "note: "+n)
	}
	a.ui.Show(ui.Result{Name: name, Lines: lines, Data: struct {
		Format string          `json:"format"`
		Losses []manifest.Loss `json:"losses"`
		Notes  []string        `json:"notes"`
	}{f.Name, losses, notes}})
}

// checkNew refuses an output that is there, or has no directory.
func checkNew(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return &pipeline.Error{Kind: pipeline.KindExists, Err: fmt.Errorf("output %s exists", path), Hint: "choose another path with -o, or remove it"}
	}
	if fi, err := os.Stat(filepath.Dir(path)); err != nil || !fi.IsDir() {
		return usageError{fmt.Errorf("output %s: create its directory first", path)}
	}
	return nil
}

// writeExported writes the one file of a format, or its directory, which is there whole or not at all.
func writeExported(path string, dir bool, files []manifest.File) error {
	if !dir {
		return formats.WriteFileAtomic(path, files[0].Data)
	}
	part, err := os.MkdirTemp(filepath.Dir(path), filepath.Base(path)+".partial-*")
	if err != nil {
		return err
	}
	for _, f := range files {
		if err = formats.WriteFileAtomic(filepath.Join(part, f.Name), f.Data); err != nil {
			break
		}
	}
	if err == nil {
		err = os.Chmod(part, 0o755)
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	return nil
}
