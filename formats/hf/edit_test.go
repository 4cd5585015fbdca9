package hf

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"modelpress/formats"
)

func raw(text string) json.RawMessage { return json.RawMessage(text) }

func TestEditConfig(t *testing.T) {
	const pretty = "{\n  \"a\": 1,\n  \"b\": [\n    1.50,\n    2e3\n  ],\n  \"c\": \"\\u00e9 <é>\"\n}\n"
	for _, x := range []struct {
		in     string
		set    []KV
		remove []string
		want   string
	}{
		{pretty, nil, nil, pretty},
		{pretty, nil, []string{"none"}, pretty},
		{pretty, []KV{{"a", 1}}, nil, pretty},
		{pretty, []KV{{"a", 2}}, nil, strings.Replace(pretty, "1,", "2,", 1)},
		{pretty, []KV{{"b", []int{}}}, nil, "{\n  \"a\": 1,\n  \"b\": [],\n  \"c\": \"\\u00e9 <é>\"\n}\n"},
		{pretty, nil, []string{"a"}, "{\n  \"b\": [\n    1.50,\n    2e3\n  ],\n  \"c\": \"\\u00e9 <é>\"\n}\n"},
		{pretty, nil, []string{"b"}, "{\n  \"a\": 1,\n  \"c\": \"\\u00e9 <é>\"\n}\n"},
		{pretty, nil, []string{"c"}, "{\n  \"a\": 1,\n  \"b\": [\n    1.50,\n    2e3\n  ]\n}\n"},
		{pretty, nil, []string{"c", "a"}, "{\n  \"b\": [\n    1.50,\n    2e3\n  ]\n}\n"},
		{pretty, []KV{{"d", map[string]any{"x": []int{1}}}}, []string{"c", "b"}, "{\n  \"a\": 1,\n  \"d\": {\n    \"x\": [\n      1\n    ]\n  }\n}\n"},
		{pretty, []KV{{"z", "<&>"}, {"y", nil}}, []string{"a", "b"}, "{\n  \"c\": \"\\u00e9 <é>\",\n  \"z\": \"<&>\",\n  \"y\": null\n}\n"},
		{pretty, []KV{{"d", 1}}, []string{"a", "b", "c"}, "{\n  \"d\": 1\n}\n"},
		{pretty, nil, []string{"a", "b", "c"}, "{}\n"},
		{"{}", []KV{{"a", 1}, {"b", 2}}, nil, "{\n  \"a\": 1,\n  \"b\": 2\n}"},
		{" { } ", []KV{{"a", 1}}, nil, " {\n  \"a\": 1\n} "},
		{`{"a":1,"b":2}`, []KV{{"b", raw(`{"x": 1}`)}, {"c", true}}, nil, `{"a":1,"b":{"x":1},"c":true}`},
		{`{"a": 1, "b": 2}`, []KV{{"c", []int{1, 2}}}, []string{"a"}, `{"b": 2, "c": [1,2]}`},
		{`{ "a": 1 }`, []KV{{"c", 2}}, nil, `{ "a": 1, "c": 2 }`},
		{`{"a":1}`, nil, []string{"a"}, `{}`},
		{"{\n\t\"a\": {}\n}", []KV{{"b", raw(`[1]`)}}, nil, "{\n\t\"a\": {},\n\t\"b\": [\n\t\t1\n\t]\n}"},
		{`{"x":{"a":1},"a":2}`, []KV{{"a", 3}}, nil, `{"x":{"a":1},"a":3}`},
		{`{"\u0061":1}`, []KV{{"a", 3}}, nil, `{"\u0061":3}`},
		{`{"a":"}","b":"{\"a\":1}"}`, []KV{{"b", 1}}, nil, `{"a":"}","b":1}`},
		{`{"n":123456789012345678901234567890,"f":0.1000}`, []KV{{"g", raw("1.0")}}, nil, `{"n":123456789012345678901234567890,"f":0.1000,"g":1.0}`},
	} {
		got, err := EditConfig([]byte(x.in), x.set, x.remove)
		if err != nil || string(got) != x.want {
			t.Errorf("set %v, remove %v of\n%s\ngives\n%s\nwant\n%s\n(%v)", x.set, x.remove, x.in, got, x.want, err)
		}
	}
}

func TestEditConfigErrors(t *testing.T) {
	for name, f := range map[string]func() error{
		"bad input":    func() error { _, err := EditConfig([]byte(`{"a":1,"a":2}`), nil, nil); return err },
		"set twice":    func() error { _, err := EditConfig([]byte(`{}`), []KV{{"a", 1}, {"a", 2}}, nil); return err },
		"set and gone": func() error { _, err := EditConfig([]byte(`{}`), []KV{{"a", 1}}, []string{"a"}); return err },
		"bad value":    func() error { _, err := EditConfig([]byte(`{}`), []KV{{"a", func() {}}}, nil); return err },
		"bad raw":      func() error { _, err := EditConfig([]byte(`{}`), []KV{{"a", raw(`{`)}}, nil); return err },
		"raw twice":    func() error { _, err := EditConfig([]byte(`{}`), []KV{{"a", raw(`{"x":1,"x":2}`)}}, nil); return err },
	} {
		if f() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// checkEdits sets, replaces and removes one key and checks that the others keep their bytes and their order.
func checkEdits(t *testing.T, text []byte, key, value string) {
	before, err := members(text, "f")
	if err != nil {
		t.Fatal(err)
	}
	same, err := EditConfig(text, nil, nil)
	if err != nil || string(same) != string(text) {
		t.Fatalf("no edit of %q gives %q, %v", text, same, err)
	}
	if !utf8.ValidString(key) || formats.CheckJSON([]byte(value), configDepth-1) != nil {
		return
	}
	set, err := EditConfig(text, []KV{{key, raw(value)}}, nil)
	if err != nil {
		t.Fatalf("set %q in %q: %v", key, text, err)
	}
	gone, err := EditConfig(text, nil, []string{key})
	if err != nil {
		t.Fatalf("remove %q from %q: %v", key, text, err)
	}
	others := otherKeys(text, before, key)
	for _, out := range [][]byte{set, gone} {
		after, err := members(out, "f")
		if err != nil || !slices.Equal(otherKeys(out, after, key), others) {
			t.Fatalf("other keys of %q become %q (%v)", text, out, err)
		}
	}
	if list, _ := members(gone, "f"); lookup(gone, list, key) != nil {
		t.Fatalf("%q is still in %q", key, gone)
	}
	list, _ := members(set, "f")
	if got := lookup(set, list, key); !sameJSON(got, value) {
		t.Fatalf("%q is %s in %q, want %s", key, got, set, value)
	}
}

func otherKeys(text []byte, list []member, key string) []string {
	var out []string
	for _, m := range list {
		if m.key != key {
			out = append(out, string(text[m.start:m.end]))
		}
	}
	return out
}

func sameJSON(got json.RawMessage, want string) bool {
	if got == nil {
		got = raw("null")
	}
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil {
		var x, y bytes.Buffer // numbers that float64 cannot hold
		return json.Compact(&x, got) == nil && json.Compact(&y, []byte(want)) == nil && x.String() == y.String()
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}
