package main

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/internal/arch"
	"modelpress/internal/pipeline"
)

// The exit codes, stable since version 1; docs/EXIT-CODES.md explains them. 2 is what a Go panic exits with and is never used.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 3
	exitInput       = 4
	exitStale       = 5
	exitGate        = 6
	exitResource    = 7
	exitExists      = 8
	exitChanges     = 10
	exitInterrupted = 130
	exitTerminated  = 143
)

// usageError is a wrong command line.
type usageError struct{ err error }

func (u usageError) Error() string { return u.err.Error() }
func (u usageError) Unwrap() error { return u.err }

// errChanges is returned by plan --detailed-exitcode where the plan would change something.
var errChanges = errors.New("the plan has changes")

// exitCode maps an error to its code. It is the only place that does.
func exitCode(err error) int {
	var input *formats.Error
	var usage usageError
	var sig interrupted
	kind := pipeline.KindOf(err)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errChanges):
		return exitChanges
	case errors.As(err, &sig):
		if sig.sig == syscall.SIGTERM {
			return exitTerminated
		}
		return exitInterrupted
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case kind != 0:
		return int(kind)
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, planfile.ErrEdited):
		return exitStale
	case errors.Is(err, formats.ErrNoSpace), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.ENOMEM):
		return exitResource
	case errors.As(err, &input), errors.Is(err, arch.ErrUnsupported), errors.Is(err, planfile.ErrVersion),
		errors.Is(err, planfile.ErrMalformed), errors.Is(err, planfile.ErrTooLarge), errors.Is(err, fs.ErrNotExist):
		return exitInput
	}
	return exitFailure
}
