package calib

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"modelpress/formats"
)

// tinyTokenizer is a small valid file with %s where the hostile tests put their own sections.
const tinyTokenizer = `{"version":"1.0","truncation":null,"padding":null,"added_tokens":%s,"normalizer":%s,"pre_tokenizer":%s,
"post_processor":%s,"decoder":%s,"model":%s}`

const tinyModel = `{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,
"byte_fallback":false,"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}`

// tinyWith returns the tiny file with one section replaced.
func tinyWith(section, value string) string {
	parts := map[string]string{"added_tokens": "[]", "normalizer": "null", "pre_tokenizer": "null", "post_processor": "null", "decoder": "null", "model": tinyModel}
	parts[section] = value
	return fmt.Sprintf(tinyTokenizer, parts["added_tokens"], parts["normalizer"], parts["pre_tokenizer"], parts["post_processor"], parts["decoder"], parts["model"])
}

func tinyModelWith(old, new string) string { return strings.Replace(tinyModel, old, new, 1) }

func TestLoadTokenizerRejects(t *testing.T) {
	nested := func(list, inner string) string {
		return strings.Repeat(`{"type":"Sequence","`+list+`":[`, 20) + inner + strings.Repeat(`]}`, 20)
	}
	token := func(rest string) string { return `[{"content":"x",` + rest + `}]` }
	cases := []struct{ name, data, want string }{
		{"empty", "", "empty file"},
		{"blank", " \n", "ends early"},
		{"not an object", "[1]", "want an object"},
		{"cut off", tinyWith("model", tinyModel)[:200], "ends early"},
		{"trailing data", tinyWith("model", tinyModel) + "{}", "after the end"},
		{"invalid UTF-8", "{\"version\":\"\xff\"}", "UTF-8"},
		{"version", `{"version":"2.0"}`, "version"},
		{"repeated section", `{"version":"1.0","version":"1.0"}`, "twice"},
		{"no model", `{"version":"1.0"}`, "model is missing"},
		{"unigram", tinyWith("model", `{"type":"Unigram","vocab":[["a",0]]}`), `"Unigram" is not supported`},
		{"wordpiece", tinyWith("model", `{"type":"WordPiece","vocab":{"a":0}}`), `"WordPiece" is not supported`},
		{"model is a list", tinyWith("model", `[]`), "want an object"},
		{"no vocab", tinyWith("model", `{"type":"BPE","merges":[]}`), "vocab is missing"},
		{"empty vocab", tinyWith("model", `{"type":"BPE","vocab":{},"merges":[]}`), "vocab is empty"},
		{"vocab of the wrong type", tinyWith("model", tinyModelWith(`{"a":0,"b":1,"ab":2}`, `["a"]`)), "model.vocab"},
		{"no merges", tinyWith("model", `{"type":"BPE","vocab":{"a":0}}`), "merges is missing"},
		{"negative id", tinyWith("model", tinyModelWith(`"b":1`, `"b":-1`)), "outside"},
		{"huge id", tinyWith("model", tinyModelWith(`"b":1`, `"b":4294967295`)), "outside"},
		{"id beyond int64", tinyWith("model", tinyModelWith(`"b":1`, `"b":1e99`)), "not an integer"},
		{"fractional id", tinyWith("model", tinyModelWith(`"b":1`, `"b":1.5`)), "not an integer"},
		{"id of the wrong type", tinyWith("model", tinyModelWith(`"b":1`, `"b":"1"`)), "not an integer"},
		{"null id", tinyWith("model", tinyModelWith(`"b":1`, `"b":null`)), "not an integer"},
		{"shared id", tinyWith("model", tinyModelWith(`"b":1`, `"b":0`)), "id 0 belongs to more than one"},
		{"repeated token", tinyWith("model", tinyModelWith(`"b":1`, `"a":1`)), "twice"},
		{"lone surrogates collide", tinyWith("model", tinyModelWith(`"b":1`, `"\ud800":1,"\udc00":3`)), "twice"},
		{"merge of a missing token", tinyWith("model", tinyModelWith(`"a b"`, `"a c"`)), `"c" is not in the vocabulary`},
		{"merge into a missing token", tinyWith("model", tinyModelWith(`"a b"`, `"b a"`)), `"ba" is not in the vocabulary`},
		{"merge without a space", tinyWith("model", tinyModelWith(`"a b"`, `"ab"`)), "merges[0]"},
		{"merge with two spaces", tinyWith("model", tinyModelWith(`"a b"`, `"a b b"`)), "merges[0]"},
		{"merge of nothing", tinyWith("model", tinyModelWith(`"a b"`, `" b"`)), "merges[0]"},
		{"merge of three", tinyWith("model", tinyModelWith(`"a b"`, `["a","b","c"]`)), "3 parts"},
		{"merges of both kinds", tinyWith("model", tinyModelWith(`"a b"`, `"a b",["a","b"]`)), "model.merges"},
		{"merges of numbers", tinyWith("model", tinyModelWith(`"a b"`, `1`)), "model.merges"},
		{"merges of the wrong type", tinyWith("model", tinyModelWith(`["a b"]`, `{"a":"b"}`)), "model.merges"},
		{"dropout", tinyWith("model", tinyModelWith(`"dropout":null`, `"dropout":0.1`)), "dropout"},
		{"unknown token missing", tinyWith("model", tinyModelWith(`"unk_token":null`, `"unk_token":"<unk>"`)), "unk_token"},
		{"prefix", tinyWith("model", tinyModelWith(`"continuing_subword_prefix":null`, `"continuing_subword_prefix":"##"`)), "continuing_subword_prefix"},
		{"suffix", tinyWith("model", tinyModelWith(`"end_of_word_suffix":null`, `"end_of_word_suffix":"</w>"`)), "end_of_word_suffix"},
		{"flag of the wrong type", tinyWith("model", tinyModelWith(`"fuse_unk":false`, `"fuse_unk":"no"`)), "fuse_unk"},
		{"normalizer", tinyWith("normalizer", `{"type":"Lowercase"}`), `"Lowercase" is not supported`},
		{"normalizer of the wrong type", tinyWith("normalizer", `"NFC"`), "normalizer"},
		{"nested normalizers", tinyWith("normalizer", nested("normalizers", `{"type":"NFC"}`)), "inside each other"},
		{"replace by regex", tinyWith("normalizer", `{"type":"Replace","pattern":{"Regex":" +"},"content":""}`), "must be a string"},
		{"replace of nothing", tinyWith("normalizer", `{"type":"Replace","pattern":{"String":""},"content":"x"}`), "must be a string"},
		{"replace that explodes", tinyWith("normalizer", `{"type":"Sequence","normalizers":[`+strings.Repeat(`{"type":"Replace","pattern":{"String":"a"},"content":"aaaa"},`, 9)+`null]}`), "times longer"},
		{"long prepend", tinyWith("normalizer", `{"type":"Prepend","prepend":"`+strings.Repeat("x", 300)+`"}`), "too many"},
		{"long sequence", tinyWith("normalizer", `{"type":"Sequence","normalizers":[`+strings.Repeat(`null,`, 99)+`null]}`), "too long"},
		{"long sequence of pre-tokenizers", tinyWith("pre_tokenizer", `{"type":"Sequence","pretokenizers":[`+strings.Repeat(`{"type":"Digits"},`, 99)+`null]}`), "too long"},
		{"metaspace not alone", tinyWith("pre_tokenizer", `{"type":"Sequence","pretokenizers":[{"type":"Digits"},{"type":"Metaspace"}]}`), "alone"},
		{"decoder that explodes", tinyWith("decoder", `{"type":"Replace","pattern":{"String":"a"},"content":"`+strings.Repeat("x", 99)+`"}`), "times longer"},
		{"template that repeats the text", tinyWith("post_processor", `{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A"}},{"Sequence":{"id":"A"}}],"special_tokens":{}}`), "single[1]"},
		{"pre-tokenizer", tinyWith("pre_tokenizer", `{"type":"BertPreTokenizer"}`), `"BertPreTokenizer" is not supported`},
		{"nested pre-tokenizers", tinyWith("pre_tokenizer", nested("pretokenizers", `{"type":"ByteLevel"}`)), "inside each other"},
		{"unknown pattern", tinyWith("pre_tokenizer", `{"type":"Split","pattern":{"Regex":"(a+)+$"},"behavior":"Isolated","invert":false}`), `"(a+)+$"`},
		{"string pattern", tinyWith("pre_tokenizer", `{"type":"Split","pattern":{"String":" "},"behavior":"Isolated","invert":false}`), "known regular expressions"},
		{"split behaviour", tinyWith("pre_tokenizer", `{"type":"Split","pattern":{"Regex":"\\p{N}"},"behavior":"Removed","invert":true}`), "Removed"},
		{"byte level not last", tinyWith("pre_tokenizer", `{"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"Digits"}]}`), "last stage"},
		{"metaspace of two characters", tinyWith("pre_tokenizer", `{"type":"Metaspace","replacement":"__"}`), "one character"},
		{"metaspace scheme", tinyWith("pre_tokenizer", `{"type":"Metaspace","prepend_scheme":"last"}`), "prepend_scheme"},
		{"metaspace contradiction", tinyWith("pre_tokenizer", `{"type":"Metaspace","prepend_scheme":"first","add_prefix_space":false}`), "contradicts"},
		{"post-processor", tinyWith("post_processor", `{"type":"Magic"}`), `"Magic" is not supported`},
		{"nested post-processors", tinyWith("post_processor", nested("processors", `null`)), "inside each other"},
		{"template without its token", tinyWith("post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}}],"special_tokens":{}}`), "lacks"},
		{"template with an id out of range", tinyWith("post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}}],"special_tokens":{"x":{"ids":[3]}}}`), "id 3 has no token"},
		{"template of pairs", tinyWith("post_processor", `{"type":"TemplateProcessing","single":[{"Sequence":{"id":"B"}}],"special_tokens":{}}`), "single[0]"},
		{"template of the wrong type", tinyWith("post_processor", `{"type":"TemplateProcessing","single":"$A"}`), "single"},
		{"brackets", tinyWith("post_processor", `{"type":"BertProcessing","sep":["a"],"cls":["a",0]}`), "sep"},
		{"decoder", tinyWith("decoder", `{"type":"CTC"}`), `"CTC" is not supported`},
		{"nested decoders", tinyWith("decoder", nested("decoders", `{"type":"Fuse"}`)), "inside each other"},
		{"strip of nothing", tinyWith("decoder", `{"type":"Strip","content":"","start":1,"stop":0}`), "content"},
		{"added token without id", tinyWith("added_tokens", `[{"content":"x"}]`), "added_tokens[0]"},
		{"added token without content", tinyWith("added_tokens", `[{"id":3}]`), "content"},
		{"added token of the wrong type", tinyWith("added_tokens", `["x"]`), "added_tokens[0]"},
		{"added tokens of the wrong type", tinyWith("added_tokens", `{}`), "added_tokens"},
		{"added flag of the wrong type", tinyWith("added_tokens", token(`"id":3,"lstrip":1`)), "lstrip"},
		{"added id out of range", tinyWith("added_tokens", token(`"id":99999999`)), "outside"},
		{"added id of another token", tinyWith("added_tokens", token(`"id":0`)), `in model.vocab, to "a"`},
		{"added token with another id", tinyWith("added_tokens", `[{"content":"a","id":3}]`), "has id 3 here and 0"},
		{"added token twice", tinyWith("added_tokens", `[{"content":"x","id":3},{"content":"x","id":3}]`), "twice"},
		{"added id twice", tinyWith("added_tokens", `[{"content":"x","id":3},{"content":"y","id":3}]`), "id 3 belongs"},
		{"added id gap", tinyWith("added_tokens", token(`"id":7`)), "has id 7"},
		{"long added token", tinyWith("added_tokens", `[{"content":"`+strings.Repeat("x", 5000)+`","id":3}]`), "too long"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tok, err := LoadTokenizer([]byte(c.data))
			if err == nil {
				t.Fatalf("loaded %d tokens", tok.VocabSize())
			}
			var fe *formats.Error
			if !errors.As(err, &fe) || fe.File != "tokenizer.json" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not name tokenizer.json and %q", err, c.want)
			}
			if len(err.Error()) > 800 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
	if _, err := LoadTokenizer([]byte(tinyWith("model", tinyModel))); err != nil {
		t.Errorf("the file that the cases vary does not load: %v", err)
	}
}

// TestMergeLong checks the heap against the simple loop on words of every length.
func TestMergeLong(t *testing.T) {
	b := loadVariant(t, variants(t)[2]).model
	m := newTextMaker(11)
	var short, long merger
	for range 2000 {
		word := m.pick(words) + m.pick(codeLines) + m.pick(words)
		word = word[:m.n(len(word))+1]
		if m.n(4) == 0 {
			word = strings.Repeat(word[:1], 1+m.n(200))
		}
		short.ids = b.symbols(short.ids[:0], word)
		want := slices.Clone(short.mergeShort(&b.pairs))
		long.ids = b.symbols(long.ids[:0], word)
		if got := long.mergeLong(nil, &b.pairs); !slices.Equal(got, want) {
			t.Fatalf("%q: heap %v, loop %v", word, got, want)
		}
	}
}

// TestUnitsEqualWhole checks that merging word by word gives what merging the whole text gives where no merge crosses ▁.
func TestUnitsEqualWhole(t *testing.T) {
	for _, v := range variants(t) {
		if v.Name != "llama2" {
			continue
		}
		units, whole := loadVariant(t, v), loadVariant(t, v)
		if units.model.splitAt == "" {
			t.Fatal("the Llama 2 vocabulary is not merged word by word")
		}
		whole.model.splitAt = ""
		for _, text := range makeTexts(3, 600) {
			if got, want := units.Encode(text), whole.Encode(text); !slices.Equal(got, want) {
				t.Errorf("%+q: by words %v, whole %v", text, got, want)
			}
		}
	}
}

// TestDecodeRoundTrip checks that byte-level tokenizers without a normalizer lose nothing.
func TestDecodeRoundTrip(t *testing.T) {
	exact := map[string]bool{"gpt2": true, "llama3": true, "o200k": true, "tekken": true, "smollm": true, "digit-groups": true, "gpt4-removed": true}
	for _, v := range variants(t) {
		if !exact[v.Name] {
			continue
		}
		tok := loadVariant(t, v)
		for _, text := range makeTexts(4, 1200) {
			if got := tok.Decode(tok.Encode(text)); got != text {
				t.Errorf("%s: %+q became %+q", v.Name, text, got)
			}
		}
		if got := tok.Decode([]int32{-1, 1 << 30, tok.MaxID() + 1}); got != "" {
			t.Errorf("%s: ids without tokens decode to %q", v.Name, got)
		}
	}
}

func TestEncodeInvalidUTF8(t *testing.T) {
	tok := loadVariant(t, variants(t)[0])
	if got, want := tok.Encode("a\xff\xfeb\xe6\x97"), tok.Encode("a\ufffd\ufffdb\ufffd\ufffd"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestEncodeConcurrent shares one tokenizer between goroutines.
func TestEncodeConcurrent(t *testing.T) {
	tok := loadVariant(t, variants(t)[3])
	texts := makeTexts(8, 200)
	want := make([][]int32, len(texts))
	for i, text := range texts {
		want[i] = tok.Encode(text)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i, text := range texts {
				if !slices.Equal(tok.Encode(text), want[i]) {
					t.Errorf("text %d differs", i)
				}
			}
		})
	}
	wg.Wait()
}

func TestTokenID(t *testing.T) {
	tok := loadVariant(t, variants(t)[2])
	for _, c := range []struct {
		token string
		text  string
	}{{"<|begin_of_text|>", "<|begin_of_text|>"}, {"Ġthe", " the"}, {"Ċ", "\n"}} {
		id, ok := tok.TokenID(c.token)
		if ids := tok.Encode(c.text); !ok || !slices.Equal(ids, []int32{id}) {
			t.Errorf("TokenID(%q) = %d, %t; Encode(%q) = %v", c.token, id, ok, c.text, ids)
		}
	}
	if _, ok := tok.TokenID("no such token"); ok {
		t.Error("found a token that does not exist")
	}
	if n := tok.VocabSize(); n != int(tok.MaxID())+1 {
		t.Errorf("VocabSize %d, MaxID %d", n, tok.MaxID())
	}
}

// FuzzTokenizer loads arbitrary files and encodes and decodes arbitrary text with those that load.
func FuzzTokenizer(f *testing.F) {
	level := `{"type":"ByteLevel","add_prefix_space":true,"use_regex":true}`
	f.Add([]byte(tinyWith("pre_tokenizer", level)), "ab 'S 12\n\n x")
	f.Add([]byte(tinyWith("normalizer", `{"type":"NFC"}`)), "e\u0301\u0323 \U0001e130")
	f.Add([]byte(tinyWith("pre_tokenizer", `{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}`)), "a b  c▁")
	f.Add([]byte(tinyWith("added_tokens", `[{"id":3,"content":"<x>","single_word":true,"lstrip":true,"rstrip":true,"normalized":true,"special":true}]`)), " <x> a<x>b")
	f.Add([]byte(tinyWith("post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"a":{"id":"a","ids":[0],"tokens":["a"]}}}`)), "b\xff")
	f.Add([]byte(tinyWith("decoder", `{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}`)), "<0x0A>")
	f.Add([]byte(tinyWith("model", tinyModelWith(`"byte_fallback":false`, `"byte_fallback":true`))), "日")
	for pattern := range totalPatterns {
		f.Add([]byte(tinyWith("pre_tokenizer", fmt.Sprintf(`{"type":"Split","pattern":{"Regex":%q},"behavior":"Isolated","invert":false}`, pattern))), "I'LL go ªA/\n 1234 \u0301x")
	}
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		if tok, err := LoadTokenizer(data); err == nil {
			ids := tok.EncodeSpecial(text)
			for _, id := range ids {
				if !tok.known(id) {
					t.Errorf("id %d has no token", id)
				}
			}
			tok.Decode(ids)
			tok.DecodeSkipSpecial(ids)
		} else if tok != nil {
			t.Error("a tokenizer together with an error")
		}
		checkMatchers(t, text)
	})
}

// checkMatchers checks that every matcher moves on, stays in the text and cuts only between characters.
func checkMatchers(t *testing.T, text string) {
	text = string([]rune(text))
	for _, patterns := range []map[string]wordEnd{totalPatterns, partialPatterns} {
		for name, end := range patterns {
			for i := 0; i < len(text); {
				j := end(text, i)
				if j <= i || j > len(text) || j < len(text) && text[j]&0xC0 == 0x80 {
					t.Fatalf("%q at %d of %+q ends at %d", name, i, text, j)
				}
				i = j
			}
		}
	}
}
