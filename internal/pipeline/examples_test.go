package pipeline

import (
	"os"
	"path/filepath"
	"testing"
)

// TestExampleRecipes: every recipe of the repository's examples is one.
func TestExampleRecipes(t *testing.T) {
	list, err := filepath.Glob("../../examples/*/*.yaml")
	if err != nil || len(list) < 2 {
		t.Fatalf("%d recipes, %v", len(list), err)
	}
	for _, path := range list {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRecipe(raw); err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
}
