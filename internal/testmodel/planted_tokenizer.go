package testmodel

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteDir writes the checkpoint with a tokenizer.json into an existing directory, as a program expects it: [Model.Write] in
// one file, and [Tokenizer].
func (p *Planted) WriteDir(dir string) error {
	if err := p.Write(dir, 0); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "tokenizer.json"), Tokenizer(), 0o644),
		os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), tokenizerConfig(), 0o644))
}

// Tokenizer returns the tokenizer.json of planted models: byte-level BPE without merges, in which token t is byte t, except
// for token 0, the special token <s>.
func Tokenizer() []byte {
	vocab := map[string]int{"<s>": 0}
	next := rune(0x100) // GPT-2's alphabet: bytes that are not printable stand at U+0100 and up, in order
	for b := range plantedV {
		r := rune(b)
		if !(b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE) {
			r = next
			next++
		}
		if b > 0 {
			vocab[string(r)] = b
		}
	}
	level := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	return marshal([]entry{
		{"version", "1.0"},
		{"truncation", nil},
		{"padding", nil},
		{"added_tokens", []map[string]any{{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
			"normalized": false, "special": true}}},
		{"normalizer", nil},
		{"pre_tokenizer", level},
		{"post_processor", level},
		{"decoder", level},
		{"model", map[string]any{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": "",
			"end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []string{}}},
	})
}

func tokenizerConfig() []byte {
	return marshal([]entry{
		{"tokenizer_class", "PreTrainedTokenizerFast"},
		{"bos_token", "<s>"},
		{"eos_token", "<s>"},
		{"add_bos_token", true},
		{"model_max_length", 2048},
		{"clean_up_tokenization_spaces", false},
	})
}

// Spell returns the text of tokens, without the start of the sequence.
func Spell(ids []int32) string {
	var b []byte
	for _, t := range ids {
		if t != plantedBOS {
			b = append(b, byte(t))
		}
	}
	return string(b)
}
