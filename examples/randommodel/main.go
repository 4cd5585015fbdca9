// Command randommodel writes a random-weight checkpoint of a real model's shape, and token ids to calibrate it with, so
// that memory and speed can be measured without downloading anything:
//
//	go run ./examples/randommodel -shape llama-3.2-1b -o /tmp/llama-1b-random
//
// The weights are normal values of the usual scale; those of the shapes named scratch are what an untrained model starts
// from. They are a pure function of the seed, are made while they are written, and never stand in memory. No tokenizer is
// written: the vocabulary is that of the real model, whose tokenizer is not ours to ship. calib.jsonl and heldout.jsonl
// hold token ids instead of text.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"modelpress/formats"
	"modelpress/internal/testmodel"
	"modelpress/internal/ui"
)

var shapes = map[string]func() testmodel.Options{
	"llama-135m":   testmodel.Llama135M,
	"llama-3.2-1b": testmodel.Llama32x1B,
	"llama-2-7b":   testmodel.Llama27B,
	"llama-3-8b":   testmodel.Llama38B,
	"tiny":         func() testmodel.Options { return testmodel.Options{G: 2, V: 1024, Context: 512} },

	"scratch-llama":      func() testmodel.Options { return testmodel.Scratch("llama") },
	"scratch-llama-tied": func() testmodel.Options { return testmodel.Scratch("llama-tied") },
	"scratch-gpt2":       func() testmodel.Options { return testmodel.Scratch("gpt2") },
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "randommodel:", err)
		os.Exit(1)
	}
}

type settings struct {
	options       testmodel.Options
	dir           string
	shard         int64
	windows, span int
}

func parse(args []string) (settings, error) {
	fs := flag.NewFlagSet("randommodel", flag.ContinueOnError)
	shape := fs.String("shape", "llama-3.2-1b", "shape of the model: "+shapeNames())
	dir := fs.String("o", "", "directory to write; it must not exist")
	layers := fs.Int("layers", 0, "number of decoder blocks (0: as many as the shape has)")
	context := fs.Int("context", 0, "positions in the configuration (0: as many as the shape has)")
	dtype := fs.String("dtype", "bf16", "bf16, f16 or f32")
	shard := fs.String("shard", "1GB", "largest size of a weights file, such as 500MB")
	seed := fs.Uint64("seed", 1, "seed of all values")
	windows := fs.Int("windows", 8, "rows of token ids in calib.jsonl, and half as many in heldout.jsonl")
	span := fs.Int("length", 512, "token ids in a row")
	if err := fs.Parse(args); err != nil {
		return settings{}, err
	}
	build, ok := shapes[*shape]
	if !ok {
		return settings{}, fmt.Errorf("unknown shape %q; known: %s", *shape, shapeNames())
	}
	if *dir == "" {
		return settings{}, fmt.Errorf("-o is missing: where to write")
	}
	s := settings{options: build(), dir: *dir, windows: *windows, span: *span}
	if *layers > 0 {
		s.options.Layers = *layers
	}
	if *context > 0 {
		s.options.Context = *context
	}
	s.options.Seed = *seed
	var err error
	if s.options.DType, err = formats.ParseDType(strings.ToUpper(*dtype)); err != nil {
		return settings{}, err
	}
	if d := s.options.DType; d != formats.BF16 && d != formats.F16 && d != formats.F32 {
		return settings{}, fmt.Errorf("dtype %s is none of bf16, f16 and f32", d)
	}
	if s.windows < 0 || s.span < 1 {
		return settings{}, fmt.Errorf("%d rows of %d token ids", s.windows, s.span)
	}
	if s.shard, err = ui.ParseBytes(*shard); err != nil {
		return settings{}, err
	}
	return s, nil
}

func shapeNames() string {
	var names []string
	for n := range shapes {
		names = append(names, n)
	}
	sort.Strings(names)
	return strings.Join(names, ", ")
}

func run(args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		return err
	}
	m := testmodel.New(s.options)
	if err := m.Write(s.dir, s.shard); err != nil {
		return err
	}
	if err := writeIDs(filepath.Join(s.dir, "calib.jsonl"), s, s.windows, 1); err != nil {
		return err
	}
	if err := writeIDs(filepath.Join(s.dir, "heldout.jsonl"), s, (s.windows+1)/2, 2); err != nil {
		return err
	}
	return report(m, s.dir)
}

// writeIDs writes rows of token ids, one JSON object {"ids":[…]} a line.
func writeIDs(path string, s settings, rows int, stream uint64) error {
	var b strings.Builder
	for _, ids := range testmodel.Windows(rows, s.span, s.options.V, s.options.Seed*2+stream) {
		b.WriteString(`{"ids":[`)
		for i, id := range ids {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "%d", id)
		}
		b.WriteString("]}\n")
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func report(m *testmodel.Model, dir string) error {
	var params, bytes int64
	for _, t := range m.Tensors() {
		n, err := t.Elements()
		if err != nil {
			return err
		}
		params += n
		bytes += n * int64(t.DType.Size())
	}
	fmt.Printf("%s: %d tensors, %d parameters, %d bytes of weights\n", dir, len(m.Tensors()), params, bytes)
	return nil
}
