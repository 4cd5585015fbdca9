package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/calib"
	"modelpress/formats/gguf"
	"modelpress/formats/imatrix"
	"modelpress/internal/testmodel"
)

// matrix writes an importance matrix of two tensors that change changes.
func matrix(t *testing.T, change func(m *imatrix.Matrix)) string {
	t.Helper()
	m := &imatrix.Matrix{Datasets: []string{"d"}, Chunks: 1, ChunkSize: 4, Entries: []imatrix.Entry{
		{Tensor: "a", Sums: []float32{4, 8, 1e-9}, Counts: []float32{4}}, {Tensor: "b", Sums: []float32{1, 1}, Counts: []float32{4}}}}
	if change != nil {
		change(m)
	}
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := imatrix.Write(path, m); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestImatrices(t *testing.T) {
	good := matrix(t, nil)
	for _, c := range []struct {
		what, ours, want string
		fails            bool
	}{
		{"the same", good, "importance of 2 weights, 5 inputs: relative difference from llama-imatrix 0 in the mean, 0 at most", false},
		{"rounding", matrix(t, func(m *imatrix.Matrix) { m.Entries[0].Sums[1] = 8.004 }), "0.0001 in the mean, 0.0005 at most (a, input 1)", false},
		{"next to nothing", matrix(t, func(m *imatrix.Matrix) { m.Entries[0].Sums[2] = 0 }), "0.00012 at most (a, input 2)", false},
		{"too far", matrix(t, func(m *imatrix.Matrix) { m.Entries[1].Sums[1] = 1.01 }), "0.01 at most (b, input 1)", true},
		{"other counts", matrix(t, func(m *imatrix.Matrix) { m.Entries[1].Counts[0], m.Entries[1].Sums = 8, []float32{2, 2} }), "", true},
		{"another width", matrix(t, func(m *imatrix.Matrix) { m.Entries[1].Sums = []float32{1} }), "", true},
		{"a tensor too few", matrix(t, func(m *imatrix.Matrix) { m.Entries = m.Entries[:1] }), "", true},
		{"a tensor too many", matrix(t, func(m *imatrix.Matrix) {
			m.Entries = append(m.Entries, imatrix.Entry{Tensor: "c", Sums: []float32{1}, Counts: []float32{4}})
		}), "", true},
	} {
		var out strings.Builder
		err := run(t.Context(), []string{"imatrix", c.ours, good}, &out)
		var f *failed
		if errors.As(err, &f) != c.fails || !c.fails && err != nil || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %v, want %q in\n%s", c.what, err, c.want, out.String())
		}
	}
}

// Windows are cut as llama-imatrix cuts them: the stream begins with the token, if there is one, and it takes the place of the first of each.
func TestTexts(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tokenizer.json"), string(testmodel.Tokenizer()))
	write(t, filepath.Join(dir, "text"), "abcdefghi")
	for name, c := range map[string]struct {
		kv   []gguf.KV
		more []string
		want [][]int32
	}{
		"plain": {nil, nil, [][]int32{{'a', 'b', 'c'}, {'d', 'e', 'f'}, {'g', 'h', 'i'}}},
		"begun": {[]gguf.KV{{Key: "tokenizer.ggml.add_bos_token", Value: gguf.Bool(true)}, {Key: "tokenizer.ggml.bos_token_id", Value: gguf.Uint32(7)}}, nil,
			[][]int32{{7, 'a', 'b'}, {7, 'd', 'e'}, {7, 'g', 'h'}}},
		"fewer": {[]gguf.KV{{Key: "tokenizer.ggml.add_bos_token", Value: gguf.Bool(false)}}, []string{"-windows", "2"}, [][]int32{{'a', 'b', 'c'}, {'d', 'e', 'f'}}},
	} {
		model, ids := filepath.Join(t.TempDir(), "m.gguf"), filepath.Join(t.TempDir(), "ids.npy")
		w, err := gguf.Create(model, c.kv, []gguf.Tensor{{Name: "x", Shape: []int64{1}}}, gguf.Options{})
		if err == nil {
			err = errors.Join(w.WriteAt("x", make([]byte, 4), 0), w.Commit())
		}
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"windows", "-model", dir, "-gguf", model, "-text", filepath.Join(dir, "text"), "-length", "3", "-o", ids}
		if err := run(t.Context(), slices.Concat(args, c.more), os.Stderr); err != nil {
			t.Fatal(name, err)
		}
		got, err := calib.ReadIDs(ids)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
