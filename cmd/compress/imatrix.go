package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"modelpress/formats/imatrix"
	"modelpress/internal/pipeline"
	"modelpress/internal/ui"
)

func (a *app) imatrixCmd() *cobra.Command {
	var o pipeline.EvalOptions
	var out, precision string
	var output bool
	c := &cobra.Command{
		Use:   "imatrix MODEL --calib FILE -o FILE",
		Short: "Measure what errors of each weight's columns cost, for llama.cpp's quantized types",
		Long: `imatrix runs a model over calibration data and adds up the squares of what each weight of a block reads. The file is an importance matrix
as llama-imatrix writes it: convert --imatrix and llama-quantize --imatrix take it.`,
		Example: `  compress imatrix llama --calib text.jsonl --windows 128 -o imatrix.gguf
  compress convert llama --to gguf --type q4_k_m --imatrix imatrix.gguf -o llama-q4.gguf`,
		Args: exactArgs("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.usePrecision(precision); err != nil {
				return err
			}
			if err := newFile(out); err != nil {
				return err
			}
			o.ModelDir, o.Env = args[0], a.env()
			m, err := pipeline.ImportanceMatrix(cmd.Context(), o, output)
			if err != nil {
				return err
			}
			if err := imatrix.Write(out, m); err != nil {
				return err
			}
			return a.showImatrix(m, args[0], out)
		},
	}
	f := c.Flags()
	f.StringVarP(&out, "output", "o", "imatrix.gguf", "file to write")
	f.StringVar(&o.Data, "calib", "", "text or token ids, of the kinds that plan --calib takes")
	f.IntVar(&o.Windows, "windows", 0, "windows to take; 0 for all")
	f.IntVar(&o.Skip, "skip", 0, "windows to leave out at the start")
	f.IntVar(&o.Length, "length", 512, "tokens of a window; longer rows of ids are cut to it")
	f.StringVar(&o.BOS, "bos", "auto", "first id of every window: auto (the model's own for text, none for token ids), none, or an id")
	f.BoolVar(&o.ReplaceFirst, "replace-first", false, "the first id takes the place of each window's first token, as in llama-imatrix")
	f.BoolVar(&output, "process-output", false, "measure the output head too, where it is a tensor of its own")
	f.BoolVar(&o.AllowRemoteCode, "allow-remote-code", false, "accept checkpoints that bring Python code")
	a.precisionFlag(c, &precision)
	required(c, "calib")
	return c
}

// newFile refuses a path that cannot become a new file, before any work goes into it.
func newFile(path string) error {
	if err := checkFile(path); err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return &pipeline.Error{Kind: pipeline.KindExists, Err: fmt.Errorf("output %s: %w", filepath.Base(path), fs.ErrExist), Hint: "choose another name with -o, or remove it"}
	}
	return nil
}

// showImatrix says what was written.
func (a *app) showImatrix(m *imatrix.Matrix, model, out string) error {
	info, err := os.Stat(out)
	if err != nil {
		return err
	}
	tokens := int64(m.Entries[0].Counts[0])
	data := map[string]any{"file": filepath.Base(out), "bytes": info.Size(), "entries": len(m.Entries), "windows": m.Chunks, "length": m.ChunkSize, "tokens": tokens}
	a.ui.Show(ui.Result{Name: "imatrix", Data: data, Lines: []string{
		fmt.Sprintf("compress imatrix  %s  %d weights, %d windows of %d tokens  %s", filepath.Base(out), len(m.Entries), m.Chunks, m.ChunkSize, ui.Bytes(info.Size())),
	}})
	a.next("Written.", "compress convert "+quoted(model)+" --to gguf --type q4_k_m --imatrix "+quoted(out)+" -o model.gguf")
	return nil
}
