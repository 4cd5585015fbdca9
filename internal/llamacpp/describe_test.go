package llamacpp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// described returns a random model and what the file says of it.
func described(t *testing.T, o testmodel.Options) (*testmodel.Model, *Model) {
	t.Helper()
	src := testmodel.New(o)
	a, err := arch.Describe(src.Config, src)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Describe(a)
	if err != nil {
		t.Fatal(err)
	}
	return src, m
}

// listing writes keys, tensors and warnings, one a line.
func listing(m *Model) string {
	var b strings.Builder
	for _, kv := range m.KV {
		fmt.Fprintf(&b, "%s = %v (%T)\n", kv.Key, kv.Value.Data, kv.Value.Data)
	}
	for _, t := range m.Tensors {
		from := t.From
		if from == "" {
			from = fmt.Sprint(t.Values)
		}
		fmt.Fprintf(&b, "%s %v <- %s", t.Name, t.Shape, from)
		if t.Heads > 0 {
			fmt.Fprintf(&b, " heads %d", t.Heads)
		}
		if t.Transposed {
			b.WriteString(" transposed")
		}
		fmt.Fprintf(&b, " [%s, layer %d, vector %t]\n", t.Use, t.Layer, t.Vector)
	}
	for _, w := range m.Warnings {
		fmt.Fprintln(&b, "warning:", w)
	}
	return b.String()
}

// golden compares a text with a file of testdata, or writes it where UPDATE_GOLDEN is set.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	compare(t, name, got)
}

// compare compares a text with a file of testdata.
func compare(t *testing.T, name, got string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	a, b := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			t.Fatalf("%s, line %d:\n got %q\nwant %q", name, i+1, at(b, i), at(a, i))
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end)"
}

func TestDescribeGolden(t *testing.T) {
	for _, c := range describable() {
		t.Run(c.Name, func(t *testing.T) {
			_, m := described(t, c.Options)
			golden(t, "describe-"+c.Name+".txt", listing(m))
		})
	}
}

// describable are the cases of testmodel that a GGUF file can hold, and one more of deci.
func describable() []testmodel.Case {
	var out []testmodel.Case
	for _, c := range testmodel.Cases() {
		if c.Name != "llama-pruned" { // has a layer without FFN
			out = append(out, c)
		}
	}
	return append(out, testmodel.Case{Name: "llama-deci", Options: testmodel.Options{Layers: 4, G: 4, Seed: 18,
		PerLayer: map[int]testmodel.Sizes{1: {NoAttention: true}, 2: {H: 4, G: 2, F: 96}}}},
		testmodel.Case{Name: "qwen2-deci", Options: testmodel.Options{Family: "qwen2", Layers: 3, G: 4, Seed: 19,
			PerLayer: map[int]testmodel.Sizes{1: {G: 2}, 2: {F: 100}}}},
		testmodel.Case{Name: "qwen2-narrow", Options: testmodel.Options{Family: "qwen2", H: 4, G: 2, K: 8, Seed: 20}})
}

// Every tensor of the checkpoint is written once, but for the embedding of gpt2, and every tensor written is one of the checkpoint's.
func TestEveryTensorIsWritten(t *testing.T) {
	for _, c := range describable() {
		src, m := described(t, c.Options)
		used, names := map[string]int{}, map[string]bool{}
		for _, x := range m.Tensors {
			if names[x.Name] {
				t.Errorf("%s: %s stands twice", c.Name, x.Name)
			}
			names[x.Name] = true
			if x.From != "" {
				used[x.From]++
			}
		}
		for _, info := range src.Tensors() {
			want := 1
			if info.Name == "transformer.wte.weight" {
				want = 2
			}
			if used[info.Name] != want {
				t.Errorf("%s: %s is written %d times", c.Name, info.Name, used[info.Name])
			}
			delete(used, info.Name)
		}
		for name := range used {
			t.Errorf("%s: %s is not in the checkpoint", c.Name, name)
		}
	}
}

func TestRefused(t *testing.T) {
	per := func(m map[int]testmodel.Sizes) testmodel.Options { return testmodel.Options{Layers: 3, PerLayer: m} }
	scaled := func(family string, s testmodel.Scaling) testmodel.Options {
		return testmodel.Options{Family: family, Scaling: &s}
	}
	llama3 := testmodel.Scaling{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbedded: 64}
	for _, c := range []struct {
		name    string
		options testmodel.Options
		edit    func(*arch.Model)
		want    string
	}{
		{"no FFN", per(map[int]testmodel.Sizes{1: {NoFeedFwd: true}}), nil, "layer 1 has no FFN"},
		{"layer 0 without attention", per(map[int]testmodel.Sizes{0: {NoAttention: true}}), nil, "layer 0 has no attention"},
		{"head dims", testmodel.Options{}, func(m *arch.Model) { m.Layers[1].K = 4; m.Layers[1].H = 16 }, "one head dim: layer 1 has 4, others 8"},
		{"qwen3 of layers that differ", testmodel.Options{Family: "qwen3", K: 16, PerLayer: map[int]testmodel.Sizes{1: {F: 96}}}, nil,
			"layers of qwen3 are all alike"},
		{"qwen3 with llama3", scaled("qwen3", llama3), nil, "qwen3 does not read the frequencies of llama3"},
		{"qwen3 with biases", testmodel.Options{Family: "qwen3"}, func(m *arch.Model) { m.Layers[0].Linears[arch.Q].Bias = "b" }, "no bias"},
		{"yarn with other corrections", scaled("llama", testmodel.Scaling{Type: "yarn", Factor: 4, BetaFast: 16}), nil, "beta_fast 32"},
		{"yarn without rounding", scaled("llama", testmodel.Scaling{Type: "yarn", Factor: 4}), func(m *arch.Model) { m.Rope.Truncate = false },
			"whole dims"},
		{"gpt2 with erf", testmodel.Options{Family: "gpt2"}, func(m *arch.Model) { m.Act = arch.GELUErf }, "tanh form"},
		{"gpt2 with narrow heads", testmodel.Options{Family: "gpt2"}, func(m *arch.Model) {
			for l := range m.Layers {
				m.Layers[l].H, m.Layers[l].G = 4, 4
			}
		}, "as wide as the stream"},
		{"too deep", testmodel.Options{Layers: 513, D: 8, H: 1, F: 8}, nil, "512 layers"},
		{"an unknown family", testmodel.Options{}, func(m *arch.Model) { m.Family = "falcon" }, `"falcon"`},
	} {
		a, err := arch.DescribeConfig(testmodel.New(c.options).Config)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if c.edit != nil {
			c.edit(a)
		}
		_, err = Describe(a)
		var refused *Refused
		var at *formats.Error
		if !errors.As(err, &refused) || !errors.As(err, &at) || at.File != "config.json" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
		if refused != nil && refused.Fix == "" {
			t.Errorf("%s: no fix", c.name)
		}
	}
}

func TestMetadataOrder(t *testing.T) {
	_, m := described(t, testmodel.Options{})
	kv := m.Metadata("a model", 7, nil)
	var keys []string
	for _, x := range kv {
		keys = append(keys, x.Key)
	}
	if got := strings.Join(keys[:4], " "); got != "general.architecture general.type general.name llama.block_count" {
		t.Errorf("begins with %s", got)
	}
	if got := strings.Join(keys[len(keys)-2:], " "); got != "general.file_type general.quantization_version" {
		t.Errorf("ends with %s", got)
	}
	if n := len(m.Metadata("", 0, nil)); n != len(kv)-1 {
		t.Errorf("%d entries without a name, %d with one", n, len(kv))
	}
}
