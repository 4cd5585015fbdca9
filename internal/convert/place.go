package convert

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"modelpress/formats/gguf"
	"modelpress/internal/arch"
	"modelpress/internal/checkpoint"
	"modelpress/internal/pipeline"
)

// checkOut looks at the place of the result: nothing is there, its directory is, and that is none of the model's. Of a GGUF file that turns
// out to be several, their names are looked at later.
func (o *Options) checkOut() error {
	if o.Format != GGUF {
		return pipeline.CheckOutputDir(o.Model, o.Out)
	}
	if gguf.IsPart(o.Out) {
		return usage("choose another name: parts of a split file are named after it", "output %s has the name of a part of a split file", filepath.Base(o.Out))
	}
	dir, err := realPath(filepath.Dir(o.Out))
	if err != nil {
		return usage("create its directory first", "output: %w", err)
	}
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return usage("create its directory first", "output: %s is no directory", filepath.Base(dir))
	}
	if model, err := realPath(o.Model); err == nil && within(dir, model) {
		return usage("choose another directory with -o", "the output lies inside of the model's directory")
	}
	return absent([]string{o.Out})
}

// CheckBeside refuses a file, to be written beside the result, that would take its place or lie inside of the model.
func (o *Options) CheckBeside(path string) error {
	dir, err := realPath(filepath.Dir(path))
	if err != nil {
		return usage("create its directory first", "%s: %w", filepath.Base(path), err)
	}
	file := filepath.Join(dir, filepath.Base(path))
	if out, err := realPath(filepath.Dir(o.Out)); o.Out != "" && err == nil && filepath.Join(out, filepath.Base(o.Out)) == file {
		return usage("choose another name", "%s is where the result goes", filepath.Base(path))
	}
	if model, err := realPath(o.Model); err == nil && within(file, model) {
		return usage("choose another name", "%s lies inside of the model", filepath.Base(path))
	}
	return nil
}

// within reports whether a path is a directory or lies inside of it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, string(filepath.Separator))+string(filepath.Separator))
}

func realPath(p string) (string, error) {
	abs, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	var at *os.PathError
	if errors.As(err, &at) { // no directories in messages
		err = fmt.Errorf("%s: %w", filepath.Base(at.Path), at.Err)
	}
	return real, err
}

// absent refuses to write over files.
func absent(names []string) error {
	for _, n := range names {
		if _, err := os.Lstat(n); err == nil {
			return &pipeline.Error{Kind: pipeline.KindExists, Err: fmt.Errorf("convert: output %s exists", filepath.Base(n)), Hint: "choose another name with -o, or remove it"}
		}
	}
	return nil
}

// checkModel refuses what the model has no place for.
func (o *Options) checkModel(c *checkpoint.Checkpoint) error {
	if c.Arch == nil {
		if o.Untie {
			return usage("", "--untie: which tensors of the model are its embedding and its output head is not known: %v", c.Unknown)
		}
		return nil
	}
	if o.Head && c.Arch.Tied && !o.Untie {
		return usage("give --untie too, which makes the output head a tensor of its own", "--quantize-head: the output head is the embedding")
	}
	var unused []string
	for _, rule := range o.Ignore {
		one := Options{Ignore: []string{rule}}
		if !slices.ContainsFunc(modules(c.Arch), one.ignores) {
			unused = append(unused, rule)
		}
	}
	if len(unused) > 0 {
		return usage("list the modules with `compress inspect --detail=tensor`", "--ignore matches no module: %s", strings.Join(unused, ", "))
	}
	return nil
}

// modules lists the linear modules that can be quantized, the output head among them.
func modules(m *arch.Model) []string {
	list := []string{arch.HeadModule}
	for l := range m.Layers {
		for _, lin := range m.Layers[l].Linears {
			if lin.Present() {
				list = append(list, lin.Module())
			}
		}
	}
	return list
}
