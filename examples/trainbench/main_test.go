package main

import (
	"encoding/json"
	"strings"
	"testing"

	"modelpress/internal/testmodel"
)

// TestRun trains the smallest model of the comparison for some steps: a line for each, the loss falls, and the speed at the end.
func TestRun(t *testing.T) {
	model := t.TempDir()
	if err := testmodel.New(testmodel.Scratch("llama-tied")).Write(model, 1<<30); err != nil {
		t.Fatal(err)
	}
	args := []string{"-model", model, "-data", "../tiny-llama/data/calib.safetensors", "-length", "32", "-batch", "2", "-steps", "12", "-warmup", "2", "-threads", "2"}
	for _, more := range [][]string{nil, {"-bench"}, {"-json=false"}} {
		s, err := parse(append(args[:len(args):len(args)], more...))
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := s.run(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if want := map[bool]int{false: 13, true: 1}[s.bench]; len(lines) != want {
			t.Fatalf("%d lines, want %d:\n%s", len(lines), want, out.String())
		}
		if s.bench || !s.json {
			continue
		}
		var first, last line
		var end speed
		for i, v := range []any{&first, &last, &end} {
			if err := json.Unmarshal([]byte(lines[[]int{0, 11, 12}[i]]), v); err != nil {
				t.Fatal(err)
			}
		}
		if first.Step != 0 || last.Step != 11 || first.Rate != 1.5e-3 || !(last.Loss < first.Loss) || !(first.Norm > 0) {
			t.Errorf("first %+v, last %+v", first, last)
		}
		if end.Batch != 2 || end.Length != 32 || end.Steps != 12 || end.Threads != 2 || !(end.PerSecond > 0) {
			t.Errorf("speed %+v", end)
		}
	}
	for _, bad := range [][]string{{}, {"-model", model}, {"-model", model, "-data", "ids", "-length", "1"}, {"-what"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}
