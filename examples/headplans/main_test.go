package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats/manifest"
	"modelpress/heads"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// TestRunOnPlantedHeads makes and measures a plan on a model whose retrieval heads are known.
func TestRunOnPlantedHeads(t *testing.T) {
	dir := t.TempDir()
	p := testmodel.NamedPlanted("small")
	if err := p.WriteDir(dir); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "ids.jsonl")
	var lines []string
	for _, ids := range p.Text(6, 1024, 3) {
		b, err := json.Marshal(map[string]any{"ids": ids})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(b))
	}
	if err := os.WriteFile(data, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := parse([]string{"-model", dir, "-calib", data, "-heldout", data, "-length", "512", "-sequences", "2", "-windows", "1", "-per-cell", "1",
		"-seeds", "1", "-methods", "induction", "-budgets", "0.5", "-extra", "sink: 4, recent: 60", "-threads", "2"})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), s, &out); err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(rows) != 1+3+9 || !strings.Contains(out.String(), "induction 50%") {
		t.Errorf("%d rows:\n%s", len(rows), out.String())
	}
}

// TestPlansOfOneSize: the plans to compare with keep no fewer bytes than the plan, but for whole heads and tokens.
func TestPlansOfOneSize(t *testing.T) {
	m := &arch.Model{Architecture: "LlamaForCausalLM", MaxPosition: 1024}
	for range 4 {
		m.Layers = append(m.Layers, arch.Layer{H: 8, G: 4, K: 16})
	}
	p := heads.Draft(m)
	p.Policies["s"] = manifest.Streaming(4, 60)
	setAll(p, func(l, g int) string {
		if l == 1 || g == 2 {
			return heads.PolicyFull
		}
		return "s"
	})
	for _, n := range []int{100, 256, 1000} {
		want := heads.PlanBytes(p, m, 2, n)
		u := heads.PlanBytes(uniform(p, m, n, 4), m, 2, n)
		r := heads.PlanBytes(random(p, m, n, 4, 60, 7), m, 2, n)
		if d := u.Density() - want.Density(); d < 0 || d > 1/float64(n) {
			t.Errorf("%d tokens: uniform %g, plan %g", n, u.Density(), want.Density())
		}
		if math.Abs(r.Density()-want.Density()) > 1e-9 {
			t.Errorf("%d tokens: random %g, plan %g", n, r.Density(), want.Density())
		}
	}
	a, b := random(p, m, 256, 4, 60, 1), random(p, m, 256, 4, 60, 2)
	if fmt.Sprint(a.Layers) == fmt.Sprint(b.Layers) {
		t.Error("two seeds choose the same heads")
	}
}

func TestParseRefuses(t *testing.T) {
	base := []string{"-model", "m", "-calib", "c", "-heldout", "h"}
	for _, args := range [][]string{{}, append(base, "-budgets", "2"), append(base, "-budgets", "x"), append(base, "-none")} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
