package nn

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats/hf"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
)

// openModel opens a checkpoint directory on a device of two threads.
func openModel(t testing.TB, dir string) *Model {
	t.Helper()
	c, err := hf.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	a, err := arch.Describe(c.Config(), c)
	if err != nil {
		t.Fatal(err)
	}
	m := New(cpu.New(2), c, a)
	t.Cleanup(m.Release)
	return m
}

// npyData returns the data of a version 1 .npy file whose header names the dtype.
func npyData(t testing.TB, path, dtype string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 10 + int(binary.LittleEndian.Uint16(raw[8:]))
	if !bytes.HasPrefix(raw, []byte("\x93NUMPY\x01")) || !strings.Contains(string(raw[10:n]), dtype) {
		t.Fatalf("%s: header %q", path, raw[:n])
	}
	return raw[n:]
}

func readIDs(t testing.TB, path string) []int32 {
	raw := npyData(t, path, "<i8")
	ids := make([]int32, len(raw)/8)
	for i := range ids {
		ids[i] = int32(binary.LittleEndian.Uint64(raw[8*i:]))
	}
	return ids
}

func readFloats(t testing.TB, path string) []float32 {
	raw := npyData(t, path, "<f4")
	v := make([]float32, len(raw)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return v
}

// maxDiff returns the largest distance between two slices of one length, +Inf where a value is NaN.
func maxDiff(t testing.TB, got, want []float32) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values where %d are expected", len(got), len(want))
	}
	worst := 0.0
	for i := range got {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		worst = max(worst, d)
	}
	return worst
}

// TestGoldenFamilies compares logits with those of Hugging Face transformers 4.47 (f32, eager attention) on random
// checkpoints that it made.
func TestGoldenFamilies(t *testing.T) {
	configs, err := filepath.Glob("testdata/*/config.json")
	if err != nil || len(configs) != 9 {
		t.Fatalf("%d checkpoints, %v", len(configs), err)
	}
	for _, path := range configs {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			m := openModel(t, dir)
			got, err := m.Logits(readIDs(t, filepath.Join(dir, "ref_ids.npy")))
			if err != nil {
				t.Fatal(err)
			}
			diff := maxDiff(t, got, readFloats(t, filepath.Join(dir, "ref_logits.npy")))
			if diff > 1e-4 {
				t.Errorf("logits differ by up to %g", diff)
			}
			t.Logf("logits differ by up to %.3g", diff)
		})
	}
}
