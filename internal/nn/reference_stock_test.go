package nn

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// stockLogits returns the logits of the float64 reference of the stock classes, [T, V].
func stockLogits(t testing.TB, config []byte, src formats.Source, ids []int32) []float64 {
	t.Helper()
	r, err := testmodel.NewReference(config, src)
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.Logits(ids)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// apart returns the largest distance to the reference, +Inf where a value is NaN.
func apart(t testing.TB, got []float32, want []float64) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values where %d are expected", len(got), len(want))
	}
	worst := 0.0
	for i, w := range want {
		d := math.Abs(float64(got[i]) - w)
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		worst = max(worst, d)
	}
	return worst
}

// TestStockCases compares every family and every rotary scaling with the reference, which reads configuration and tensors
// by itself.
func TestStockCases(t *testing.T) {
	for _, c := range testmodel.Cases() {
		for _, dt := range []formats.DType{formats.F32, formats.BF16} {
			t.Run(c.Name+"/"+dt.String(), func(t *testing.T) {
				opt := c.Options
				opt.DType = dt
				src := testmodel.New(opt)
				m := describe(t, src, cpu.New(2))
				ids := testmodel.Windows(1, 70, m.Arch.V, 5)[0]
				d := apart(t, logits(t, m, ids), stockLogits(t, src.Config, src, ids))
				if d > 2e-5 {
					t.Errorf("logits differ by up to %g", d)
				}
				t.Logf("logits differ by up to %.3g", d)
			})
		}
	}
}

// TestStockSettings compares what the cases leave out: lengths beyond the trained one, layers with their own KV heads, other
// forms of YaRN's factor, and windows that begin at some layer.
func TestStockSettings(t *testing.T) {
	for name, opt := range map[string]testmodel.Options{
		"dynamic, longer than trained": {Context: 32, G: 2, Scaling: &testmodel.Scaling{Type: "dynamic", Factor: 2}},
		"KV heads per layer":           {Layers: 3, G: 4, PerLayer: map[int]testmodel.Sizes{0: {G: 1}, 2: {G: 8}}},
		"yarn": {K: 32, Scaling: &testmodel.Scaling{Type: "yarn", Factor: 8, OriginalMaxPositionEmbedded: 32, BetaFast: 16,
			BetaSlow: 2, AttentionFactor: 1.3}},
		"gpt2, narrow FFN":     {Family: "gpt2", F: 96},
		"qwen2, second slides": {Family: "qwen2", G: 2},
		"qwen3, second slides": {Family: "qwen3", G: 2},
	} {
		src := testmodel.New(opt)
		if strings.HasSuffix(name, "slides") {
			src.Config = []byte(strings.NewReplacer(`"max_window_layers": 2`, `"max_window_layers": 1`, `"sliding_window": null`,
				`"sliding_window": 8`, `"use_sliding_window": false`, `"use_sliding_window": true`).Replace(string(src.Config)))
		}
		m := describe(t, src, cpu.New(2))
		for _, n := range []int{1, 20, 61} {
			ids := testmodel.Windows(1, n, m.Arch.V, 6)[0]
			if slides := m.Arch.Layers[1].Window == 8; slides != strings.HasSuffix(name, "slides") {
				t.Fatalf("%s: window %d", name, m.Arch.Layers[1].Window)
			}
			if d := apart(t, logits(t, m, ids), stockLogits(t, src.Config, src, ids)); d > 2e-5 {
				t.Errorf("%s, %d tokens: logits differ by up to %g", name, n, d)
			}
		}
	}
}

// TestStockGolden compares the reference itself with transformers 4.47 in f32.
func TestStockGolden(t *testing.T) {
	configs, err := filepath.Glob("testdata/*/config.json")
	if err != nil || len(configs) != 9 {
		t.Fatalf("%d checkpoints, %v", len(configs), err)
	}
	for _, path := range configs {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c, err := hf.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got := stockLogits(t, c.Config(), c, readIDs(t, filepath.Join(dir, "ref_ids.npy")))
			d := apart(t, readFloats(t, filepath.Join(dir, "ref_logits.npy")), got)
			if d > 1e-5 {
				t.Errorf("logits differ by up to %g", d)
			}
			t.Logf("logits differ by up to %.3g", d)
		})
	}
}

// TestStockTrained compares the reference with transformers 4.47 in f32 on the trained model: 16 rows of a window.
func TestStockTrained(t *testing.T) {
	c, err := hf.Open(trainedModel)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ref := openTensors(t, "testdata/tiny-llama-go/reference.safetensors")
	want, rows := readTensor(t, ref, "logits"), readAll(t, ref, "rows")
	ids := uint16Windows(readAll(t, openTensors(t, trainedText), "ids"))[0]
	got := stockLogits(t, c.Config(), c, ids)
	v := len(got) / len(ids)
	worst, at := 0.0, ""
	for i := range 16 {
		r := int(binary.LittleEndian.Uint32(rows[4*i:]))
		if d := apart(t, want[i*v:(i+1)*v], got[r*v:(r+1)*v]); d > worst {
			worst, at = d, fmt.Sprint("row ", r)
		}
	}
	if worst > 1e-4 {
		t.Errorf("logits differ by up to %g, %s", worst, at)
	}
	t.Logf("logits differ by up to %.3g, %s", worst, at)
}
