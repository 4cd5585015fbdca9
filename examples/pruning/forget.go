package main

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/formats/safetensors"
)

// deviation is that of freshly drawn weights, as Llama and GPT-2 are begun with.
const deviation = 0.02

// forget copies a checkpoint with freshly drawn weights in the place of its own: matrices N(0, 0.02²), gains 1, biases 0.
func forget(dir, out string, seed uint64) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	ck, err := hf.Open(dir)
	if err != nil {
		return err
	}
	defer ck.Close()
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var errs []error
	for _, f := range ck.Files() {
		if f.Name != "plan.json" && f.Name != "report.json" {
			_, err := ck.CopyFile(out, f.Name)
			errs = append(errs, err)
		}
	}
	errs = append(errs, formats.WriteFileAtomic(filepath.Join(out, "config.json"), ck.Config()))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	layout, err := safetensors.PlanLayout(ck.Tensors(), 5e9)
	if err != nil {
		return err
	}
	w, err := safetensors.Create(out, layout, nil)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 17))
	for _, t := range ck.Tensors() {
		if err := draw(w, t, rng); err != nil {
			return errors.Join(err, w.Close())
		}
	}
	return errors.Join(w.Sync(), w.Close())
}

func draw(w *safetensors.Writer, t formats.TensorInfo, rng *rand.Rand) error {
	n, err := t.Elements()
	if err != nil {
		return err
	}
	v := make([]float32, n)
	for i := range v {
		switch {
		case len(t.Shape) > 1:
			v[i] = float32(deviation * rng.NormFloat64())
		case !strings.HasSuffix(t.Name, ".bias"):
			v[i] = 1
		}
	}
	p := make([]byte, n*int64(t.DType.Size()))
	if err := formats.Encode(p, v, t.DType); err != nil {
		return err
	}
	return w.WriteAt(t.Name, p, 0)
}
