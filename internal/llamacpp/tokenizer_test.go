package llamacpp

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/gguf"
)

// files are those of a checkpoint.
type files map[string]string

func (f files) read(name string) ([]byte, error) {
	if text, ok := f[name]; ok {
		return []byte(text), nil
	}
	return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
}

const tinyTokenizer = `{"version": "1.0", "added_tokens": [{"id": 4, "content": "<|eot|>", "special": false},
  {"id": 5, "content": "user", "special": false}, {"id": 0, "content": "<s>", "special": true}],
 "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
 "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]},
 "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3}, "merges": ["a b"]}}`

// value returns an entry, nil where there is none.
func value(kv []gguf.KV, key string) any {
	for _, x := range kv {
		if x.Key == key {
			return x.Value.Data
		}
	}
	return nil
}

func TestTokenizerBytes(t *testing.T) {
	kv, _, err := Tokenizer(files{"tokenizer.json": tinyTokenizer,
		"tokenizer_config.json":   `{"eos_token": {"content": "<|eot|>"}, "pad_token": "user", "chat_template": "{{ a }}\n<&>"}`,
		"special_tokens_map.json": `{"unk_token": "a"}`, "generation_config.json": `{"pad_token_id": 3, "mask_token_id": 2}`}.read, 7)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		keyModel: "gpt2", keyPre: "gpt-2", keyAddBOS: true, keyAddEOS: false, keySpacePrefix: false, keyTemplate: "{{ a }}\n<&>",
		specialKey("bos"): uint32(0), specialKey("eos"): uint32(4), specialKey("padding"): uint32(5), specialKey("unknown"): uint32(1),
		specialKey("mask"): uint32(2),
	} {
		if got := value(kv, key); got != want {
			t.Errorf("%s = %v, want %v", key, got, want)
		}
	}
	if got, want := value(kv, keyTokens).([]string), []string{"<s>", "a", "b", "ab", "<|eot|>", "user", "[PAD6]"}; !slices.Equal(got, want) {
		t.Errorf("tokens %q, want %q", got, want)
	}
	if got, want := value(kv, keyTokenType).([]int32), []int32{3, 1, 1, 1, 3, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("types %d, want %d", got, want)
	}
	if got := value(kv, keyMerges).([]string); !slices.Equal(got, []string{"a b"}) {
		t.Errorf("merges %q", got)
	}
	if value(kv, keyScores) != nil {
		t.Error("byte-level BPE has no scores")
	}
}

// spm makes a tokenizer.json with byte fallback: the bytes from id 3 on, then pieces.
func spm(pieces []string, merges ...string) string {
	var vocab []string
	add := func(t string) { vocab = append(vocab, fmt.Sprintf("%q: %d", t, len(vocab))) }
	for _, t := range []string{"<unk>", "<s>", "</s>"} {
		add(t)
	}
	for b := range 256 {
		add(byteToken(b))
	}
	for _, t := range pieces {
		add(t)
	}
	for i := range merges {
		merges[i] = fmt.Sprintf("%q", merges[i])
	}
	return `{"version": "1.0", "added_tokens": [{"id": 0, "content": "<unk>", "special": true}, {"id": 1, "content": "<s>", "special": true},
 {"id": 2, "content": "</s>", "special": true}, {"id": ` + fmt.Sprint(len(vocab)) + `, "content": "▁user", "special": false}],
 "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
 "pre_tokenizer": null, "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
 "vocab": {` + strings.Join(vocab, ", ") + `}, "merges": [` + strings.Join(merges, ", ") + `]}}`
}

func TestTokenizerSentencePiece(t *testing.T) {
	text := spm([]string{"▁", "a", "b", "▁a", "ab", "▁ab"}, "▁ a", "a b", "▁a b", "▁ ab")
	kv, warnings, err := Tokenizer(files{"tokenizer.json": text, "config.json": `{"bos_token_id": 1, "eos_token_id": 2}`}.read, 266)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings %q", warnings)
	}
	if value(kv, keyModel) != "llama" || value(kv, keySpacePrefix) != true || value(kv, keyMerges) != nil || value(kv, keyAddBOS) != false {
		t.Errorf("model %v, space %v, merges %v, bos %v", value(kv, keyModel), value(kv, keySpacePrefix), value(kv, keyMerges), value(kv, keyAddBOS))
	}
	scores, kinds, tokens := value(kv, keyScores).([]float32), value(kv, keyTokenType).([]int32), value(kv, keyTokens).([]string)
	for id, want := range map[int]struct {
		token string
		kind  int32
		score float32
	}{0: {"<unk>", 2, noScore}, 1: {"<s>", 3, noScore}, 3: {"<0x00>", 6, noScore}, 259: {"▁", 1, noScore}, 262: {"▁a", 1, 0}, 263: {"ab", 1, -1},
		264: {"▁ab", 1, -2}, 265: {" user", 4, noScore}} {
		if tokens[id] != want.token || kinds[id] != want.kind || scores[id] != want.score {
			t.Errorf("token %d: %q of type %d, score %g, want %v", id, tokens[id], kinds[id], scores[id], want)
		}
	}
	// Ranks that no scores have.
	for name, merges := range map[string][]string{
		"apart":  {"▁a b", "▁ a", "▁ ab", "a b"},
		"absent": {"▁ a", "a b", "▁a b"},
	} {
		_, warnings, err := Tokenizer(files{"tokenizer.json": spm([]string{"▁", "a", "b", "▁a", "ab", "▁ab"}, merges...)}.read, 266)
		if err != nil || !slices.ContainsFunc(warnings, func(w string) bool { return strings.HasPrefix(w, "merges are not") }) {
			t.Errorf("%s: warnings %q, error %v", name, warnings, err)
		}
	}
}

func TestTokenizerAbsent(t *testing.T) {
	for _, f := range []files{{}, {"tokenizer.model": "\x0a"}} {
		kv, warnings, err := Tokenizer(f.read, 100)
		if err != nil || len(kv) != 1 || value(kv, keyModel) != "none" || len(warnings) != 1 {
			t.Errorf("entries %v, warnings %q, error %v", kv, warnings, err)
		}
	}
}

// Tokens that users defined are written with spaces where that leaves them apart.
func TestUserTokensStayApart(t *testing.T) {
	text := strings.Replace(spm(nil), `"added_tokens": [`, `"added_tokens": [{"id": 260, "content": "▁▁x"}, {"id": 261, "content": "▁ x"}, {"id": 262, "content": "  x"}, `, 1)
	kv, _, err := Tokenizer(files{"tokenizer.json": text}.read, 263)
	if err != nil {
		t.Fatal(err)
	}
	if got := value(kv, keyTokens).([]string)[260:]; !slices.Equal(got, []string{"▁▁x", "▁ x", "  x"}) {
		t.Errorf("tokens %q", got)
	}
	text = strings.Replace(text, `, {"id": 262, "content": "  x"}`, "", 1)
	if kv, _, err = Tokenizer(files{"tokenizer.json": text}.read, 262); err != nil {
		t.Fatal(err)
	}
	if got := value(kv, keyTokens).([]string)[260:]; !slices.Equal(got, []string{"  x", "▁ x"}) {
		t.Errorf("tokens %q", got)
	}
}

// Names that fill gaps are names that no token has.
func TestPadding(t *testing.T) {
	text := strings.Replace(tinyTokenizer, `"b": 2, "ab": 3`, `"b": 2, "ab": 3, "[PAD6]": 7, "[PAD6]_": 8`, 1)
	kv, _, err := Tokenizer(files{"tokenizer.json": text}.read, 10)
	if err != nil {
		t.Fatal(err)
	}
	if got := value(kv, keyTokens).([]string); got[6] != "[PAD6]__" || got[9] != "[PAD9]" {
		t.Errorf("tokens %q", got)
	}
}

func TestChatTemplates(t *testing.T) {
	for _, c := range []struct {
		files
		want map[string]any
	}{
		{files{"tokenizer_config.json": `{"chat_template": [{"name": "default", "template": "a"}, {"name": "tool use", "template": "b"}]}`},
			map[string]any{keyTemplate: "a", keyTemplate + ".tool_use": "b"}},
		{files{"chat_template.jinja": "{# ü #}\r\n"}, map[string]any{keyTemplate: "{# ü #}\r\n"}},
		{files{"tokenizer_config.json": `{"chat_template": "x"}`, "chat_template.jinja": "y"}, map[string]any{keyTemplate: "x"}},
	} {
		c.files["tokenizer.json"] = tinyTokenizer
		kv, _, err := Tokenizer(c.read, 10)
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range c.want {
			if got := value(kv, key); got != want {
				t.Errorf("%s = %q, want %q", key, got, want)
			}
		}
	}
}

func TestPreTokenizers(t *testing.T) {
	split := func(p string) string {
		return fmt.Sprintf(`{"type": "Split", "pattern": {"Regex": %s}, "behavior": "Isolated", "invert": false}`, quoted(p))
	}
	level := `{"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}`
	seq := func(stages ...string) string {
		return `{"type": "Sequence", "pretokenizers": [` + strings.Join(stages, ", ") + `]}`
	}
	for _, c := range []struct {
		pre    string
		ignore bool
		want   string
	}{
		{`{"type": "ByteLevel", "add_prefix_space": false}`, false, "gpt-2"},
		{seq(split(reGPT2), level), false, "gpt-2"},
		{seq(split(reLlama3), level), true, "llama-bpe"},
		{seq(split(reLlama3), level), false, "smaug-bpe"},
		{seq(split(reQwen2), level), false, "qwen2"},
		{seq(split(reQwen35), level), false, "qwen35"},
		{seq(split(reO200k), level), false, "gpt-4o"},
		{seq(split(reTekken), level), true, "tekken"},
		{seq(`{"type": "Digits", "individual_digits": true}`, `{"type": "ByteLevel", "add_prefix_space": false}`), false, "smollm"},
		{seq(split("[\r\n]"), split(`\s?\p{L}+`), split(`\s?\p{P}+`), split(`[一-龥ࠀ-一가-퟿]+`), `{"type": "Digits", "individual_digits": true}`, level),
			false, "deepseek-coder"},
		{seq(split(`\w+`), level), false, "default"},
		{seq(`{"type": "Whitespace"}`, level), false, "default"},
		{seq(level, split(reGPT2)), false, "default"},
		{seq(strings.Replace(split(reGPT2), "Isolated", "MergedWithNext", 1), level), false, "default"},
		{seq(strings.Replace(strings.Replace(split(reLlama3), "Isolated", "Removed", 1), "false", "true", 1), level), true, "llama-bpe"},
	} {
		text := strings.Replace(tinyTokenizer, `{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}`, c.pre, 1)
		text = strings.Replace(text, `"type": "BPE"`, fmt.Sprintf(`"type": "BPE", "ignore_merges": %t`, c.ignore), 1)
		kv, _, err := Tokenizer(files{"tokenizer.json": text}.read, 7)
		if err != nil {
			t.Errorf("%s: %v", c.want, err)
			continue
		}
		if got := value(kv, keyPre); got != c.want {
			t.Errorf("%s: %v, want %s", c.pre, got, c.want)
		}
	}
}

func quoted(s string) string {
	raw, err := encode(s)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// What files can have wrong is an error that names the file.
func TestTokenizerHostile(t *testing.T) {
	with := func(old, text string) files {
		changed := strings.Replace(tinyTokenizer, old, text, 1)
		if changed == tinyTokenizer {
			t.Fatalf("%s is not in the tokenizer", old)
		}
		return files{"tokenizer.json": changed}
	}
	good := func(name, text string) files { return files{"tokenizer.json": tinyTokenizer, name: text} }
	for name, c := range map[string]struct {
		files
		file string
	}{
		"no JSON":                   {files{"tokenizer.json": "{"}, "tokenizer.json"},
		"empty":                     {files{"tokenizer.json": ""}, "tokenizer.json"},
		"a list":                    {files{"tokenizer.json": "[]"}, "tokenizer.json"},
		"no model":                  {files{"tokenizer.json": "{}"}, "tokenizer.json"},
		"a repeated key":            {files{"tokenizer.json": `{"model": {}, "model": {}}`}, "tokenizer.json"},
		"deep":                      {files{"tokenizer.json": strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)}, "tokenizer.json"},
		"no vocabulary":             {with(`"vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3}, `, ""), "tokenizer.json"},
		"an id past the embeddings": {with(`"ab": 3`, `"ab": 700`), "tokenizer.json"},
		"a huge id":                 {with(`"ab": 3`, `"ab": 99999999999999999999`), "tokenizer.json"},
		"a negative id":             {with(`"ab": 3`, `"ab": -1`), "tokenizer.json"},
		"an id of two":              {with(`"ab": 3`, `"ab": 2`), "tokenizer.json"},
		"a vocabulary of texts":     {with(`"ab": 3`, `"ab": "3"`), "tokenizer.json"},
		"a merge of one":            {with(`"a b"`, `"ab"`), "tokenizer.json"},
		"a merge of three":          {with(`"a b"`, `["a", "b", "c"]`), "tokenizer.json"},
		"a merge of nothing":        {with(`"a b"`, `["a", ""]`), "tokenizer.json"},
		"merges of numbers":         {with(`"a b"`, `1`), "tokenizer.json"},
		"an added id of another":    {with(`"id": 4, `, `"id": 3, `), "tokenizer.json"},
		"an added id past the end":  {with(`"id": 4, `, `"id": 4000, `), "tokenizer.json"},
		"added without id":          {with(`"id": 4, `, ``), "tokenizer.json"},
		"another model":             {with(`"type": "BPE"`, `"type": "Unigram"`), "tokenizer.json"},
		"no bytes":                  {with(`{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}`, `null`), "tokenizer.json"},
		"not all bytes": {files{"tokenizer.json": strings.Replace(spm(nil), `"<0x41>": 68`, `"<0x4G>": 68`, 1)},
			"tokenizer.json"},
		"a template of numbers": {with(`[{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]`, `[1]`), "tokenizer.json"},
		"a broken config":       {good("tokenizer_config.json", `{"a": }`), "tokenizer_config.json"},
		"flags of another type": {good("tokenizer_config.json", `{"add_bos_token": 1}`), "tokenizer_config.json"},
		"templates of numbers":  {good("tokenizer_config.json", `{"chat_template": 1}`), "tokenizer_config.json"},
		"ids of another type":   {good("config.json", `{"bos_token_id": "a"}`), "config.json"},
		"a broken map":          {good("special_tokens_map.json", `[]`), "special_tokens_map.json"},
	} {
		_, _, err := Tokenizer(c.read, 300)
		var e *formats.Error
		if !errors.As(err, &e) || e.File != c.file {
			t.Errorf("%s: error %v, want one of %s", name, err, c.file)
		}
	}
	failing := errors.New("disk on fire")
	if _, _, err := Tokenizer(func(string) ([]byte, error) { return nil, failing }, 10); !errors.Is(err, failing) {
		t.Errorf("error %v", err)
	}
	if _, _, err := Tokenizer(files{}.read, 0); err == nil {
		t.Error("no tokens: no error")
	}
	kv, warnings, err := Tokenizer(files{"tokenizer.json": tinyTokenizer, "config.json": `{"eos_token_id": 12345}`}.read, 10)
	if err != nil || value(kv, specialKey("eos")) != nil || len(warnings) == 0 {
		t.Errorf("an id past the end: %v, warnings %q, error %v", value(kv, specialKey("eos")), warnings, err)
	}
}

// FuzzTokenizer reads any tokenizer.json: nothing panics, and what is accepted has one name and one type for each row of the embedding.
func FuzzTokenizer(f *testing.F) {
	f.Add([]byte(tinyTokenizer), []byte(`{"bos_token": "<s>", "chat_template": "x"}`))
	f.Add([]byte(spm([]string{"▁", "a", "b", "▁a"}, "▁ a")), []byte(`{"add_bos_token": false}`))
	f.Fuzz(func(t *testing.T, doc, config []byte) {
		const vocab = 300
		kv, _, err := Tokenizer(files{"tokenizer.json": string(doc), "tokenizer_config.json": string(config)}.read, vocab)
		if err != nil {
			var e *formats.Error
			if !errors.As(err, &e) {
				t.Fatalf("error of type %T: %v", err, err)
			}
			return
		}
		tokens, kinds := value(kv, keyTokens).([]string), value(kv, keyTokenType).([]int32)
		seen := map[string]bool{}
		for _, token := range tokens {
			if token == "" || seen[token] {
				t.Fatalf("token %q is empty or stands twice", token)
			}
			seen[token] = true
		}
		if len(tokens) != vocab || len(kinds) != vocab {
			t.Fatalf("%d tokens of %d types", len(tokens), len(kinds))
		}
	})
}
