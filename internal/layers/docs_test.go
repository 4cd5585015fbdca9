package layers

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"modelpress/formats/manifest"
	"modelpress/internal/pipeline"
)

// block returns the first fenced block of a language in a document.
func block(t *testing.T, doc, lang, holding string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "docs", doc))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```"+lang+"\n(.*?)```").FindAllStringSubmatch(string(data), -1) {
		if strings.Contains(m[1], holding) {
			return m[1]
		}
	}
	t.Fatalf("%s has no %s block with %q", doc, lang, holding)
	return ""
}

// The recipe of docs/PLAN.md is read by the program, and its values are the defaults.
func TestDocumentedRecipe(t *testing.T) {
	got, err := pipeline.ParseRecipe([]byte(block(t, "PLAN.md", "yaml", "version: 1")))
	if err != nil {
		t.Fatal(err)
	}
	want, err := pipeline.ParseRecipe([]byte(`
retrieval:
  fact: "The pass key of {name} is {code}."
  question: "The pass key of {name} is"
  lengths: [512, 1024]
prune: {params: 0.5}
kvmerge: {kv_heads: 4}
distill: {}
heads: {full_share: 0.5}
quantize: {}
`))
	if err != nil {
		t.Fatal(err)
	}
	if g, w := asJSON(t, got), asJSON(t, want); g != w {
		t.Errorf("documented\n%s\ndefaults\n%s", g, w)
	}
}

// The section sparsify, which goes into no recipe with quantize, stands in the document as a comment. Its values are the defaults.
func TestDocumentedSparsify(t *testing.T) {
	section := regexp.MustCompile(`(?m)^# sparsify:.*\n(?:#   .*\n)+`).FindString(block(t, "PLAN.md", "yaml", "version: 1"))
	got, err := pipeline.ParseRecipe([]byte(strings.ReplaceAll("\n"+section, "\n# ", "\n")))
	if err != nil {
		t.Fatalf("%v in\n%s", err, section)
	}
	want, err := pipeline.ParseRecipe([]byte("sparsify: {}"))
	if err != nil {
		t.Fatal(err)
	}
	if g, w := asJSON(t, got), asJSON(t, want); g != w {
		t.Errorf("documented\n%s\ndefaults\n%s", g, w)
	}
}

// So do the sections of distill that are not there by default, a level deeper.
func TestDocumentedDistill(t *testing.T) {
	doc := block(t, "PLAN.md", "yaml", "version: 1")
	for _, name := range []string{"hidden", "relations", "lora"} {
		section := regexp.MustCompile(`(?m)^  # ` + name + `:.*\n(?:  #   .*\n)+`).FindString(doc)
		got, err := pipeline.ParseRecipe([]byte("distill:" + strings.ReplaceAll("\n"+section, "\n  # ", "\n  ")))
		if err != nil {
			t.Fatalf("%s: %v in\n%s", name, err, section)
		}
		want, err := pipeline.ParseRecipe([]byte("distill:\n  " + name + ": {}"))
		if err != nil {
			t.Fatal(err)
		}
		if g, w := asJSON(t, got), asJSON(t, want); g != w {
			t.Errorf("%s: documented\n%s\ndefaults\n%s", name, g, w)
		}
		if !strings.Contains(asJSON(t, got), `"`+name+`"`) {
			t.Errorf("%s is not in\n%s", name, section)
		}
	}
}

// What masks and weights are trained with at once has a default only where it is asked for.
func TestDocumentedJointTraining(t *testing.T) {
	joint := regexp.MustCompile(`(?m)^    # (joint_rate: \S+) `).FindStringSubmatch(block(t, "PLAN.md", "yaml", "version: 1"))
	if joint == nil {
		t.Fatal("docs/PLAN.md does not explain joint_rate")
	}
	got, err := pipeline.ParseRecipe([]byte("prune: {params: 0.5, vib: {joint: true, " + joint[1] + "}}"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := pipeline.ParseRecipe([]byte("prune: {params: 0.5, vib: {joint: true}}"))
	if err != nil {
		t.Fatal(err)
	}
	if g, w := asJSON(t, got), asJSON(t, want); g != w {
		t.Errorf("documented\n%s\ndefaults\n%s", g, w)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every field of a recipe stands in the documented one.
func TestDocumentedRecipeIsComplete(t *testing.T) {
	text := block(t, "PLAN.md", "yaml", "version: 1")
	for _, m := range regexp.MustCompile("yaml:\"([a-z0-9_]+)\"").FindAllStringSubmatch(recipeSource(t), -1) {
		if !regexp.MustCompile(`\b` + m[1] + `:`).MatchString(text) {
			t.Errorf("docs/PLAN.md does not explain the field %s", m[1])
		}
	}
}

func recipeSource(t *testing.T) string {
	t.Helper()
	var all []byte
	for _, name := range []string{"recipe.go", "recipeheads.go", "recipeprune.go", "recipemerge.go", "recipedistill.go", "recipesparsify.go"} {
		data, err := os.ReadFile(filepath.Join(root, "internal", "pipeline", name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	return string(all)
}

// The example of docs/MANIFEST.md is a valid plan once its digests are filled in.
func TestDocumentedManifest(t *testing.T) {
	text := strings.ReplaceAll(block(t, "MANIFEST.md", "json", "kv_heads"), "sha256:…", "sha256:"+strings.Repeat("0", 64))
	p, err := manifest.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if _, id := p.Resolve(0, 1, manifest.Decoding, 20000); id != "s" {
		t.Errorf("head 1 decodes under %q", id)
	}
}

// Every exit code of the program stands in docs/EXIT-CODES.md.
func TestDocumentedExitCodes(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "EXIT-CODES.md"))
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(filepath.Join(root, "cmd", "compress", "exit.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\texit[A-Z]\w+ += ([0-9]+)$`).FindAllStringSubmatch(string(code), -1)
	if len(found) < 5 {
		t.Fatalf("only %d exit codes found", len(found))
	}
	for _, m := range found {
		if !regexp.MustCompile(`(?m)^\|[^|]*\b` + m[1] + `\b[^|]*\|`).Match(doc) {
			t.Errorf("exit code %s is not documented", m[1])
		}
	}
}

// Every rule of a loader stands in docs/TARGETS.md, and nothing else does.
func TestDocumentedTargetRules(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "TARGETS.md"))
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(filepath.Join(root, "internal", "pipeline", "targetrules.go"))
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\trule\w+ += "(\w+)"$`).FindAllStringSubmatch(string(code), -1) {
		rules[m[1]] = true
	}
	if len(rules) < 40 {
		t.Fatalf("only %d rules found", len(rules))
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ").FindAllStringSubmatch(string(doc), -1) {
		if documented[m[1]] = true; !rules[m[1]] {
			t.Errorf("docs/TARGETS.md explains %s, which is no rule", m[1])
		}
	}
	for id := range rules {
		if !documented[id] {
			t.Errorf("docs/TARGETS.md does not explain the rule %s", id)
		}
	}
}
