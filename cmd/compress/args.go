package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"modelpress/formats"
	"modelpress/formats/planfile"
)

// exactArgs asks for one positional argument for each name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return fmt.Errorf("want %d arguments %v, have %d", len(names), names, len(args))
		}
		return nil
	}
}

// detailFlag adds the flag that asks for a line per tensor, and checks its value once the command line is read.
func detailFlag(c *cobra.Command) (tensors func() (bool, error)) {
	v := c.Flags().String("detail", "", "tensor: a line for each tensor")
	return func() (bool, error) {
		if *v != "" && *v != "tensor" {
			return false, usageError{fmt.Errorf("--detail %q: known is tensor", *v)}
		}
		return *v == "tensor", nil
	}
}

// required marks flags without which a command cannot run.
func required(c *cobra.Command, names ...string) {
	for _, n := range names {
		if err := c.MarkFlagRequired(n); err != nil {
			panic(err) // a flag that the command does not define
		}
	}
}

// readPlan reads and checks a plan file.
func readPlan(path string) (*planfile.Plan, []byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, formats.Errorf(path, "", "%w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, planfile.MaxBytes+1))
	if err != nil {
		return nil, nil, formats.Errorf(path, "", "%w", err)
	}
	plan, err := planfile.Decode(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return plan, raw, nil
}

// checkFile refuses a path that cannot become a file, before any work goes into it.
func checkFile(path string) error {
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		return usageError{fmt.Errorf("output %s is there and is no regular file", path)}
	}
	if fi, err := os.Stat(filepath.Dir(path)); err != nil || !fi.IsDir() {
		return usageError{fmt.Errorf("output %s: create its directory first", path)}
	}
	return nil
}

// short is the start of a digest with its prefix, enough to tell two apart by eye.
func short(digest string) string {
	const keep = 12
	start := strings.LastIndexByte(digest, ':') + 1
	if len(digest) > start+keep {
		return digest[:start+keep] + "…"
	}
	return digest
}

// quoted returns a path as a shell takes it: as it is where that is safe, else in single quotes.
func quoted(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:=@%,~", r)
	}
	if path != "" && path[0] != '~' && strings.TrimFunc(path, plain) == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
