package llamacpp

import (
	"fmt"
	"strings"
	"testing"

	"modelpress/formats/ggml"
	"modelpress/internal/testmodel"
)

// types writes the type of each tensor of a mix, and the number of the file type.
func types(t *testing.T, name string, m *Model, importance bool) (string, []ggml.Type) {
	t.Helper()
	list, number, err := Mix(name, m, importance)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintln(&b, "file type", number)
	for i, x := range m.Tensors {
		fmt.Fprintln(&b, x.Name, list[i])
	}
	return b.String(), list
}

// Every row is a whole number of blocks, vectors are F32, and a plain mix has its own type alone.
func TestMixFits(t *testing.T) {
	for _, c := range describable() {
		_, m := described(t, c.Options)
		for _, name := range Mixes() {
			_, list := types(t, name, m, false)
			for i, typ := range list {
				x := &m.Tensors[i]
				_, columns := x.Size()
				if _, err := typ.RowBytes(columns); err != nil {
					t.Errorf("%s, %s, %s: %v", c.Name, name, x.Name, err)
				}
				if (x.Vector || x.Use == Position) && typ != ggml.F32 {
					t.Errorf("%s, %s, %s: %s", c.Name, name, x.Name, typ)
				}
			}
		}
	}
}

func TestMixUnknown(t *testing.T) {
	_, m := described(t, testmodel.Options{})
	if _, _, err := Mix("q9_k", m, false); err == nil || !strings.Contains(err.Error(), "q4_k_m") {
		t.Errorf("error %v", err)
	}
	if _, n, err := Mix("Q4_K_M", m, false); err != nil || n != 15 {
		t.Errorf("file type %d, error %v", n, err)
	}
}

// byName returns the type of a tensor.
func byName(t *testing.T, m *Model, list []ggml.Type, name string) ggml.Type {
	t.Helper()
	for i := range m.Tensors {
		if m.Tensors[i].Name == name {
			return list[i]
		}
	}
	t.Fatalf("no tensor %s", name)
	return 0
}

// Importance, and depth as of a model of 70 billion parameters, change single tensors.
func TestMixSpecial(t *testing.T) {
	wide := testmodel.Options{Layers: 80, D: 256, H: 4, G: 2, F: 256, V: 8}
	_, m := described(t, wide)
	_, plain := types(t, "q4_0", m, false)
	_, known := types(t, "q4_0", m, true)
	for i := range plain {
		x := &m.Tensors[i]
		want := plain[i]
		if x.Use == FFNDown && x.Layer < 10 {
			want = ggml.Q4_1
		}
		if known[i] != want {
			t.Errorf("%s: %s with importance, want %s", x.Name, known[i], want)
		}
	}
	_, list := types(t, "q4_k_m", m, false)
	if got := byName(t, m, list, "blk.10.attn_v.weight"); got != ggml.Q5_K {
		t.Errorf("attn_v of 80 layers with fewer KV heads: %s", got)
	}
	wide.G = 4
	_, m = described(t, wide)
	_, list = types(t, "q4_k_m", m, false)
	if got := byName(t, m, list, "blk.10.attn_v.weight"); got != ggml.Q4_K {
		t.Errorf("attn_v of 80 layers: %s", got)
	}
}
