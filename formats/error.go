package formats

import (
	"fmt"
	"strings"
)

// Error says what is wrong with input: the file, the tensor where one is to blame, and the cause. Commands map it to the
// exit code for rejected input.
type Error struct {
	File   string // base name or path as the user gave it, "" where the values come from no single file
	Tensor string // "" where no single tensor is to blame
	Cause  error
}

// Errorf returns an Error with a formatted cause; %w works as in fmt.Errorf.
func Errorf(file, tensor, format string, args ...any) *Error {
	return &Error{File: file, Tensor: tensor, Cause: fmt.Errorf(format, args...)}
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	switch {
	case e.File == "" && e.Tensor == "":
		return e.Cause.Error()
	case e.File == "":
		fmt.Fprintf(&b, "tensor %q", e.Tensor)
	case e.Tensor != "":
		fmt.Fprintf(&b, " (tensor %q)", e.Tensor)
	}
	b.WriteString(": ")
	b.WriteString(e.Cause.Error())
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }
