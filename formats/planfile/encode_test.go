package planfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func mustEncode(t testing.TB, p *Plan) []byte {
	t.Helper()
	data, err := Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestEncodeRoundTrip(t *testing.T) {
	p := sample()
	data := mustEncode(t, p)
	q, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if again := mustEncode(t, q); !bytes.Equal(again, data) {
		t.Errorf("encoding again gives other bytes:\n%s\n%s", again, data)
	}
	if q.PlanID != p.PlanID || q.Format != Format {
		t.Errorf("id %s format %s, want %s %s", q.PlanID, q.Format, p.PlanID, Format)
	}
	third, err := Decode(data)
	if err != nil || !reflect.DeepEqual(third, q) {
		t.Errorf("decoding twice differs: %v", err)
	}
	if data[len(data)-1] != '\n' || bytes.Contains(data, []byte(`\u003c`)) {
		t.Error("no trailing newline, or HTML escaped")
	}
	if !json.Valid(data) {
		t.Error("not JSON")
	}
}

func TestEncodeGolden(t *testing.T) {
	path := filepath.Join("testdata", "sample.json")
	data := mustEncode(t, sample())
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, want) {
		t.Errorf("bytes of the sample changed, which is a new format version:\n%s", data)
	}
}

func TestEncodeIgnoresSpelling(t *testing.T) {
	want := mustEncode(t, sample())
	p := sample()
	p.Steps[0].Decision = json.RawMessage("{\"a\":9007199254740993,\n \"b\":[1.0, 25e-1, 0.000000001]}")
	p.Recipe.Settings = json.RawMessage(`{"quantize":{"damp":0.01,"bits":4},"seed":1}`)
	if got := mustEncode(t, p); !bytes.Equal(got, want) {
		t.Errorf("equal decisions, other bytes:\n%s", got)
	}
	p = sample()
	p.Targets, p.Gates = nil, nil
	a := mustEncode(t, p)
	p = sample()
	p.Targets, p.Gates = []Target{}, []Gate{}
	if !bytes.Equal(a, mustEncode(t, p)) {
		t.Error("nil and empty lists give other bytes")
	}
}

// The id can be checked with sed and sha256sum.
func TestPlanIDIsOfTheFileWithoutItsLine(t *testing.T) {
	p := sample()
	data := mustEncode(t, p)
	rest := regexp.MustCompile(`(?m)^  "plan_id": .*\n`).ReplaceAll(data, nil)
	sum := sha256.Sum256(rest)
	if want := "sha256:" + hex.EncodeToString(sum[:]); p.PlanID != want {
		t.Errorf("id %s, want %s", p.PlanID, want)
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*Plan)
		want string
	}{
		"duplicate key in a decision": {func(p *Plan) { p.Steps[0].Decision = json.RawMessage(`{"a":1,"a":2}`) }, `duplicate key "a"`},
		"broken decision":             {func(p *Plan) { p.Steps[0].Decision = json.RawMessage(`{"a":`) }, "decision of step quantize"},
		"two values":                  {func(p *Plan) { p.Steps[0].Decision = json.RawMessage(`1 2`) }, "more than one"},
		"number out of range":         {func(p *Plan) { p.Steps[0].Decision = json.RawMessage(`1e999`) }, "out of range"},
		"deep decision": {func(p *Plan) {
			p.Steps[0].Decision = json.RawMessage(strings.Repeat("[", 100) + strings.Repeat("]", 100))
		}, "nested deeper"},
		"change missing":        {func(p *Plan) { p.Changes = p.Changes[:1] }, "1 rows for 2 source tensors"},
		"changes unsorted":      {func(p *Plan) { p.Changes[0], p.Changes[1] = p.Changes[1], p.Changes[0] }, "not sorted"},
		"before differs":        {func(p *Plan) { p.Changes[0].Before.Shape = []int64{32, 64} }, "before differs"},
		"unknown step":          {func(p *Plan) { p.Changes[0].Step = "prune" }, `unknown step "prune"`},
		"reason for people":     {func(p *Plan) { p.Changes[0].Reason = "It was big." }, "reason"},
		"gap":                   {func(p *Plan) { p.Output.Shards[0].Tensors[1].Offset = 2048 }, "offset 2048, want 1024"},
		"shard size":            {func(p *Plan) { p.Output.Shards[0].Bytes++ }, "header and tensors are 1352"},
		"not placed":            {func(p *Plan) { p.Output.Shards = p.Output.Shards[:1] }, "the changes leave 3"},
		"total":                 {func(p *Plan) { p.Output.FileBytes = 1 }, "output.file_bytes"},
		"absolute file":         {func(p *Plan) { p.Output.Files[0].Name = "/etc/passwd" }, "plain file name"},
		"parent file":           {func(p *Plan) { p.Source.Files[0].Name = "../x" }, "plain file name"},
		"digest":                {func(p *Plan) { p.Source.ConfigDigest = "sha256:ABC" }, "source.config_digest"},
		"hash":                  {func(p *Plan) { p.Source.Tensors[0].SHA256 = "" }, "64 hex"},
		"loads with violations": {func(p *Plan) { p.Targets[1].Loads = true }, "loads is true"},
		"gate":                  {func(p *Plan) { p.Gates[0].Op = "<" }, "op is"},
		"step version":          {func(p *Plan) { p.Steps[0].Version = 0 }, "version 0"},
		"negative":              {func(p *Plan) { p.Source.Tensors[0].Shape[0] = -64 }, "negative dimension"},
	} {
		p := sample()
		c.edit(p)
		if _, err := Encode(p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestTotals(t *testing.T) {
	p := sample()
	if b, a := p.Totals(); b != 4160 || a != 1216 {
		t.Errorf("totals %d -> %d", b, a)
	}
	want := []Count{{"kept_norm", 1, 64, 64}, {"quantized_rtn", 1, 4096, 1152}}
	if got := p.Summary(); !reflect.DeepEqual(got, want) {
		t.Errorf("summary %v, want %v", got, want)
	}
	if !p.Changed() {
		t.Error("a plan that quantizes changes nothing")
	}
	p.Changes = p.Changes[1:]
	if p.Changed() {
		t.Error("a plan that keeps everything changes something")
	}
	if s, ok := p.Step("quantize"); !ok || s.Version != 1 {
		t.Error("step not found")
	}
	if _, ok := p.Step("prune"); ok {
		t.Error("found a step that is not there")
	}
}
