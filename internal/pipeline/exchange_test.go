package pipeline

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats/manifest"
	"modelpress/formats/planfile"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// silentProgress shows nothing.
type silentProgress struct{}

func (silentProgress) Start(string, int64) {}
func (silentProgress) Add(int64)           {}
func (silentProgress) Done()               {}

// Plans for models with learned positions, sliding windows and layers of their own head counts or without attention can be imported:
// each plan has the digests of its model, every KV head of it, and comes back from the format's own export.
func TestImportPlanForEveryFamily(t *testing.T) {
	env := Env{Device: cpu.New(2), Progress: silentProgress{}}
	for _, name := range []string{"gpt2", "mistral-swa", "qwen3", "llama-pruned"} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		m := testmodel.Named(name)
		if err := m.Write(dir, 0); err != nil {
			t.Fatal(err)
		}
		s, err := openSource(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		var layers []string // every first KV head is full
		for l := range s.arch.Layers {
			kept := "0"
			if s.arch.Layers[l].G == 0 {
				kept = ""
			}
			layers = append(layers, fmt.Sprintf(`"%d": [%s]`, l, kept))
		}
		text := "{" + strings.Join(layers, ", ") + "}"
		path := filepath.Join(t.TempDir(), "heads.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := FormatNamed("golden-stick")
		if err != nil {
			t.Fatal(err)
		}
		in, doc, err := ImportPlan(t.Context(), ImportPlanOptions{Path: path, Format: f, ModelDir: dir, Tool: planfile.Tool{Name: "compress", Version: "1"}, Env: env})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for l := range s.arch.Layers {
			h, g := in.Plan.Counts(l)
			if h != s.arch.Layers[l].H || g != s.arch.Layers[l].G {
				t.Errorf("%s: layer %d has %d and %d heads, want %d and %d", name, l, h, g, s.arch.Layers[l].H, s.arch.Layers[l].G)
			}
			for i := range g {
				if pol, _ := in.Plan.Resolve(l, i, manifest.Decoding, 9999); (pol.Kind == manifest.KindFull) != (i == 0) {
					t.Errorf("%s: layer %d head %d decodes by %s", name, l, i, pol.Kind)
				}
			}
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		planPath := filepath.Join(t.TempDir(), "plan.json")
		if err := os.WriteFile(planPath, doc, 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := CheckPlan(t.Context(), planPath, dir, false, env)
		if err != nil || !c.Compared || len(c.Faults) > 0 {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		out, err := ExportPlan(planPath, f, manifest.Options{})
		if err != nil || string(out.Files[0].Data) != text {
			t.Errorf("%s: %v, %v", name, out, err)
		}
	}
}
