package formats

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

var goodJSON = []string{
	`{}`, `[]`, ` {"a" : 1 , "b":[true,false,null]} `, `0`, `-0`, `-1.5e+10`, `1E5`, `""`, `"\u00e9\n\/"`, `"😀"`, `"\ud83d\ude00"`,
	`{"":{}}`, `[[[[1]]]]`, "\t\r\n1", `{"a":{"a":{"a":1}}}`, `"\u0000"`, `"` + "\x7f" + `"`,
}

var badJSON = map[string]string{ // text: part of the error
	``: "not a JSON value", `{`: "ends where a string", `[`: "not a JSON value", `[1`: "ends where", `"`: "inside a string", `"\`: "inside a string",
	`{"a"}`: "colon", `{"a":}`: "not a JSON", `{"a":1,}`: "string is due", `[1,]`: "not a JSON", `[,1]`: "not a JSON", `{1:1}`: "string is due",
	`{'a':1}`: "string is due", `NaN`: "not a JSON", `Infinity`: "not a JSON", `-Infinity`: "not a JSON", `[nan]`: "not a JSON", `nul`: "not a JSON",
	`nullx`: "data after", `01`: "data after", `+1`: "not a JSON", `.5`: "not a JSON", `1.`: "not a JSON", `1e`: "not a JSON", `1e+`: "not a JSON",
	`0x10`: "data after", `1_0`: "data after", `-`: "not a JSON", `{}{}`: "data after", `1 2`: "data after", "1\x00": "data after", "\ufeff1": "not a JSON",
	`"\x"`: "unknown escape", `"\u12"`: "four hexadecimal", `"\u12g4"`: "four hexadecimal", `"\ud800"`: "lone surrogate", `"\ud800\u0041"`: "lone surrogate",
	`"\udc00"`: "lone surrogate", `"\ude00\ud83d"`: "lone surrogate", "\"\n\"": "control character", "\"\\n\n\"": "control character",
	"\"\xff\"": "UTF-8", "\"\xed\xa0\x80\"": "UTF-8", "\"\xc0\x80\"": "UTF-8", "\"\\n\xff\"": "UTF-8",
	`{"a":1,"a":2}`: `duplicate key "a"`, `{"a":1,"\u0061":2}`: `duplicate key "a"`, `[{"x":{"b":1,"c":2,"b":3}}]`: `duplicate key "b"`,
	`{"a":1 "b":2}`: "a comma", `[1 2]`: "a comma", `/**/1`: "not a JSON", `// x`: "not a JSON", `[1}`: "a comma",
	strings.Repeat("[", 100): "too deep", strings.Repeat(`{"a":`, 1_000_000): "too deep", strings.Repeat("[", 20) + strings.Repeat("]", 20): "too deep",
}

func TestJSONAccepts(t *testing.T) {
	for _, text := range goodJSON {
		if err := CheckJSON([]byte(text), 16); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestJSONRefuses(t *testing.T) {
	for text, want := range badJSON {
		if err := CheckJSON([]byte(text), 16); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: error %v, want %q", text, err, want)
		}
	}
}

func TestJSONDuplicateAmongMany(t *testing.T) {
	var b strings.Builder
	b.WriteByte('{')
	for i := range 1000 {
		b.WriteString(`"k`)
		b.WriteString(strings.Repeat("x", i))
		b.WriteString(`":0,`)
	}
	for _, key := range []string{"k", "kx", "k" + strings.Repeat("x", 8), "k" + strings.Repeat("x", 999)} {
		if err := CheckJSON([]byte(b.String()+`"`+key+`":0}`), 4); err == nil || !strings.Contains(err.Error(), "duplicate key") {
			t.Errorf("duplicate of a key of %d bytes: %v", len(key), err)
		}
	}
	if err := CheckJSON([]byte(b.String()+`"new":0}`), 4); err != nil {
		t.Error(err)
	}
}

func TestJSONNatural(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "7": 7, " 12": 12, "9223372036854775807": 1<<63 - 1, "5,": 5} {
		if got, err := NewJSONScanner([]byte(text), 1).Natural(); err != nil || got != want {
			t.Errorf("%q = %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-1", "-0", "1.0", "1e3", "01", "00", "9223372036854775808", "99999999999999999999999", `"1"`, "null", "[1]"} {
		if got, err := NewJSONScanner([]byte(text), 1).Natural(); err == nil {
			t.Errorf("%q accepted as %d", text, got)
		}
	}
}

func TestJSONRaw(t *testing.T) {
	s := NewJSONScanner([]byte(` {"a": {"b":[1, 2]} , "c":3}`), 8)
	raw := map[string]string{}
	if err := s.Object(func(key string) error {
		v, err := s.Raw()
		raw[key] = string(v)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if raw["a"] != `{"b":[1, 2]}` || raw["c"] != "3" {
		t.Errorf("got %q", raw)
	}
}

// FuzzJSON holds the scanner against encoding/json: it must accept nothing that the other refuses, and read strings alike.
func FuzzJSON(f *testing.F) {
	for _, text := range goodJSON {
		f.Add([]byte(text))
	}
	for text := range badJSON {
		if len(text) < 1000 {
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := CheckJSON(data, 64)
		valid := json.Valid(data)
		if err == nil && !valid {
			t.Fatalf("%q accepted", data)
		}
		if err == nil && !utf8.Valid(data) {
			t.Fatalf("%q: invalid UTF-8 accepted", data)
		}
		if err != nil && valid && !stricter(err) {
			t.Fatalf("%q refused: %v", data, err)
		}
		s := NewJSONScanner(data, 64)
		if got, err := s.String(); err == nil && s.End() == nil {
			var want string
			if err := json.Unmarshal(data, &want); err != nil || got != want {
				t.Fatalf("%q read as %q, want %q (%v)", data, got, want, err)
			}
		}
	})
}

// stricter reports whether an error is about something that encoding/json lets pass.
func stricter(err error) bool {
	for _, part := range []string{"duplicate key", "UTF-8", "surrogate", "too deep"} {
		if strings.Contains(err.Error(), part) {
			return true
		}
	}
	return false
}
