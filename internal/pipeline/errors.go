package pipeline

import (
	"errors"
	"fmt"
)

// Kind classifies an error for the exit code of the command. The numbers are the exit codes of docs/EXIT-CODES.md.
type Kind int

// The kinds of failure that a user can act on.
const (
	KindUsage    Kind = 3 // usage or recipe
	KindInput    Kind = 4 // malformed, unsafe or unsupported input
	KindStale    Kind = 5 // plan edited, or made from something else
	KindGate     Kind = 6 // a gate or a verification failed
	KindResource Kind = 7 // disk, memory budget, device
	KindExists   Kind = 8 // output exists or is locked
)

// Error is a failure with its class and, where there is one, what to do next.
type Error struct {
	Kind Kind
	Err  error
	Hint string
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + "\n  next: " + e.Hint
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func errKind(k Kind, hint, format string, args ...any) error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...), Hint: hint}
}

// KindOf returns the class of the outermost classified error in the chain, 0 where there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return 0
}
