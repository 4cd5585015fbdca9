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
	"time"
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

// patience is how long work may take to stop after a signal. Then, or at a second signal, the process ends where it is: a
// partial output is safe against that at every moment, as it is against a crash.
const patience = 1500 * time.Millisecond

// run executes one command line and returns its exit code. SIGINT and SIGTERM cancel the context; work in progress stops
// at the next safe point and stays resumable.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	a := &app{stdout: stdout, stderr: stderr}
	sigs, done := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(sigs, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(sigs)
	defer close(done)
	go func() {
		var sig interrupted
		select {
		case sig.sig = <-sigs:
		case <-done:
			return
		}
		cancel(sig)
		select {
		case <-sigs:
		case <-time.After(patience):
		case <-done:
			return
		}
		if a.ending.CompareAndSwap(false, true) { // the command has not come to its end meanwhile
			a.report(sig, exitCode(sig))
			os.Exit(exitCode(sig))
		}
	}()
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if !a.ending.CompareAndSwap(false, true) {
		select {} // the signal's goroutine ends the process
	}
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
