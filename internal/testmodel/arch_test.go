package testmodel

import (
	"os"
	"path/filepath"
	"testing"

	"modelpress/formats/safetensors"
	"modelpress/internal/arch"
)

// TestDescribed: the shapes and keys written down here are what the description of the family expects.
func TestDescribed(t *testing.T) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			m := New(c.Options)
			a, err := arch.Describe(m.Config, m)
			if err != nil {
				t.Fatal(err)
			}
			o := m.Options
			if a.Family != o.Family || a.D != o.D || a.V != o.V || len(a.Layers) != o.Layers || a.Tied != o.Tied {
				t.Errorf("described as %+v", a)
			}
			for l, layer := range a.Layers {
				want := o.sizes(l)
				if want.NoAttention {
					want.H, want.G = 0, 0
				}
				if want.NoFeedFwd {
					want.F = 0
				}
				if layer.H != want.H || layer.G != want.G || layer.F != want.F || layer.Window != o.Window {
					t.Errorf("layer %d described as %+v", l, layer)
				}
			}
		})
	}
}

// TestWrite reads back what was written, as one file and as several.
func TestWrite(t *testing.T) {
	m := Named("qwen2")
	for _, limit := range []int64{0, 100_000} {
		dir := t.TempDir()
		if err := m.Write(dir, limit); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
		if err != nil || (len(files) == 1) != (limit == 0) {
			t.Fatalf("limit %d: files %v, %v", limit, files, err)
		}
		seen := 0
		for _, path := range files {
			seen += compare(t, m, path)
		}
		if seen != len(m.Tensors()) {
			t.Errorf("%d of %d tensors", seen, len(m.Tensors()))
		}
		_, err = os.Stat(filepath.Join(dir, "model.safetensors.index.json"))
		if (err == nil) != (limit > 0) {
			t.Errorf("limit %d: index: %v", limit, err)
		}
	}
}

func compare(t *testing.T, m *Model, path string) int {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, info := range f.Tensors() {
		want := readAll(t, m, info)
		got := make([]byte, len(want))
		if err := f.ReadAt(info.Name, got, 0); err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s: %s differs", filepath.Base(path), info.Name)
		}
	}
	return len(f.Tensors())
}
