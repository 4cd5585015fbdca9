package main

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/calib"
	"modelpress/internal/testmodel"
)

// TestRunOnPlantedHeads runs both checks on a model whose retrieval heads are known.
func TestRunOnPlantedHeads(t *testing.T) {
	dir := t.TempDir()
	p := testmodel.NewPlanted(1)
	if err := p.Write(dir, 0); err != nil {
		t.Fatal(err)
	}
	var prompts []calib.Prompt
	for _, q := range p.Prompts(6, 100, 2, 5) {
		prompts = append(prompts, calib.Prompt{IDs: q.IDs, Answer: q.Answer, NeedleLo: q.NeedleLo, NeedleHi: q.NeedleHi})
	}
	file := filepath.Join(dir, "prompts.json")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := calib.WritePrompts(f, prompts); err != nil {
		t.Fatal(err)
	}
	f.Close()
	ref := filepath.Join(dir, "reference.json")
	wu := `[[0,0,0,0,0,0,0,0],[0,0,0,0,1,1,0,0],[1,1,0,0,0,0,0,0]]`
	text := `{"wu":` + wu + `,"copy":` + wu + `,"needle":` + wu + `,"sink":` + wu + `,"local":` + wu + `}`
	if err := os.WriteFile(ref, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, rank := range ranks {
		var out strings.Builder
		err := run(context.Background(), []string{"-model", dir, "-prompts", file, "-reference", ref, "-tasks", file,
			"-rank", rank, "-shares", "0.17", "-seeds", "1", "-recent", "16", "-threads", "2"}, &out)
		if err != nil {
			t.Fatal(err)
		}
		checkTable(t, rank, out.String())
	}
	if err := run(context.Background(), []string{"-model", dir, "-prompts", ref}, &strings.Builder{}); err == nil {
		t.Error("prompts of the wrong form were read")
	}
}

func checkTable(t *testing.T, rank, out string) {
	t.Helper()
	for _, line := range strings.Split(out, "\n") {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "wu "):
			if f[3] != "true" {
				t.Errorf("%s: %s", rank, line)
			}
		case strings.HasPrefix(line, "dense "):
			if f[3] != "1.0000" {
				t.Errorf("%s: %s", rank, line)
			}
		case strings.HasPrefix(line, "best 0.17 ") && (rank == "wu" || rank == "induction" || rank == "projected"):
			if f[2] != "2" || f[4] != "1.0000" {
				t.Errorf("%s: %s", rank, line)
			}
		}
	}
	if strings.Count(out, "\n") != 13 {
		t.Errorf("%s: unexpected output\n%s", rank, out)
	}
}

func TestSpearman(t *testing.T) {
	for _, c := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3, 4}, []float64{10, 20, 30, 400}, 1},
		{[]float64{1, 2, 3, 4}, []float64{4, 3, 2, 1}, -1},
		{[]float64{0, 0, 1, 2}, []float64{0, 0, 5, 6}, 1},
		{[]float64{1, 2, 3, 4, 5}, []float64{2, 1, 4, 3, 5}, 0.8}, // 1 - 6·4/(5·24)
	} {
		if got := spearman(c.a, c.b); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v %v: %g, want %g", c.a, c.b, got, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	base := []string{"-model", "m", "-prompts", "p"}
	for _, args := range [][]string{{}, append(base, "-shares", "2"), append(base, "-shares", "x"), append(base, "-rank", "none")} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
