package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"

	"modelpress/formats/ggml"
	"modelpress/formats/gguf"
)

// chunk is how many values of a tensor are compared at a time.
const chunk = 1 << 18

// distance is how two quantized tensors lie to the values that both were made of.
type distance struct {
	equal        bool
	ours, theirs float64 // mean squared error
}

// tensors compares two files and prints a line for each tensor, or, without -all, for each whose bytes differ.
func tensors(args []string, out io.Writer) error {
	f := flag.NewFlagSet("tensors", flag.ContinueOnError)
	source := f.String("source", "", "GGUF file of the values themselves, in F32")
	all := f.Bool("all", false, "print also the tensors that have the same bytes")
	same := f.Bool("same", false, "fail where the bytes of a tensor differ, whichever is nearer")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *source == "" || f.NArg() != 2 {
		return errors.New("usage: llamacheck tensors -source F32.gguf OURS.gguf THEIRS.gguf")
	}
	c := &comparison{out: out, all: *all, same: *same}
	for i, path := range []string{*source, f.Arg(0), f.Arg(1)} {
		m, err := gguf.Open(path)
		if err != nil {
			return err
		}
		defer m.Close()
		c.files[i] = m
	}
	return c.run()
}

// comparison is one of two files by a third.
type comparison struct {
	files [3]*gguf.File // the values, ours, theirs
	out   io.Writer
	all   bool
	same  bool // other bytes are a failure

	equal, better, even, worse int // tensors: same bytes, ours nearer to the values, as near, farther
	unlike                     int // tensors of one file alone, or of another type or shape
}

func (c *comparison) run() error {
	for _, t := range c.files[1].Tensors() {
		if err := c.tensor(t); err != nil {
			return err
		}
	}
	for _, t := range c.files[2].Tensors() {
		if _, ok := c.files[1].Find(t.Name); !ok {
			c.odd("%s is not in our file", t.Name)
		}
	}
	fmt.Fprintf(c.out, "%d tensors: %d with the same bytes, %d nearer to the values than llama.cpp's, %d as near, %d farther, %d not alike\n",
		len(c.files[1].Tensors()), c.equal, c.better, c.even, c.worse, c.unlike)
	if c.worse+c.unlike > 0 {
		return &failed{fmt.Sprintf("%d tensors are farther from the values than llama.cpp's, %d not alike", c.worse, c.unlike)}
	}
	if n := c.better + c.even; c.same && n > 0 {
		return &failed{fmt.Sprintf("%d tensors have other bytes than llama.cpp's", n)}
	}
	return nil
}

// odd prints and counts a tensor that cannot be compared.
func (c *comparison) odd(format string, args ...any) {
	fmt.Fprintf(c.out, format+"\n", args...)
	c.unlike++
}

// tensor compares one tensor of ours with theirs.
func (c *comparison) tensor(t gguf.Tensor) error {
	other, ok := c.files[2].Find(t.Name)
	if !ok {
		c.odd("%s is not in llama.cpp's file", t.Name)
		return nil
	}
	if t.Type != other.Type || !slices.Equal(t.Shape, other.Shape) {
		c.odd("%s is %v %v, llama.cpp's %v %v", t.Name, t.Type, t.Shape, other.Type, other.Shape)
		return nil
	}
	d, err := c.measure(t)
	if err != nil {
		return err
	}
	word := ""
	switch {
	case d.equal:
		c.equal, word = c.equal+1, "same bytes"
	case d.ours < d.theirs:
		c.better, word = c.better+1, "nearer"
	case d.ours == d.theirs:
		c.even, word = c.even+1, "as near"
	default:
		c.worse, word = c.worse+1, "FARTHER"
	}
	if c.all || !d.equal {
		fmt.Fprintf(c.out, "%-28s %-5v %-10s mean squared error %.6g, llama.cpp's %.6g\n", t.Name, t.Type, word, d.ours, d.theirs)
	}
	return nil
}

// measure reads a tensor in chunks from all three files.
func (c *comparison) measure(t gguf.Tensor) (distance, error) {
	d := distance{equal: true}
	source, ok := c.files[0].Find(t.Name)
	if !ok || source.Type != ggml.F32 || !slices.Equal(source.Shape, t.Shape) {
		return d, fmt.Errorf("%s: %s is not there in F32 and of shape %v", c.files[0].Name(), t.Name, t.Shape)
	}
	n, err := t.Elements()
	if err != nil {
		return d, err
	}
	if t.Type.Block() == 0 || chunk%t.Type.Block() != 0 {
		return d, fmt.Errorf("%s: type %v cannot be compared", t.Name, t.Type)
	}
	for at := int64(0); at < n; at += chunk {
		m := min(chunk, n-at)
		values, _, err := c.read(0, source, at, m)
		if err != nil {
			return d, err
		}
		var rows [2][]float32
		var raw [2][]byte
		for i := range rows {
			if rows[i], raw[i], err = c.read(i+1, t, at, m); err != nil {
				return d, err
			}
		}
		d.equal = d.equal && bytes.Equal(raw[0], raw[1])
		d.ours += squares(rows[0], values)
		d.theirs += squares(rows[1], values)
	}
	d.ours, d.theirs = d.ours/float64(n), d.theirs/float64(n)
	return d, nil
}

// read returns n values of a tensor from the at-th on, and their bytes. Both are multiples of a block.
func (c *comparison) read(file int, t gguf.Tensor, at, n int64) ([]float32, []byte, error) {
	block, size := int64(t.Type.Block()), int64(t.Type.Size())
	raw, values := make([]byte, n/block*size), make([]float32, n)
	if err := c.files[file].ReadAt(t.Name, raw, at/block*size); err != nil {
		return nil, nil, err
	}
	return values, raw, ggml.Dequantize(t.Type, values, raw)
}

// squares is the sum of squared differences.
func squares(a, b []float32) float64 {
	var sum float64
	for i, v := range a {
		d := float64(v) - float64(b[i])
		sum += float64(d * d)
	}
	return sum
}
