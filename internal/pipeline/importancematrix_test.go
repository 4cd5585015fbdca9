package pipeline

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/formats/imatrix"
	"modelpress/internal/llamacpp"
	"modelpress/internal/testmodel"
)

// measureModel writes a model with windows of ids and returns what measures its importance.
func measureModel(t *testing.T, o testmodel.Options, rows [][]int32) (*testmodel.Model, EvalOptions) {
	t.Helper()
	dir, m := t.TempDir(), testmodel.New(o)
	src, data := filepath.Join(dir, "src"), filepath.Join(dir, "ids.npy")
	if err := errors.Join(os.Mkdir(src, 0o755), m.Write(src, 0), os.WriteFile(data, npy(rows), 0o644)); err != nil {
		t.Fatal(err)
	}
	return m, EvalOptions{ModelDir: src, Data: data, Length: len(rows[0]), BOS: "none", Env: threads(2)}
}

func measured(t *testing.T, o EvalOptions, output bool) *imatrix.Matrix {
	t.Helper()
	x, err := ImportanceMatrix(t.Context(), o, output)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// What the first block reads is the norm of the embedded tokens, which is computed here from the weights.
func TestImportanceOfTheFirstBlock(t *testing.T) {
	const d = 64
	rows := testmodel.Windows(3, 20, 128, 4)
	m, o := measureModel(t, testmodel.Options{D: d, H: 4, G: 2, F: 96, V: 128, Seed: 9}, rows)
	embed, err := m.Values("model.embed_tokens.weight")
	if err != nil {
		t.Fatal(err)
	}
	gain, err := m.Values("model.layers.0.input_layernorm.weight")
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float64, d)
	for _, id := range slices.Concat(rows...) {
		x := embed[id*d : (id+1)*d]
		var squares float64
		for _, v := range x {
			squares += float64(v) * float64(v)
		}
		for c, v := range x {
			n := float64(v) * float64(gain[c]) / math.Sqrt(squares/d+m.Options.Eps)
			want[c] += n * n
		}
	}
	x := measured(t, o, false)
	for _, name := range []string{"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"} {
		e, ok := x.Find(name)
		if !ok || e.Counts[0] != 60 {
			t.Fatalf("%s: %+v", name, e)
		}
		for c, v := range e.Sums {
			if !(math.Abs(float64(v)/want[c]-1) < 1e-6) {
				t.Fatalf("%s, input %d: %v, want %v", name, c, v, want[c])
			}
		}
	}
	if x.Chunks != 3 || x.ChunkSize != 20 || !slices.Equal(x.Datasets, []string{"ids.npy"}) || x.Name != "" {
		t.Errorf("%d windows of %d of %q", x.Chunks, x.ChunkSize, x.Datasets)
	}
}

// Every weight of a block that llama.cpp would have has an entry of its width, whatever layers lack, and the head where it is asked for and is a
// tensor of its own. No bit depends on threads.
func TestImportanceHasEveryWeight(t *testing.T) {
	type per = map[int]testmodel.Sizes
	rows := testmodel.Windows(2, 24, 128, 5)
	for _, c := range []struct {
		o    testmodel.Options
		head bool
	}{
		{testmodel.Options{Layers: 3, D: 64, H: 4, G: 2, F: 96, V: 128, PerLayer: per{1: {NoAttention: true}, 2: {G: 1, F: 64}}}, true},
		{testmodel.Options{D: 64, H: 4, F: 96, V: 128, Tied: true}, false},
		{testmodel.Options{Family: "gpt2", D: 64, H: 4, V: 128}, true},
		{testmodel.Options{Family: "qwen3", D: 64, H: 4, G: 2, K: 32, F: 96, V: 128}, true},
	} {
		_, o := measureModel(t, c.o, rows)
		s, err := openSource(o.ModelDir, false)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		m, err := llamacpp.Describe(s.arch)
		if err != nil {
			t.Fatal(err)
		}
		for _, output := range []bool{false, true} {
			x := measured(t, o, output)
			if _, warn, err := m.Importance(x); err != nil || warn != nil {
				t.Errorf("%+v: %q, %v", c.o, warn, err)
			}
			if _, ok := x.Find("output.weight"); ok != (output && c.head) {
				t.Errorf("%+v, output %v: the head is there: %v", c.o, output, ok)
			}
			single := o
			single.Env = threads(1)
			if !reflect.DeepEqual(x, measured(t, single, output)) {
				t.Errorf("%+v: other sums with one thread", c.o)
			}
		}
	}
}

func TestImportanceRefuses(t *testing.T) {
	rows := testmodel.Windows(2, 24, 128, 5)
	_, bad := measureModel(t, testmodel.Options{D: 64, H: 4, F: 96, V: 128, PerLayer: map[int]testmodel.Sizes{1: {NoFeedFwd: true}}}, rows)
	_, good := measureModel(t, testmodel.Options{D: 64, H: 4, F: 96, V: 128}, rows)
	long := good
	long.Length = 25
	one := good
	one.Length = 1
	for want, o := range map[string]EvalOptions{"has no FFN": bad, "windows of 25 tokens": long, "--length 1": one} {
		if _, err := ImportanceMatrix(t.Context(), o, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
