// Command llamacheck proves GGUF files by llama.cpp. It has these parts, and check.sh runs all of them:
//
//	llamacheck perplexity -compress PROGRAM -logits PROGRAM -model DIR -data IDS [-types f32,q8_0]
//
// converts a checkpoint to each type and compares how well llama.cpp (logits.cpp) and compress eval say that the file
// predicts the same windows of token ids; where the checkpoint has reference logits, llama.cpp's for f32 are held against
// them.
//
//	llamacheck tensors [-same] -source F32.gguf OURS.gguf THEIRS.gguf
//
// compares a quantized file of ours with one of llama-quantize's, tensor by tensor: the bytes, or how far each is from the
// values.
//
//	llamacheck windows -model DIR -gguf F32.gguf -text FILE -o IDS.npy
//	llamacheck imatrix OURS.gguf THEIRS.gguf
//
// cut a text into the windows that llama-imatrix takes from it, and compare what compress imatrix measures on them with what
// llama-imatrix does.
//
// The exit code is 6 where a bound is passed, 1 for all else that fails.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
)

// failed says that the comparison was made and did not turn out well.
type failed struct{ what string }

func (f *failed) Error() string { return f.what }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "llamacheck:", err)
	var f *failed
	if errors.As(err, &f) {
		os.Exit(6)
	}
	os.Exit(1)
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "perplexity":
			return perplexities(ctx, args[1:], out)
		case "tensors":
			return tensors(args[1:], out)
		case "windows":
			return texts(args[1:])
		case "imatrix":
			return imatrices(args[1:], out)
		}
	}
	return errors.New("usage: llamacheck perplexity|tensors|windows|imatrix FLAGS")
}
