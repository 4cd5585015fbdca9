package calib

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"modelpress/formats/hf"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// TestPlantedCheckpoint: a planted model on disk is a checkpoint like any other. Its tokenizer gives the ids of its texts,
// and what is read back answers its prompts from a file.
func TestPlantedCheckpoint(t *testing.T) {
	dir := t.TempDir()
	p := testmodel.NamedPlanted("small")
	if err := p.WriteDir(dir); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := LoadTokenizer(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, ids := range p.Text(3, 200, 1) {
		text := testmodel.Spell(ids)
		if got := tok.EncodeSpecial("<s>" + text); !slices.Equal(got, ids) || tok.DecodeSkipSpecial(got) != text {
			t.Errorf("%q reads as %v, want %v", text, got, ids)
		}
	}
	if id, ok := tok.TokenID("<s>"); !ok || id != 0 || tok.VocabSize() != 256 {
		t.Errorf("start %d (%t) of %d tokens", id, ok, tok.VocabSize())
	}
	c, err := hf.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a, err := arch.Describe(c.Config(), c)
	if err != nil {
		t.Fatal(err)
	}
	prompts := throughFile(t, p.MultiKey(3, 170, 4, 3, 2))
	r, err := Retrieval(context.Background(), nn.New(cpu.New(2), c, a), prompts, EvalOptions{})
	if err != nil || r.Accuracy != 1 || r.AnswerNLL > 0.01 {
		t.Errorf("accuracy %g, nll %g, %v", r.Accuracy, r.AnswerNLL, err)
	}
}

// throughFile writes prompts to a file and reads them back.
func throughFile(t *testing.T, planted []testmodel.PlantedPrompt) []Prompt {
	t.Helper()
	var prompts []Prompt
	for _, q := range planted {
		prompts = append(prompts, Prompt{IDs: q.IDs, Answer: q.Answer, NeedleLo: q.NeedleLo, NeedleHi: q.NeedleHi, Extra: q.Extra})
	}
	var b bytes.Buffer
	if err := WritePrompts(&b, prompts); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "prompts.json")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadPrompts(path)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
