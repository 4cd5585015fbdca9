package testmodel

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"modelpress/formats"
)

// The curves of other software (examples/trainbench) start from the values that Scratch describes.
func TestScratchIsWhereCurvesStart(t *testing.T) {
	for file, name := range map[string]string{
		"torch-curve.json": "llama", "torch-curve-1e-3.json": "llama", "torch-curve-tied.json": "llama-tied", "torch-curve-gpt2.json": "gpt2",
	} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "distill", "testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		var curve struct {
			Weights string
			Seed    uint64
			Shape   map[string]any
		}
		if err := json.Unmarshal(raw, &curve); err != nil {
			t.Fatal(err)
		}
		m := New(Scratch(name))
		var shape map[string]any
		if err := json.Unmarshal(m.Config, &shape); err != nil {
			t.Fatal(err)
		}
		if got := weightsDigest(t, m); got != curve.Weights || curve.Seed != m.Options.Seed || !reflect.DeepEqual(shape, curve.Shape) {
			t.Errorf("%s: %s of seed %d and shape %v, %s is %s of seed %d and shape %v", file, curve.Weights, curve.Seed, curve.Shape, name, got,
				m.Options.Seed, shape)
		}
	}
}

// weightsDigest hashes name, zero byte and little-endian float32 values of every tensor in the order of names.
func weightsDigest(t *testing.T, m *Model) string {
	h := sha256.New()
	for _, info := range m.Tensors() {
		if info.DType != formats.F32 {
			t.Fatalf("%s is %s", info.Name, info.DType)
		}
		h.Write(append([]byte(info.Name), 0))
		h.Write(readAll(t, m, info))
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
