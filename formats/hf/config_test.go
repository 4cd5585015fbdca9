package hf

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats"
)

// hostileConfigs holds one config.json for each way to be bad, and part of the error.
var hostileConfigs = map[string]string{
	" ":                  "object is due",
	"null":               "object is due",
	"[]":                 "object is due",
	`"x"`:                "object is due",
	`{"a":NaN}`:          "not a JSON value",
	`{"a":-Infinity}`:    "not a JSON value",
	`{"a":[1,Infinity]}`: "not a JSON value",
	`{"num_attention_heads":8,"num_attention_heads":4}`: `duplicate key "num_attention_heads"`,
	`{"rope_scaling":{"factor":1,"factor":2}}`:          `duplicate key "factor"`,
	`{"a":[{"b":1,"\u0062":2}]}`:                        `duplicate key "b"`,
	`{"a":1}{"a":2}`:                                    "data after",
	`{"a":1} x`:                                         "data after",
	`{"a":1,}`:                                          "string is due",
	`{a:1}`:                                             "string is due",
	`{"a":01}`:                                          "a comma",
	`{"a":0x1}`:                                         "a comma",
	"{\"a\":\"\xff\"}":                                  "UTF-8",
	"\ufeff{}":                                          "object is due",
	"{\"a\":\"\n\"}":                                    "control character",
	`{"a":` + strings.Repeat("[", 100) + `}`:            "too deep",
	strings.Repeat(`{"a":`, 100_000):                    "too deep",
	`{"a":"` + strings.Repeat("x", 17<<20) + `"}`:             "over the limit",
	`{"architectures":["LlamaForCausalLM"],"hidden_size":256`: "ends where",
	`{"a":1e}`:                              "not a JSON value",
	`{"a":"\ud800"}`:                        "surrogate",
	`{"a":tru}`:                             "not a JSON value",
	"{\"a\":1}\x00":                         "data after",
	`{"quantization_config":{"a":1,"a":2}}`: `duplicate key "a"`,
}

func TestHostileConfigs(t *testing.T) {
	for text, want := range hostileConfigs {
		_, err := Open(single.with(tree{"config.json": text}).write(t, t.TempDir()))
		var e *formats.Error
		if !errors.As(err, &e) || e.File != "config.json" || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
		if len(text) <= maxConfigBytes {
			if err := CheckConfig([]byte(text), "config.json"); err == nil {
				t.Errorf("%.60q: CheckConfig accepts it", text)
			}
		}
	}
}

// TestHugeConfig checks that a config of a gigabyte is refused by its size and not read. The file is sparse.
func TestHugeConfig(t *testing.T) {
	dir := single.write(t, t.TempDir())
	if err := os.Truncate(filepath.Join(dir, "config.json"), 1<<30); err != nil {
		t.Fatal(err)
	}
	allocated := testing.AllocsPerRun(1, func() {
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "over the limit") {
			t.Error(err)
		}
	})
	if allocated > 200 {
		t.Errorf("%v allocations", allocated)
	}
}

func TestQuantizationConfig(t *testing.T) {
	for config, want := range map[string]string{
		`{}`:                               "",
		`{"quantization_config": null}`:    "",
		`{"quantization_config":{"x":1} }`: `{"x":1}`,
		`{"compression_config":{"y":1}}`:   `{"y":1}`,
		`{"text_config":{"quantization_config":{"x":1}}}`: "",
	} {
		if got := openTree(t, single.with(tree{"config.json": config})).QuantizationConfig(); string(got) != want {
			t.Errorf("%s: %s", config, got)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for text := range hostileConfigs {
		if len(text) < 4096 {
			f.Add([]byte(text), "a", `1`)
		}
	}
	f.Add([]byte(`{"a":{"b":[1,2]} , "c":"d"}`), "c", `{"x":[1,{}]}`)
	f.Add([]byte("{\n  \"a\": 1,\n  \"b\": 2\n}\n"), "b", `null`)
	f.Add([]byte(" { } "), "k\"", `[]`)
	f.Fuzz(func(t *testing.T, raw []byte, key, value string) {
		if CheckConfig(raw, "config.json") != nil {
			return
		}
		checkEdits(t, raw, key, value)
	})
}
