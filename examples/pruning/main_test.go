package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/internal/testmodel"
)

// inputs writes a random model and windows of ids.
func inputs(t *testing.T, o testmodel.Options) (model, ids string, params int64) {
	t.Helper()
	model = t.TempDir()
	m := testmodel.New(o)
	if err := m.Write(model, 0); err != nil {
		t.Fatal(err)
	}
	for _, info := range m.Tensors() {
		n, err := info.Elements()
		if err != nil {
			t.Fatal(err)
		}
		params += n
	}
	var text strings.Builder
	for w := range 6 {
		row := make([]int, 32)
		for i := range row {
			row[i] = (w*97 + i*i*13 + i) % m.Options.V
		}
		b, err := json.Marshal(map[string]any{"ids": row})
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(string(b) + "\n")
	}
	ids = filepath.Join(t.TempDir(), "ids.jsonl")
	if err := os.WriteFile(ids, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return model, ids, params
}

// TestRun prunes at random to three quarters, recovers, trains from nothing, and takes all of that over the second time.
func TestRun(t *testing.T) {
	model, ids, params := inputs(t, testmodel.Options{D: 64, H: 4, F: 128, V: 64, Seed: 1})
	dir := t.TempDir()
	args := []string{"-model", model, "-calib", ids, "-heldout", ids, "-o", dir, "-methods", "random", "-params", "0.75", "-seeds", "1", "-sequences", "4",
		"-length", "32", "-windows", "2", "-steps", "2", "-batch", "2", "-prune", "candidates: 2", "-prune", "axes: [heads, ffn]", "-threads", "2"}
	first := output(t, args)
	var r row
	raw, err := os.ReadFile(filepath.Join(dir, "random-0.75-1.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if share := float64(r.Params) / float64(params); math.Abs(share-0.75) > 0.005*0.75 {
		t.Errorf("%d of %d parameters are left", r.Params, params)
	}
	if !strings.HasPrefix(r.Shape, "D 64, L 2,") || !(r.Before.KL > r.Recovered.KL && r.Recovered.KL > 0) || !(r.Scratch.KL > 0) {
		t.Errorf("%+v", r)
	}
	// What is finished is not made again: it would be missed.
	if err := os.RemoveAll(filepath.Join(dir, "random-0.75-1")); err != nil {
		t.Fatal(err)
	}
	if second := output(t, args); second != first {
		t.Errorf("at first\n%s\nthen\n%s", first, second)
	}
	if _, err := os.Stat(filepath.Join(dir, "random-0.75-1")); !os.IsNotExist(err) {
		t.Errorf("the model was pruned once more: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(first), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "| 75 % | random | ") || strings.Count(last, "|") != 8 {
		t.Errorf("last row %q", last)
	}
}

func output(t *testing.T, args []string) string {
	t.Helper()
	s, err := parse(args)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), s, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestForget: a model that knows nothing has the tensors of the other in their types, and values that depend on the seed alone.
func TestForget(t *testing.T) {
	model, _, _ := inputs(t, testmodel.Options{D: 64, Bias: true, DType: formats.BF16, Seed: 2})
	read := func(dir string) map[string][]float32 {
		ck, err := hf.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer ck.Close()
		out := map[string][]float32{}
		for _, info := range ck.Tensors() {
			n, err := info.Elements()
			if err != nil || info.DType != formats.BF16 {
				t.Fatalf("%s %v: %v", info.Name, info.DType, err)
			}
			v := make([]float32, n)
			if err := formats.ReadF32(ck, info.Name, v, 0); err != nil {
				t.Fatal(err)
			}
			out[info.Name] = v
		}
		return out
	}
	var made []map[string][]float32
	for _, seed := range []uint64{1, 1, 2} {
		dir := filepath.Join(t.TempDir(), "m")
		if err := forget(model, dir, seed); err != nil {
			t.Fatal(err)
		}
		made = append(made, read(dir))
	}
	for name, was := range read(model) {
		sum, squares, differ, n := 0.0, 0.0, 0, float64(len(was))
		for i, v := range made[0][name] {
			if v != made[1][name][i] {
				t.Fatalf("%s: two values by one seed", name)
			}
			if v != made[2][name][i] {
				differ++
			}
			sum, squares = sum+float64(v), squares+float64(v)*float64(v)
		}
		mean, deviation := sum/n, math.Sqrt(squares/n)
		switch {
		case len(made[0][name]) != len(was):
			t.Errorf("%s: %d values for %d", name, len(made[0][name]), len(was))
		case strings.HasSuffix(name, ".bias"):
			if deviation != 0 {
				t.Errorf("%s is not zero", name)
			}
		case strings.HasSuffix(name, "norm.weight"):
			if mean != 1 || squares != n {
				t.Errorf("%s is not one", name)
			}
		case math.Abs(mean) > 0.002 || math.Abs(deviation-0.02) > 0.002 || float64(differ) < 0.9*n:
			t.Errorf("%s: mean %g, deviation %g, %d of %g differ by the seed", name, mean, deviation, differ, n)
		}
	}
}

func TestSpread(t *testing.T) {
	for want, values := range map[string][]float64{"": {}, "2.500": {2.5}, "3.000 ± 1.000": {2, 3, 4}} {
		var s spread
		for _, v := range append(values, 0) { // 0 stands for what was not measured
			s.add(v)
		}
		if got := s.String(); got != want {
			t.Errorf("%v: %q, want %q", values, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	base := []string{"-model", "m", "-calib", "c", "-heldout", "h", "-o", "o"}
	if s, err := parse(base); err != nil || len(s.methods) != 5 || len(s.params) != 2 || len(s.seeds) != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, args := range [][]string{{}, base[:6], append(base, "-params", "half"), append(base, "-seeds", "-1"), append(base, "-none")} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
