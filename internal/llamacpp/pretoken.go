package llamacpp

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Patterns of pre-tokenizers, and the parts that they share.
const (
	reContractions = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	reTail         = `|\s*[\r\n]+|\s+(?!\S)|\s+`
	reLead         = `[^\r\n\p{L}\p{N}]?`
	reUpper        = `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
	reLower        = `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`

	reGPT2   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	reLlama3 = reContractions + `|` + reLead + `\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*` + reTail
	reQwen2  = reContractions + `|` + reLead + `\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*` + reTail
	reQwen35 = reContractions + `|` + reLead + `[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*` + reTail
	reO200k  = reLead + reUpper + `*` + reLower + `+` + reContractions + `?|` + reLead + reUpper + `+` + reLower + `*` + reContractions +
		`?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*` + reTail
	reTekken = reLead + reUpper + `*` + reLower + `+|` + reLead + reUpper + `+` + reLower + `*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*` + reTail
	reDigit  = `\p{N}`
	reDigits = `\p{N}+`
)

// A preTokenizer is one of llama.cpp's, by its name in tokenizer.ggml.pre. Text is cut by the patterns one after the other, and the
// words are then in the byte-level alphabet.
type preTokenizer struct {
	names        []string // the first is written, all are read
	patterns     []string
	ignoreMerges bool // a word that is a token as a whole is not merged
	nfc          bool // models that use it bring their text into the normal form C first, which llama.cpp does not do
	since2026    bool // builds of early 2025 do not know it
}

// preTokenizers follow llama-vocab.cpp (llm_tokenizer_bpe).
var preTokenizers = []preTokenizer{
	{names: []string{"gpt-2", "phi-2", "gigachat", "jais", "olmo", "mpt", "exaone4"}, patterns: []string{reGPT2}},
	{names: []string{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}, patterns: []string{reDigit, reGPT2}},
	{names: []string{"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"}, patterns: []string{reLlama3}, ignoreMerges: true},
	{names: []string{"smaug-bpe", "dbrx", "chatglm-bpe", "glm4"}, patterns: []string{reLlama3}},
	{names: []string{"qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"}, patterns: []string{reQwen2}, nfc: true},
	{names: []string{"qwen35"}, patterns: []string{reQwen35}, nfc: true, since2026: true},
	{names: []string{"gpt-4o", "llama4"}, patterns: []string{reO200k}, since2026: true},
	{names: []string{"tekken"}, patterns: []string{reTekken}, ignoreMerges: true},
	{names: []string{"deepseek-v3"}, patterns: []string{`\p{N}{1,3}`, `[一-龥぀-ゟ゠-ヿ]+`,
		"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"}},
	{names: []string{"deepseek-coder"}, patterns: []string{"[\r\n]", `\s?\p{L}+`, `\s?\p{P}+`, `[一-龥ࠀ-一가-퟿]+`, reDigit}},
}

// unknownPre is the name of llama.cpp's own cutting of text, for what it does not know.
const unknownPre = "default"

// recognize returns the pre-tokenizer that cuts text by the patterns; false where llama.cpp has none.
func recognize(patterns []string, ignoreMerges bool) (preTokenizer, bool) {
	found := -1
	for i, p := range preTokenizers {
		if slices.Equal(p.patterns, patterns) && (found < 0 || p.ignoreMerges == ignoreMerges) {
			found = i
		}
	}
	if found < 0 {
		return preTokenizer{}, false
	}
	return preTokenizers[found], true
}

// named returns the pre-tokenizer of a name; false for a name that is not known.
func named(name string) (preTokenizer, bool) {
	for _, p := range preTokenizers {
		if slices.Contains(p.names, name) {
			return p, true
		}
	}
	return preTokenizer{}, false
}

// cutting is what a pre_tokenizer section does to text.
type cutting struct {
	patterns    []string
	byteLevel   bool
	prefixSpace bool
	metaspace   bool
	scheme      string // of Metaspace: where ▁ is put in front
	splits      bool   // of Metaspace: words start at each ▁
	unknown     string // a stage that is not known
}

// parsePre reads a pre_tokenizer section.
func parsePre(raw json.RawMessage) (*cutting, error) {
	c := &cutting{}
	if err := c.parse(raw, 0); err != nil {
		return nil, fmt.Errorf("pre_tokenizer: %w", err)
	}
	return c, nil
}

func (c *cutting) parse(raw json.RawMessage, depth int) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	o, err := parseObject(raw)
	if err != nil {
		return err
	}
	kind := ""
	if err := o.get("type", &kind); err != nil {
		return err
	}
	if c.byteLevel || c.metaspace {
		c.unknown = "a stage after the last one that is known"
	}
	switch kind {
	case "Sequence":
		return c.sequence(o, depth)
	case "ByteLevel":
		return c.parseByteLevel(o)
	case "Metaspace":
		return c.parseMetaspace(o)
	case "Digits":
		each := false
		if err := o.get("individual_digits", &each); err != nil {
			return err
		}
		if each {
			c.patterns = append(c.patterns, reDigit)
		} else {
			c.patterns = append(c.patterns, reDigits)
		}
		return nil
	case "Split":
		return c.split(o)
	}
	c.unknown = kind
	return nil
}

func (c *cutting) sequence(o object, depth int) error {
	if depth >= maxDepth {
		return errors.New("sequences lie too deep inside each other")
	}
	var list []json.RawMessage
	if err := o.get("pretokenizers", &list); err != nil {
		return err
	}
	for _, raw := range list {
		if err := c.parse(raw, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (c *cutting) parseByteLevel(o object) error {
	prefix, regex := true, true
	if err := errors.Join(o.get("add_prefix_space", &prefix), o.get("use_regex", &regex)); err != nil {
		return err
	}
	if regex {
		c.patterns = append(c.patterns, reGPT2)
	}
	c.byteLevel, c.prefixSpace = true, prefix
	return nil
}

func (c *cutting) parseMetaspace(o object) error {
	c.metaspace, c.scheme, c.splits = true, "always", true
	symbol, prefix := metaSymbol, true
	if err := errors.Join(o.get("replacement", &symbol), o.get("add_prefix_space", &prefix)); err != nil {
		return err
	}
	if !prefix {
		c.scheme = "never"
	}
	if symbol != metaSymbol || len(c.patterns) > 0 {
		c.unknown = "Metaspace with another symbol, or after another stage"
	}
	return errors.Join(o.get("prepend_scheme", &c.scheme), o.get("split", &c.splits))
}

// split reads a Split. With the behaviour Isolated matches and what lies between them are words; the older Removed with invert keeps
// the matches, which is the same for patterns that match everywhere.
func (c *cutting) split(o object) error {
	behavior, invert := "", false
	if err := errors.Join(o.get("behavior", &behavior), o.get("invert", &invert)); err != nil {
		return err
	}
	pattern, err := o.child("pattern")
	if err != nil {
		return err
	}
	regex := ""
	if err := pattern.get("Regex", &regex); err != nil {
		return err
	}
	everywhere := strings.HasSuffix(regex, `|\s+`)
	if regex == "" || !(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert && everywhere) {
		c.unknown = "Split with another behaviour"
		return nil
	}
	c.patterns = append(c.patterns, regex)
	return nil
}

// metaSymbol is the character that stands for a space in SentencePiece vocabularies.
const metaSymbol = "▁"
