package convert

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"modelpress/internal/testmodel"
)

// What a conversion says of itself is known before the result has its place; where it cannot be told there is none.
func TestReport(t *testing.T) {
	src := write(t, testmodel.Named("llama-gqa"))
	full := errors.New("disk full")
	for _, format := range []string{Safetensors, GGUF} {
		dir := t.TempDir()
		out := filepath.Join(dir, "out")
		o := options(src, format, out)
		var told *Result
		o.Report = func(r *Result) error {
			told = r
			if _, err := os.Stat(out); err == nil {
				t.Errorf("%s: the result is in its place already", format)
			}
			return full
		}
		if _, err := Convert(t.Context(), o); !errors.Is(err, full) {
			t.Errorf("%s: %v", format, err)
		}
		if list, _ := os.ReadDir(dir); len(list) > 0 {
			t.Errorf("%s left %v", format, list)
		}
		if told == nil || len(told.Tensors) == 0 || len(told.Files) == 0 {
			t.Errorf("%s: told %+v", format, told)
		}
		o.Out = "" // a dry run tells what it would write
		if _, err := Convert(t.Context(), o); !errors.Is(err, full) {
			t.Errorf("%s, dry: %v", format, err)
		}
	}
}

// The same conversion says the same wherever it runs.
func TestReportHasNoPath(t *testing.T) {
	var first []byte
	for range 2 {
		src := write(t, testmodel.Named("llama-gqa"))
		out, _ := convert(t, src, Packed, func(o *Options) { o.Scheme = "w8a8" })
		raw, err := os.ReadFile(filepath.Join(out, "report.json"))
		if err != nil {
			t.Fatal(err)
		}
		var all map[string]any
		if err := json.Unmarshal(raw, &all); err != nil {
			t.Fatal(err)
		}
		if all["conversion"] == nil {
			t.Error("the report has no conversion")
		}
		if first == nil {
			first = raw
		} else if string(first) != string(raw) {
			t.Errorf("reports differ:\n%s\n%s", first, raw)
		}
	}
}
