package packed

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"testing"

	"modelpress/formats"
)

var writeTo = flag.String("write", "", "folder for the checkpoints that examples/formatcheck/ctensors.py decompresses")

type digest struct {
	DType  string  `json:"dtype"`
	SHA256 string  `json:"sha256"`
	Shape  []int64 `json:"shape"`
}

// facts is what examples/formatcheck/ctensors.py says.
type facts struct {
	Checkpoints map[string]struct{ Dense, Compressed map[string]digest }
	Presets     map[string]json.RawMessage
}

func readFacts(t *testing.T) (f facts) {
	t.Helper()
	b, err := os.ReadFile("testdata/decompressed.json")
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// What a view shows of every format is what the code of compressed-tensors gives for the same files, bit for bit; what Quantize
// stores of FP8 and FP4 is what that code stores. testdata/decompressed.json was written by examples/formatcheck/ctensors.py with
// compressed-tensors at ac8e2ba (0.18).
func TestDecompressed(t *testing.T) {
	want := readFacts(t).Checkpoints
	list := examples(t)
	if len(list) != len(want) {
		t.Errorf("%d checkpoints, %d were decompressed", len(list), len(want))
	}
	for _, e := range list {
		if *writeTo != "" {
			e.write(t, *writeTo)
			continue
		}
		view, err := Dense(e.tensors, e.config)
		if err != nil {
			t.Errorf("%s: %v", e.name, err)
			continue
		}
		if len(view.Tensors()) != len(want[e.name].Dense) {
			t.Errorf("%s: view has %d tensors, want %d", e.name, len(view.Tensors()), len(want[e.name].Dense))
		}
		for _, info := range view.Tensors() {
			w := want[e.name].Dense[info.Name]
			if info.DType.String() != w.DType || sum(readAll(t, view, info.Name)) != w.SHA256 {
				t.Errorf("%s: %s, %s: values differ from those of compressed-tensors (%s)", e.name, info.Name, info.DType, w.DType)
			}
		}
		for name, w := range want[e.name].Compressed {
			got := e.tensors[name]
			// The package was asked for scales in float32; what has none of that type is rounded.
			if got.DType.String() != w.DType && (w.DType != "U8" || got.DType.Size() != 1) {
				continue
			}
			if sum(got.Data) != w.SHA256 {
				t.Errorf("%s: %s differs from what compressed-tensors stores", e.name, name)
			}
		}
	}
}

// Settings are written as the presets of the package are, but for the format, which those leave to be found out.
func TestPresets(t *testing.T) {
	presets := readFacts(t).Presets
	for name, s := range map[string]Setting{
		"W4A16": PackQuantized{Scheme{4, 128, true}, formats.BF16, false}, "W4A16_ASYM": PackQuantized{Scheme{4, 128, false}, formats.BF16, false},
		"W8A16": PackQuantized{Scheme{8, 128, true}, formats.BF16, false}, "W8A8": IntQuantized{true, formats.BF16},
		"FP8_DYNAMIC": Float{FormatFloat, StrategyChannel, formats.BF16}, "FP8_BLOCK": Float{FormatFloat, StrategyBlock, formats.BF16},
		"NVFP4A16": Float{Format: FormatNVFP4}, "MXFP4A16": Float{Format: FormatMXFP4},
	} {
		var got struct {
			Groups map[string]map[string]any `json:"config_groups"`
		}
		var want map[string]any
		if err := json.Unmarshal(Config([]GroupConfig{{Setting: s}}, nil), &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(presets[name], &want); err != nil {
			t.Fatal(name, err)
		}
		want["format"] = got.Groups["group_0"]["format"]
		if !reflect.DeepEqual(got.Groups["group_0"], want) {
			t.Errorf("%s:\n%v\n%v", name, got.Groups["group_0"], want)
		}
	}
}
