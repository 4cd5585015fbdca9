package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"modelpress/internal/pipeline"
	"modelpress/internal/testmodel"
)

// data writes a planted model and windows of its text.
func data(t *testing.T) (model, ids string) {
	t.Helper()
	model = t.TempDir()
	p := testmodel.NamedPlanted("small")
	if err := p.WriteDir(model); err != nil {
		t.Fatal(err)
	}
	ids = filepath.Join(model, "ids.jsonl")
	var text strings.Builder
	for _, row := range p.Text(4, 512, 3) {
		b, err := json.Marshal(map[string]any{"ids": row})
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(string(b) + "\n")
	}
	if err := os.WriteFile(ids, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return model, ids
}

// TestRun merges the two KV heads of every layer of a planted model into one, by every kind of row.
func TestRun(t *testing.T) {
	model, ids := data(t)
	args := []string{"-model", model, "-calib", ids, "-heldout", ids, "-heldout", ids, "-length", "256", "-sequences", "2", "-windows", "1",
		"-fact", " {name}={code} ", "-question", " {name}=",
		"-kv", "1", "-budgets", "0.75", "-apart", "-rows", "(pca/pca|mean/mean) cost$|compact|refit apart", "-threads", "2"}
	rows := cells(t, args)
	names := []string{"source", "kv 1", "kv 1", "kv 1", "budget 0.75 compact"}
	if len(rows) != len(names) {
		t.Fatalf("%d rows: %v", len(rows), rows)
	}
	for i, r := range rows {
		if r[0] != names[i] || len(r) != 6+3*2+2 {
			t.Errorf("row %d: %v", i, r)
		}
	}
	source, mean, pca := rows[0], rows[1], rows[2]
	if source[1] != "" || mean[1] != "mean, mean" || pca[1] != "pca, pca" || mean[3] != "no" || rows[3][3] != "yes" || rows[3][4] != "yes" {
		t.Errorf("rows %v", rows)
	}
	if source[5] != "100.0 %" || pca[5] != "50.0 %" {
		t.Errorf("caches %s and %s", source[5], pca[5])
	}
	for i := 7; i <= 11; i += 2 {
		if s, k := value(t, source[i]), value(t, mean[i]); s != 0 || k <= 0 {
			t.Errorf("KL %g of the source, %g of its merger", s, k)
		}
	}
	if a, b := value(t, pca[7]), value(t, mean[7]); !(a < b) {
		t.Errorf("KL on the calibration windows: %g by pca, %g by mean", a, b)
	}
	if a := value(t, source[12]); !(a >= 0 && a <= 1) {
		t.Errorf("accuracy %g", a)
	}
}

func cells(t *testing.T, args []string) (rows [][]string) {
	t.Helper()
	s, err := parse(args)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), s, &out); err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n")[2:] {
		var row []string
		for _, c := range strings.Split(strings.Trim(line, "|"), "|") {
			row = append(row, strings.TrimSpace(c))
		}
		rows = append(rows, row)
	}
	return rows
}

func value(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestRecipes: every row that can be asked for is a recipe, and no two are alike.
func TestRecipes(t *testing.T) {
	s, err := parse([]string{"-model", "m", "-calib", "c", "-heldout", "h", "-kv", "4,2", "-budgets", "0.5,0.25", "-apart"})
	if err != nil {
		t.Fatal(err)
	}
	rows := s.plan()
	if len(rows) != 2*(2*10+2)+2*2 {
		t.Errorf("%d rows", len(rows))
	}
	seen := map[string]bool{}
	for _, r := range rows {
		if _, err := pipeline.ParseRecipe([]byte(s.recipe(r))); err != nil {
			t.Errorf("%s: %v", r, err)
		}
		if seen[r.String()] {
			t.Errorf("two rows %s", r)
		}
		seen[r.String()] = true
	}
}

func TestParseRefuses(t *testing.T) {
	base := []string{"-model", "m", "-calib", "c", "-heldout", "h"}
	for _, args := range [][]string{{}, base[:4], append(base, "-kv", "x"), append(base, "-budgets", "x"), append(base, "-rows", "("), append(base, "-none")} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
