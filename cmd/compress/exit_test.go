package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/internal/arch"
	"modelpress/internal/pipeline"
)

// TestExitCodes has every row of docs/EXIT-CODES.md, for errors as they are and wrapped.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{usageError{errors.New("flag")}, 3},
		{&pipeline.Error{Kind: pipeline.KindUsage, Err: errors.New("recipe")}, 3},
		{formats.Errorf("f", "t", "bad"), 4},
		{arch.ErrUnsupported, 4},
		{planfile.ErrMalformed, 4},
		{planfile.ErrVersion, 4},
		{planfile.ErrTooLarge, 4},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, 4},
		{planfile.ErrEdited, 5},
		{&pipeline.Error{Kind: pipeline.KindStale, Err: errors.New("drift")}, 5},
		{pipeline.Failed("gate"), 6},
		{formats.ErrNoSpace, 7},
		{&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, 7},
		{formats.Errorf("f", "", "%w", syscall.ENOSPC), 7},
		{syscall.ENOMEM, 7},
		{&pipeline.Error{Kind: pipeline.KindResource, Err: formats.Errorf("f", "", "full")}, 7},
		{&pipeline.Error{Kind: pipeline.KindExists, Err: errors.New("there")}, 8},
		{errChanges, 10},
		{interrupted{os.Interrupt}, 130},
		{context.Canceled, 130},
		{interrupted{syscall.SIGTERM}, 143},
	} {
		if got := exitCode(c.err); got != c.code {
			t.Errorf("%v: %d, want %d", c.err, got, c.code)
		}
		if c.err == nil {
			continue
		}
		if got := exitCode(fmt.Errorf("layer 3: %w", errors.Join(c.err, errors.New("and closing failed")))); got != c.code {
			t.Errorf("%v, wrapped: %d, want %d", c.err, got, c.code)
		}
	}
}

// fullDisk is a file that takes no byte.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestOutputNobodyReceives: output that cannot be written is no success.
func TestOutputNobodyReceives(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--json", "version"}} {
		var errs bytes.Buffer
		if got := run(args, fullDisk{}, &errs); got != exitResource {
			t.Errorf("%v: exit code %d, want %d (%s)", args, got, exitResource, errs.String())
		}
	}
	var errs bytes.Buffer
	if run([]string{"version"}, fullDisk{}, &errs); !strings.Contains(errs.String(), "no space left") {
		t.Errorf("stderr: %q", errs.String())
	}
}
