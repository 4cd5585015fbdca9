package calib

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"modelpress/internal/device"
)

// trained is the directory of the small trained model of the examples.
const trained = "../examples/tiny-llama"

// trainedTokenizer reads the tokenizer of the examples' model.
func trainedTokenizer(t *testing.T) *Tokenizer {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(trained, "model", "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := LoadTokenizer(data)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// trainedRows reads the model's own samples that lie with the examples: "calib" or "heldout".
func trainedRows(t *testing.T, side string) [][]int32 {
	t.Helper()
	rows, err := ReadIDs(filepath.Join(trained, "data", side+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestFactTokensTrained compares with the tokens that the model was trained on.
func TestFactTokensTrained(t *testing.T) {
	f, err := newForm(trainedTokenizer(t), DefaultFact, DefaultQuestion)
	if err != nil {
		t.Fatal(err)
	}
	x := f.fill("minome", "8410")
	ids := []int32{199, 264, 643, 299, 968, 221, 768, 381, 316, 258, 79, 291, 351, 837, 20, 663, 14, 966, 291, 77, 828, 316, 258, 79, 291, 14, 199}
	asked := []int32{199, 264, 660, 72, 276, 351, 295, 299, 968, 221, 768, 381, 316, 258, 79, 291, 31, 643, 299, 968, 221, 768, 381, 316, 258, 79, 291, 351}
	if !slices.Equal(x.ids, ids) || !slices.Equal(x.asked, asked) || !slices.Equal(x.code, []int32{837, 20, 663}) || x.lo != 13 || x.hi != 16 {
		t.Errorf("%v\n%v\n%v %d-%d", x.ids, x.asked, x.code, x.lo, x.hi)
	}
}

// TestSetOfTrainedRows builds the sides that the example recipe uses.
func TestSetOfTrainedRows(t *testing.T) {
	rows, held := trainedRows(t, "calib"), trainedRows(t, "heldout")
	if len(rows) != 96 || len(held) != 32 || len(rows[0]) != 512 {
		t.Fatal(len(rows), len(held), len(rows[0]))
	}
	set, err := BuildSet(RowDocs("calib", rows), nil, SetOptions{Length: 512, Sequences: 96, HoldoutSequences: 32,
		Heldout: RowDocs("heldout", held), Vocab: 1024})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(set.Calib.IDs, rows, slices.Equal) || !slices.EqualFunc(set.Heldout.IDs, held, slices.Equal) {
		t.Error("rows are not kept as they are")
	}
}

// TestTrainedPerplexity compares with what transformers 4.47 gives for the same windows in f32.
func TestTrainedPerplexity(t *testing.T) {
	want := []float64{1.0337456464767456, 1.4482733011245728, 2.148359775543213, 2.042175769805908}
	w := NewWindows(trainedRows(t, "heldout")[:4])
	p, err := Perplexity(context.Background(), trainedModel(t), w, EvalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range p.Windows {
		if math.Abs(v-want[i]) > 1e-4 {
			t.Errorf("window %d: %g, want %g", i, v, want[i])
		}
	}
}

// TestTrainedRetrieval: prompts of every kind are answered by a model that was trained to, and by none of its heads when
// they see too little.
func TestTrainedRetrieval(t *testing.T) {
	m, tok := trainedModel(t), trainedTokenizer(t)
	hay := NewWindows(trainedRows(t, "heldout")).Flat(1)
	var prompts []Prompt
	for _, kind := range []Kind{SingleNeedle, MultiKey, KeyValue} {
		p, err := MakePrompts(tok, hay, RetrievalOptions{Kind: kind, Lengths: []int{192, 384}, Depths: []float64{0.1, 0.6}, BOS: id(0), Seed: 3})
		if err != nil {
			t.Fatal(err)
		}
		prompts = append(prompts, p...)
	}
	dense, err := Retrieval(context.Background(), m, prompts, EvalOptions{})
	if err != nil || dense.Accuracy != 1 || dense.AnswerNLL > 0.05 || len(dense.Grid) != 4 {
		t.Errorf("dense: %+v %v", dense, err)
	}
	local := func(layer int) []device.Mask {
		masks := make([]device.Mask, m.Arch.Layers[layer].G)
		for i := range masks {
			masks[i] = device.Mask{Sink: 4, Recent: 32}
		}
		return masks
	}
	masked, err := Retrieval(context.Background(), m, prompts, EvalOptions{Masks: local})
	if err != nil || masked.Accuracy > 0.3 {
		t.Errorf("all heads local: %+v %v", masked, err)
	}
}
