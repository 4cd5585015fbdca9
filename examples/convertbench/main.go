// Command convertbench compares the speed and the memory of compress convert with llama.cpp's own way from a checkpoint to a GGUF
// file, and with what the machine needs to read, hash and write the same bytes. compare.sh makes a model and runs it:
//
//	LLAMA=PREFIX CONVERTER="python3 convert_hf_to_gguf.py" sh examples/convertbench/compare.sh
//
// All take turns, round by round, each in a process of its own, from a page cache that has been emptied of the checkpoint, and until
// the file is on the disk: the time of an fsync is counted for everyone. Medians are printed:
//
//	floor       all weight files read in order by two readers, hashed with SHA-256, and as many bytes written as the file has
//	ours        compress convert
//	llama.cpp   its converter; for a quantized type the converter to F16 and then llama-quantize
//	quantize    the second half of that: llama-quantize, which finds the F16 file in the page cache
//	converter   the converter to Q8_0 at once
//
// The resident set is the largest of the processes that ran one after the other. What a program maps of the page cache counts: of
// llama.cpp's that is the checkpoint. It is never below that of this program, about 10 MiB.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "convertbench:", err)
		os.Exit(1)
	}
}

// settings are the options, for the comparison and for the process of the floor.
type settings struct {
	model, work        string
	compress, quantize string
	convertFlags       string
	converter, types   []string
	rounds, threads    int
	warm               bool
	floor              string
	write              int64
}

func parse(args []string) (*settings, error) {
	s := &settings{}
	f := flag.NewFlagSet("convertbench", flag.ContinueOnError)
	f.StringVar(&s.model, "model", "", "directory of a checkpoint")
	f.StringVar(&s.work, "work", "", "directory for what is written, on the disk that is to be measured; made if it is missing")
	f.StringVar(&s.compress, "compress", "", "the built program")
	f.StringVar(&s.convertFlags, "convert-flags", "", "more flags of compress convert, such as --mem-limit 1GiB")
	f.StringVar(&s.quantize, "quantize", "", "llama.cpp's llama-quantize; empty: without")
	converter := f.String("converter", "", "command of llama.cpp's converter, before MODEL --outtype TYPE --outfile FILE; empty: without")
	types := f.String("types", "f16,q8_0", "what to convert to")
	f.IntVar(&s.rounds, "rounds", 3, "turns of each")
	f.IntVar(&s.threads, "threads", 2, "threads of llama-quantize, and readers of the floor")
	f.BoolVar(&s.warm, "warm", false, "leave the page cache as it is")
	f.StringVar(&s.floor, "floor", "", "read and hash the model, and write this file, in this process")
	f.Int64Var(&s.write, "write", 0, "with -floor: bytes to write")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if s.model == "" || f.NArg() > 0 || s.rounds < 1 || s.threads < 1 || s.write < 0 {
		return nil, errors.New("-model is needed, and positive numbers")
	}
	if s.floor == "" && (s.work == "" || s.compress == "") {
		return nil, errors.New("-work and -compress are needed")
	}
	s.converter, s.types = strings.Fields(*converter), strings.Split(*types, ",")
	return s, nil
}

func run(ctx context.Context, args []string, out io.Writer) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	files, total, err := weights(s.model)
	if err != nil {
		return err
	}
	if s.floor != "" {
		return floor(files, total, s.floor, s.write, s.threads)
	}
	return s.compare(ctx, out, files, total)
}
