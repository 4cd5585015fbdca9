package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// asStored is the kind of file that keeps types and codes as they are.
const asStored = "as-stored"

// settings are the options of the first part.
type settings struct {
	compress, logits, model, data, work, made string
	types                                     []string
	length, count, threads                    int
	most, logitsMost                          float64
}

func parse(args []string) (*settings, error) {
	s := &settings{}
	f := flag.NewFlagSet("perplexity", flag.ContinueOnError)
	f.StringVar(&s.compress, "compress", "", "the built program")
	f.StringVar(&s.logits, "logits", "", "program built from logits.cpp")
	f.StringVar(&s.model, "model", "", "directory of the checkpoint; its ref_logits.npy, if any, belong to the windows of its ref_ids.npy")
	f.StringVar(&s.data, "data", "", "token ids, .npy or .safetensors; empty: ref_ids.npy of the checkpoint")
	f.StringVar(&s.work, "work", "", "directory for the converted files, made if it is missing")
	f.StringVar(&s.made, "made", "", "directory of files TYPE.gguf that were converted before; empty: convert")
	f.IntVar(&s.length, "length", 0, "tokens of a window; 0: as long as the rows of the data")
	f.IntVar(&s.count, "windows", 0, "windows to measure; 0 for all")
	f.IntVar(&s.threads, "threads", runtime.NumCPU(), "threads of llama.cpp")
	f.Float64Var(&s.most, "most", 0.002, "largest relative difference of two perplexities")
	f.Float64Var(&s.logitsMost, "logits-most", 2e-3, "largest difference of a logit from the reference in f32")
	types := f.String("types", "f32,f16,bf16,q8_0,q4_0,q4_k_m,q5_k_m,q6_k", "what to convert to; as-stored keeps types and codes")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if s.compress == "" || s.logits == "" || s.model == "" || s.work == "" || f.NArg() > 0 {
		return nil, errors.New("-compress, -logits, -model and -work are needed")
	}
	if s.data == "" {
		s.data = filepath.Join(s.model, "ref_ids.npy")
	}
	s.types = strings.Split(*types, ",")
	return s, nil
}

// row is what was measured of one type.
type row struct {
	kind          string
	bytes         int64
	theirs, ours  float64
	logits, worst float64 // difference from the reference and its bound, NaN where there is none
}

func (r *row) difference() float64 { return math.Abs(r.theirs/r.ours - 1) }

// perplexities converts and measures every type, and prints the table.
func perplexities(ctx context.Context, args []string, out io.Writer) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	windows, err := readWindows(s.data, s.length, s.count)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.work, 0o755); err != nil {
		return err
	}
	s.length = len(windows[0])
	if err := writeWindows(windows, s.path("ids.npy"), s.path("ids.i32")); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s, %d windows of %d\n%-8s %12s %12s %12s %11s %s\n", filepath.Base(s.model), len(windows), s.length,
		"type", "bytes", "llama.cpp", "compress", "difference", "largest difference of a logit")
	var bad []string
	for _, kind := range s.types {
		r, err := s.measure(ctx, kind)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		fmt.Fprintf(out, "%-8s %12d %12.5f %12.5f %9.4f %% %s\n", kind, r.bytes, r.theirs, r.ours, 100*r.difference(), r.logitsText())
		// Written so that NaN fails.
		if !(r.difference() <= s.most) || !(math.IsNaN(r.worst) || r.logits <= r.worst) {
			bad = append(bad, kind)
		}
	}
	if bad != nil {
		return &failed{"too far apart: " + strings.Join(bad, ", ")}
	}
	return nil
}

func (r *row) logitsText() string {
	if math.IsNaN(r.worst) {
		return "-"
	}
	return fmt.Sprintf("%.2g", r.logits)
}

func (s *settings) path(name string) string { return filepath.Join(s.work, name) }

// measure is one line of the table.
func (s *settings) measure(ctx context.Context, kind string) (*row, error) {
	file, err := s.convert(ctx, kind)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	r := &row{kind: kind, bytes: info.Size(), worst: math.NaN()}
	reference, err := s.reference(kind)
	if err != nil {
		return nil, err
	}
	if r.theirs, err = s.llama(ctx, file, reference != nil); err != nil {
		return nil, err
	}
	if reference != nil {
		got, err := os.ReadFile(s.path("logits.f32"))
		if err != nil {
			return nil, err
		}
		r.worst = s.logitsMost
		if r.logits, err = farthest(floats(got), reference); err != nil {
			return nil, err
		}
	}
	r.ours, err = s.eval(ctx, file)
	return r, err
}

// reference returns the logits to hold those of a type against, nil for none.
func (s *settings) reference(kind string) ([]float32, error) {
	path := filepath.Join(s.model, "ref_logits.npy")
	if kind != "f32" || s.data != filepath.Join(s.model, "ref_ids.npy") {
		return nil, nil
	}
	v, err := readLogits(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return v, err
}

// convert writes the model in a type and returns the file.
func (s *settings) convert(ctx context.Context, kind string) (string, error) {
	if s.made != "" {
		return filepath.Join(s.made, kind+".gguf"), nil
	}
	file := s.path(kind + ".gguf")
	if err := os.RemoveAll(file); err != nil {
		return "", err
	}
	args := []string{"convert", s.model, "--to", "gguf"}
	if kind != asStored {
		args = append(args, "--type", kind)
	}
	_, err := command(ctx, s.compress, append(args, "-o", file)...)
	return file, err
}

// llama returns the perplexity that llama.cpp measures, and keeps its logits where they are wanted.
func (s *settings) llama(ctx context.Context, file string, keep bool) (float64, error) {
	args := []string{file, s.path("ids.i32"), fmt.Sprint(s.length), fmt.Sprint(s.threads)}
	if keep {
		args = append(args, s.path("logits.f32"))
	}
	text, err := command(ctx, s.logits, args...)
	if err != nil {
		return 0, err
	}
	var ppl float64
	_, err = fmt.Sscan(string(text), &ppl)
	return ppl, err
}

// eval returns the perplexity that compress measures on the same file.
func (s *settings) eval(ctx context.Context, file string) (float64, error) {
	text, err := command(ctx, s.compress, "eval", file, "--json", "--data", s.path("ids.npy"), "--length", fmt.Sprint(s.length))
	if err != nil {
		return 0, err
	}
	for _, line := range bytes.Split(text, []byte("\n")) {
		var e struct {
			Name string
			Data struct{ Perplexity *struct{ PPL float64 } }
		}
		if json.Unmarshal(line, &e) == nil && e.Name == "evaluation" && e.Data.Perplexity != nil {
			return e.Data.Perplexity.PPL, nil
		}
	}
	return 0, errors.New("compress eval says no perplexity")
}

// command runs a program and returns its output; an error has what it wrote to stderr.
func command(ctx context.Context, program string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, program, args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}
