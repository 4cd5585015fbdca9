package calib

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

// pieceEncoder is an Encoder in which a leading blank changes the first piece of a text, as SentencePiece does, so that
// pieces of a text have other tokens than the whole.
type pieceEncoder struct{}

func (pieceEncoder) Encode(s string) []int32 {
	ids := byteEncoder{}.Encode(s)
	if len(ids) > 0 {
		ids[0] += 1000
	}
	return ids
}

// pairEncoder joins bytes in pairs from the start of the text, so that no prefix of odd length has a prefix's tokens.
type pairEncoder struct{}

func (pairEncoder) Encode(s string) []int32 {
	var ids []int32
	for len(s) >= 2 {
		ids = append(ids, int32(s[0])<<8|int32(s[1]))
		s = s[2:]
	}
	for i := range s {
		ids = append(ids, int32(s[i]))
	}
	return ids
}

func text(ids []int32) string {
	var b strings.Builder
	for _, v := range ids {
		if v >= 1000 && v < 1256 {
			v -= 1000
		}
		b.WriteByte(byte(v))
	}
	return b.String()
}

func TestMakePromptsSingle(t *testing.T) {
	hay := byteEncoder{}.Encode(strings.Repeat("abcdefghij ", 100))
	opt := RetrievalOptions{Lengths: []int{200, 300}, Depths: []float64{0, 0.5, 1}, PerCell: 3, Seed: 1, BOS: id(7)}
	prompts, err := MakePrompts(byteEncoder{}, hay, opt)
	if err != nil || len(prompts) != 18 {
		t.Fatal(len(prompts), err)
	}
	for i, p := range prompts {
		body := text(p.IDs[1:])
		answer := text(p.Answer)
		var name string
		fmt.Sscanf(body[strings.Index(body, "// The pass key of "):], "// The pass key of %s", &name)
		fact := "\n// The pass key of " + name + " is" + answer + ". Remember " + name + ".\n"
		question := "\n// What is the pass key of " + name + "? The pass key of " + name + " is"
		switch {
		case p.IDs[0] != 7 || len(p.IDs)+len(p.Answer) != p.Length || len(p.Sequence()) != p.Length-1:
			t.Errorf("prompt %d: %d ids, answer %d, length %d", i, len(p.IDs), len(p.Answer), p.Length)
		case !slices.Equal(p.IDs[p.NeedleLo:p.NeedleHi], p.Answer):
			t.Errorf("prompt %d: the span holds %q, the answer is %q", i, text(p.IDs[p.NeedleLo:p.NeedleHi]), answer)
		case strings.Count(body, fact) != 1 || !strings.HasSuffix(body, question) || strings.Count(body, answer) != 1:
			t.Errorf("prompt %d: %q", i, body)
		case p.Depth == 0 && !strings.HasPrefix(body, fact), p.Depth == 1 && !strings.HasSuffix(body, fact+question):
			t.Errorf("prompt %d: depth %g: %q", i, p.Depth, body)
		}
		rest := strings.Replace(strings.TrimSuffix(body, question), fact, "", 1)
		if !strings.Contains(text(hay), rest) {
			t.Errorf("prompt %d: the haystack is in pieces: %q", i, rest)
		}
	}
	again, _ := MakePrompts(byteEncoder{}, hay, opt)
	if PromptsDigest(again) != PromptsDigest(prompts) {
		t.Error("not the same twice")
	}
	opt.Seed++
	again, _ = MakePrompts(byteEncoder{}, hay, opt)
	if PromptsDigest(again) == PromptsDigest(prompts) {
		t.Error("the seed changes nothing")
	}
}

func TestMakePromptsManyFacts(t *testing.T) {
	for _, c := range []struct {
		opt   RetrievalOptions
		facts int
	}{
		{RetrievalOptions{Kind: MultiKey, Lengths: []int{600}}, 3},
		{RetrievalOptions{Kind: MultiKey, Lengths: []int{600}, Distractors: 5}, 6},
		{RetrievalOptions{Kind: KeyValue, Lengths: []int{600}}, 0},
		{RetrievalOptions{Kind: KeyValue, Lengths: []int{600}, Fact: "{name}={code};", Question: "{name}="}, 0},
	} {
		c.opt.Depths, c.opt.PerCell = []float64{0, 0.3, 1}, 4
		prompts, err := MakePrompts(byteEncoder{}, nil, c.opt)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range prompts {
			body := text(p.IDs)
			sep := "Remember"
			if c.opt.Fact != "" {
				sep = ";"
			}
			n := strings.Count(body, sep)
			if !slices.Equal(p.IDs[p.NeedleLo:p.NeedleHi], p.Answer) || n != p.Extra+1 || c.facts > 0 && n != c.facts ||
				c.facts == 0 && (n < 6 || p.Length-len(p.IDs)-len(p.Answer) > 70) {
				t.Errorf("%v prompt %d: %d facts, %d extra: %q", c.opt, i, n, p.Extra, body)
			}
			if c.opt.Kind == KeyValue && p.Depth == 0 && p.NeedleLo > 40 || p.Depth == 1 && c.opt.Fact != "" && p.NeedleHi < len(p.IDs)-12 {
				t.Errorf("prompt %d: depth %g, needle at %d of %d", i, p.Depth, p.NeedleLo, len(p.IDs))
			}
		}
	}
}

// TestMakePromptsMultiValue: every code of the one name is in the answer, in the order of the text.
func TestMakePromptsMultiValue(t *testing.T) {
	for _, extra := range []int{0, 3} {
		opt := RetrievalOptions{Kind: MultiValue, Lengths: []int{600}, Depths: []float64{0, 0.5, 1}, PerCell: 4, Distractors: extra}
		prompts, err := MakePrompts(byteEncoder{}, nil, opt)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range prompts {
			body, at := text(p.IDs), 0
			codes := strings.Split(text(p.Answer), ",")
			for _, c := range codes {
				next := strings.Index(body[at:], "is"+c+".")
				if next < 0 {
					t.Fatalf("prompt %d: code %q is not in the rest of %q", i, c, body)
				}
				at += next
			}
			name := strings.Fields(body[strings.LastIndex(body, "pass key of "):])[3]
			if want := max(extra, 1) + 1; len(codes) != want || strings.Count(body, "Remember "+name+".") != want || p.Extra != want-1 {
				t.Errorf("prompt %d: %d codes of %q, want %d: %q", i, len(codes), name, want, body)
			}
			if n := len(p.IDs) + len(p.Answer); n > p.Length || n < p.Length-2 || !strings.Contains(text(p.Answer), text(p.IDs[p.NeedleLo:p.NeedleHi])) {
				t.Errorf("prompt %d: %d tokens of %d", i, n, p.Length)
			}
		}
	}
}

// TestFactTokens checks that code and answer have the same tokens whatever the vocabulary does at the seams.
func TestFactTokens(t *testing.T) {
	for _, tok := range []Encoder{byteEncoder{}, pieceEncoder{}, pairEncoder{}} {
		for _, template := range []string{DefaultFact, "{name}={code}", "{code} is the key of {name}.", "x{name}\t {code}\n"} {
			f, err := newForm(tok, template, "What is {name}? ")
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"bo", "boba", "b"} {
				x := f.fill(name, "4711")
				if !slices.Equal(x.ids[x.lo:x.hi], x.code) || len(x.code) == 0 {
					t.Errorf("%T %q: span %d-%d of %v, code %v", tok, template, x.lo, x.hi, x.ids, x.code)
				}
			}
		}
	}
	whole := pieceEncoder{}.Encode("is 4711.")
	f, _ := newForm(pieceEncoder{}, "is {code}.{name}", "q{name}")
	if x := f.fill("", "4711"); !slices.Equal(x.ids, whole) || x.lo != 2 || x.hi != 7 {
		t.Error("running text is not kept whole", x.ids, x.lo, x.hi)
	}
}

func TestMakePromptsErrors(t *testing.T) {
	ok := RetrievalOptions{Lengths: []int{200}, Depths: []float64{0.5}}
	with := func(f func(*RetrievalOptions)) RetrievalOptions { o := ok; f(&o); return o }
	for _, c := range []struct {
		hay  []int32
		opt  RetrievalOptions
		want string
	}{
		{nil, with(func(o *RetrievalOptions) { o.Lengths = nil }), "no lengths"},
		{nil, with(func(o *RetrievalOptions) { o.Depths = []float64{1.5} }), "depth 1.5"},
		{nil, with(func(o *RetrievalOptions) { o.Lengths = []int{1 << 30} }), "passes the limit"},
		{nil, with(func(o *RetrievalOptions) { o.Lengths = []int{50} }), "length 50: no room for the facts and the question"},
		{nil, with(func(o *RetrievalOptions) { o.Kind = KeyValue; o.Lengths = []int{140} }), "no room"},
		{nil, with(func(o *RetrievalOptions) { o.Kind = "other" }), `kind "other" is none of`},
		{nil, with(func(o *RetrievalOptions) { o.Fact = "{name}" }), "{code} once"},
		{nil, with(func(o *RetrievalOptions) { o.Fact = "{name}{code}{code}" }), "{code} once"},
		{nil, with(func(o *RetrievalOptions) { o.Question = "what?" }), "must hold {name}"},
		{nil, with(func(o *RetrievalOptions) { o.Question = "{name}{code}" }), "must not hold {code}"},
		{make([]int32, 20), ok, "the haystack has 20 tokens"},
	} {
		_, err := MakePrompts(byteEncoder{}, c.hay, c.opt)
		var fe *formats.Error
		if !errors.As(err, &fe) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	if _, err := MakePrompts(nil, nil, ok); err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
		t.Error(err)
	}
}

func TestPromptsRoundTrip(t *testing.T) {
	prompts, err := MakePrompts(byteEncoder{}, nil, RetrievalOptions{Kind: MultiKey, Lengths: []int{400}, Depths: []float64{0, 0.25}, PerCell: 2})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := WritePrompts(&b, prompts); err != nil {
		t.Fatal(err)
	}
	got, err := ReadPrompts(writeFile(t, "p.json", b.Bytes()))
	if err != nil || !slices.EqualFunc(got, prompts, func(a, b Prompt) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
		t.Error(got, err)
	}
	b.Reset()
	if err := WritePrompts(&b, nil); err != nil || !json.Valid(b.Bytes()) {
		t.Error(b.String(), err)
	}
}

func TestReadPrompts(t *testing.T) {
	p, err := ReadPrompts(writeFile(t, "p.json", []byte(`[{"dist": 8, "extra": 1, "ids": [5,6,7,8,9], "answer": [6,7], "needle": [1,3]}]`)))
	if err != nil || len(p) != 1 || p[0].NeedleLo != 1 || p[0].NeedleHi != 3 || p[0].Length != 64 || p[0].Depth != 0.2 || p[0].Extra != 1 {
		t.Error(p, err)
	}
	for data, want := range map[string]string{
		``:   "not a JSON list",
		`{}`: "not a JSON list",
		`[]`: "holds no prompts",
		`[{"ids":[1],"answer":[1],"needle":[0,1]}`:                "does not end",
		`[{"ids":[1],"answer":[1],"needle":[0,1]}] 1`:             "something follows",
		`[{"ids":[],"answer":[1],"needle":[0,1]}]`:                "prompt 0: 0 ids",
		`[{"ids":[1],"answer":[],"needle":[0,1]}]`:                "an answer of 0 tokens",
		`[{"ids":[1],"answer":[1],"needle":[0,2]}]`:               "needle [0 2] is no span",
		`[{"ids":[1],"answer":[1],"needle":[0,1,1]}]`:             "is no span",
		`[{"ids":[1],"answer":[1],"needle":[1,1]}]`:               "is no span",
		`[{"ids":[1],"answer":[1],"needle":[-1,1]}]`:              "is no span",
		`[{"ids":[-1],"answer":[1],"needle":[0,1]}]`:              "id -1",
		`[{"ids":[1],"answer":[99999999999],"needle":[0,1]}]`:     "prompt 0: json",
		`[{"ids":[1],"answer":[1],"needle":[0,1],"depth":2}]`:     "depth 2",
		`[{"ids":[1],"answer":[1],"needle":[0,1],"length":-1}]`:   "negative",
		`[{"ids":[1],"answer":[1],"needle":[0,1]},{"ids":["a"]}]`: "prompt 1: json",
	} {
		_, err := ReadPrompts(writeFile(t, "p.json", []byte(data)))
		var fe *formats.Error
		if !errors.As(err, &fe) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", data, err, want)
		}
	}
}
