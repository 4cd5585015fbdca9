package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"modelpress/calib"
	"modelpress/formats/gguf"
	"modelpress/formats/imatrix"
)

// imatrices compares two importance matrices: they have the same tensors and counts, and means that differ by rounding only. Files of the older
// form have no counts.
func imatrices(args []string, out io.Writer) error {
	f := flag.NewFlagSet("imatrix", flag.ContinueOnError)
	most := f.Float64("most", 1e-3, "largest relative difference of a mean square")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() != 2 {
		return errors.New("usage: llamacheck imatrix OURS.gguf THEIRS.gguf")
	}
	var m [2]*imatrix.Matrix
	for i := range m {
		var err error
		if m[i], err = imatrix.Read(f.Arg(i)); err != nil {
			return err
		}
	}
	c := &sums{counts: m[0].ChunkSize > 0 && m[1].ChunkSize > 0}
	for i := range m[0].Entries {
		c.entry(&m[0].Entries[i], m[1])
	}
	for i := range m[1].Entries {
		if _, ok := m[0].Find(m[1].Entries[i].Tensor); !ok {
			c.unlike = append(c.unlike, m[1].Entries[i].Tensor)
		}
	}
	fmt.Fprintf(out, "importance of %d weights, %d inputs: relative difference from llama-imatrix %.2g in the mean, %.2g at most (%s)\n",
		len(m[0].Entries), c.n, c.total/float64(max(c.n, 1)), c.most, c.where)
	if len(c.unlike) > 0 {
		return &failed{fmt.Sprintf("importance matrices differ in tensors, counts or widths: %v", c.unlike)}
	}
	if !(c.most <= *most) {
		return &failed{fmt.Sprintf("importance differs by %.2g in %s", c.most, c.where)}
	}
	return nil
}

// sums are differences of mean squares.
type sums struct {
	counts      bool // are compared
	n           int
	total, most float64
	where       string
	unlike      []string
}

// entry compares the inputs of a tensor. A difference is relative to the larger of the mean square and a millionth of the tensor's largest.
func (c *sums) entry(e *imatrix.Entry, other *imatrix.Matrix) {
	o, ok := other.Find(e.Tensor)
	if !ok || len(o.Sums) != len(e.Sums) || len(o.Counts) != len(e.Counts) || c.counts && !slices.Equal(o.Counts, e.Counts) {
		c.unlike = append(c.unlike, e.Tensor)
		return
	}
	ours, theirs := e.Mean(), o.Mean()
	largest := float64(slices.Max(theirs))
	for i, v := range theirs {
		d := math.Abs(float64(ours[i])-float64(v)) / max(float64(v), 1e-6*largest, math.SmallestNonzeroFloat64)
		c.n, c.total = c.n+1, c.total+d
		if d > c.most || math.IsNaN(d) {
			c.most, c.where = d, fmt.Sprintf("%s, input %d", e.Tensor, i)
		}
	}
}

// texts cuts a text into the windows that llama-imatrix takes from it (tools/imatrix/imatrix.cpp, compute_imatrix), as token ids.
func texts(args []string) error {
	f := flag.NewFlagSet("windows", flag.ContinueOnError)
	model := f.String("model", "", "directory of the checkpoint, with its tokenizer.json")
	source := f.String("gguf", "", "GGUF file of it, which says whether windows begin with a token of their own")
	text := f.String("text", "", "file of text")
	length := f.Int("length", 512, "tokens of a window")
	count := f.Int("windows", 0, "windows to take; 0 for all")
	ids := f.String("o", "", "file for the ids, .npy")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *model == "" || *source == "" || *text == "" || *ids == "" || *length < 2 || f.NArg() > 0 {
		return errors.New("-model, -gguf, -text and -o are needed")
	}
	stream, first, err := tokens(*model, *source, *text)
	if err != nil {
		return err
	}
	windows, err := cut([][]int32{stream}, *length, *count)
	if err != nil {
		return err
	}
	for _, w := range windows {
		if first != nil {
			w[0] = *first
		}
	}
	return writeWindows(windows, *ids, *ids+".i32")
}

// tokens returns the ids of a text and the token that every window begins with, nil for none.
func tokens(model, source, text string) ([]int32, *int32, error) {
	raw, err := os.ReadFile(filepath.Join(model, "tokenizer.json"))
	if err != nil {
		return nil, nil, err
	}
	tok, err := calib.LoadTokenizer(raw)
	if err != nil {
		return nil, nil, err
	}
	data, err := os.ReadFile(text)
	if err != nil {
		return nil, nil, err
	}
	m, err := gguf.Open(source)
	if err != nil {
		return nil, nil, err
	}
	defer m.Close()
	ids := tok.Encode(string(data))
	if v, ok := m.Lookup("tokenizer.ggml.add_bos_token"); ok && v.Data == true {
		v, _ := m.Lookup("tokenizer.ggml.bos_token_id")
		id, ok := v.Uint()
		if !ok {
			return nil, nil, fmt.Errorf("%s: no bos_token_id", source)
		}
		first := int32(id)
		return append([]int32{first}, ids...), &first, nil
	}
	return ids, nil, nil
}
