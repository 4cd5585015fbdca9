package heads

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/device/devicetest"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// readerCase is a measure that a device which reads attention may do where it lies.
type readerCase struct {
	name    string
	less    bool // takes less over the bus there, also of so short a text
	measure func(m *nn.Model) (any, error)
}

// promptCases are those of retrieval prompts.
func promptCases(prompts []calib.Prompt) []readerCase {
	ctx := context.Background()
	return []readerCase{
		{"wu", true, func(m *nn.Model) (any, error) { return Wu(ctx, m, prompts, Options{}) }},
		{"mass", true, func(m *nn.Model) (any, error) { return AttentionMass(ctx, m, prompts, Options{}) }},
		{"headkv", true, func(m *nn.Model) (any, error) { return HeadKV(ctx, m, prompts, Options{}) }},
	}
}

// windowCases are those of windows of text.
func windowCases(w calib.Windows) []readerCase {
	ctx := context.Background()
	plan := func(m *nn.Model, f func(p *manifest.Plan) (*Patterns, error)) (any, error) {
		p := Draft(m.Arch)
		out, err := f(p)
		return []any{out, p.Policies, p.Layers}, err
	}
	return []readerCase{
		{"razor", true, func(m *nn.Model) (any, error) {
			bos := int32(3)
			echo, induction, err := Razor(ctx, m, RazorOptions{Period: 13, Repeats: 3, Samples: 2, Seed: 4, BOS: &bos})
			return []any{echo, induction}, err
		}},
		{"streaming", true, func(m *nn.Model) (any, error) {
			return StreamingLoss(ctx, m, w, StreamingOptions{Sink: 3, Recent: 7})
		}},
		{"leank", true, func(m *nn.Model) (any, error) { return FindLeanK(ctx, m, w, LeanKOptions{Keep: 0.5, Align: 2}) }},
		{"leank, refined", false, func(m *nn.Model) (any, error) {
			return FindLeanK(ctx, m, w, LeanKOptions{Keep: 0.5, Align: 2, Refine: 3})
		}},
		{"echoatt", false, func(m *nn.Model) (any, error) { return FindEchoAtt(ctx, m, w, EchoAttOptions{}) }},
		{"tidal", false, func(m *nn.Model) (any, error) {
			return FindTidal(ctx, m, w, TidalOptions{Budget: 9, Window: 3, Rows: 12, Dense: 1, Selections: 1})
		}},
		{"sinks", false, func(m *nn.Model) (any, error) { return FindSinks(ctx, m, w, SinkOptions{Queries: 4}) }},
		{"minference", false, func(m *nn.Model) (any, error) {
			return plan(m, func(p *manifest.Plan) (*Patterns, error) {
				return MInference(ctx, m, w, p, MInferenceOptions{Sink: 2, Recent: 9, LastQ: 7, Block: 4, SampleBlocks: 5, From: 6})
			})
		}},
		{"xattention", false, func(m *nn.Model) (any, error) {
			return plan(m, func(p *manifest.Plan) (*Patterns, error) {
				return XAttention(ctx, m, w, p, XAttentionOptions{Block: 8, Stride: 2, Share: 0.9, SampleBlocks: 4})
			})
		}},
		{"static", true, func(m *nn.Model) (any, error) {
			return plan(m, func(p *manifest.Plan) (*Patterns, error) {
				return Static(ctx, m, w, p, StaticOptions{Density: 0.5, Block: 4, Sink: 2, Prefill: true, SampleBlocks: 3})
			})
		}},
	}
}

// Measures are the same, but for rounding, where a device reads attention in its own memory, and bit for bit where it does not. Where it
// does, less goes over the bus.
func TestReadersMeasureTheSame(t *testing.T) {
	planted := testmodel.NewPlanted(2)
	var prompts []calib.Prompt
	for _, q := range planted.Prompts(3, 90, 2, 7) {
		prompts = append(prompts, calib.Prompt{IDs: q.IDs, Answer: q.Answer, NeedleLo: q.NeedleLo, NeedleHi: q.NeedleHi})
	}
	readersAgree(t, "planted", planted.Config, planted, promptCases(prompts))
	for _, name := range []string{"llama-gqa", "mistral-swa", "gpt2", "llama-pruned"} {
		m := testmodel.Named(name)
		a, err := arch.Describe(m.Config, m)
		if err != nil {
			t.Fatal(err)
		}
		w := calib.NewWindows([][]int32{testmodel.Windows(1, 44, a.V, 2)[0], testmodel.Windows(1, 31, a.V, 3)[0]})
		cases := windowCases(w)
		if name == "mistral-swa" { // no layer may share a selection
			cases = slices.DeleteFunc(cases, func(c readerCase) bool { return c.name == "tidal" })
		}
		readersAgree(t, name, m.Config, m, cases)
	}
}

func readersAgree(t *testing.T, name string, config []byte, source formats.Source, cases []readerCase) {
	for _, c := range cases {
		t.Run(name+"/"+c.name, func(t *testing.T) {
			a, err := arch.Describe(config, source)
			if err != nil {
				t.Fatal(err)
			}
			on := func(d device.Device) any {
				v, err := c.measure(nn.New(d, source, a))
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			want := on(cpu.New(2))
			plain, reader := devicetest.NewRemote(cpu.New(2), 1<<30), devicetest.Reader{Remote: devicetest.NewRemote(cpu.New(2), 1<<30)}
			if got := on(plain); !reflect.DeepEqual(got, want) {
				t.Error("a device with a memory of its own gives other bits")
			}
			if where := differs(reflect.ValueOf(on(reader)), reflect.ValueOf(want), ""); where != "" {
				t.Error(where)
			}
			r, p := reader.Traffic(), plain.Traffic()
			idle := name == "mistral-swa" && (c.name == "static" || c.name == "minference" || c.name == "xattention") // windows are left alone
			if c.less && r.Down >= p.Down && !idle || r == p && !idle && c.name != "sinks" && c.name != "xattention" || r.Used != p.Used {
				t.Errorf("reader %+v, plain %+v", r, p)
			}
		})
	}
}

// differs says where two values differ by more than rounding does, "" for nowhere.
func differs(a, b reflect.Value, at string) string {
	switch a.Kind() {
	case reflect.Float32, reflect.Float64:
		if x, y := a.Float(), b.Float(); !(math.Abs(x-y) <= 1e-4*math.Max(1, math.Abs(y))) && x != y {
			return fmt.Sprintf("%s: %v, want %v", at, x, y)
		}
		return ""
	case reflect.Pointer, reflect.Interface:
		if a.IsNil() || b.IsNil() {
			break
		}
		return differs(a.Elem(), b.Elem(), at)
	case reflect.Slice:
		if a.Len() != b.Len() {
			return fmt.Sprintf("%s: %d values, want %d", at, a.Len(), b.Len())
		}
		for i := range a.Len() {
			if where := differs(a.Index(i), b.Index(i), fmt.Sprintf("%s[%d]", at, i)); where != "" {
				return where
			}
		}
		return ""
	case reflect.Struct:
		for i := range a.NumField() {
			if where := differs(a.Field(i), b.Field(i), at+"."+a.Type().Field(i).Name); where != "" {
				return where
			}
		}
		return ""
	}
	if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
		return fmt.Sprintf("%s: %s, want %s", at, x, y)
	}
	return ""
}
