// Command compress plans and applies the compression of Hugging Face checkpoints. `compress help` lists the commands,
// docs/EXIT-CODES.md the exit codes.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is the release of the program; it stands in every plan and report.
const version = "0.1.0"

// gcPercent keeps garbage at a third of what is live: the heap is a few large buffers without pointers, so that collecting
// more often costs next to nothing, and the peak stays near the sum of the buffers.
const gcPercent = 33

func main() {
	debug.SetGCPercent(gcPercent)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit code. SIGINT and SIGTERM cancel the context; work in progress stops
// at the next safe point and stays resumable.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(sigs)
	go func() {
		select {
		case s := <-sigs:
			cancel(interrupted{s})
		case <-ctx.Done():
		}
	}()
	a := &app{stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.began {
		err = usageError{err}
	}
	var sig interrupted
	if err != nil && errors.As(context.Cause(ctx), &sig) {
		err = sig
	}
	if err == nil && a.ui != nil {
		err = a.ui.Err() // output that nobody received is no success
	}
	code := exitCode(err)
	a.report(err, code)
	return code
}

// interrupted is the cause of a context that a signal cancelled.
type interrupted struct{ sig os.Signal }

func (i interrupted) Error() string {
	return "interrupted by " + i.sig.String() + "; run the same command again to continue"
}
