package llamacpp

import (
	"encoding/json"
	"fmt"

	"modelpress/formats"
	"modelpress/formats/gguf"
)

// Keys of the tokenizer.
const (
	keyModel       = "tokenizer.ggml.model"
	keyPre         = "tokenizer.ggml.pre"
	keyTokens      = "tokenizer.ggml.tokens"
	keyScores      = "tokenizer.ggml.scores"
	keyTokenType   = "tokenizer.ggml.token_type"
	keyMerges      = "tokenizer.ggml.merges"
	keyAddBOS      = "tokenizer.ggml.add_bos_token"
	keyAddEOS      = "tokenizer.ggml.add_eos_token"
	keySpacePrefix = "tokenizer.ggml.add_space_prefix"
	keyTemplate    = "tokenizer.chat_template"
	keyTemplates   = "tokenizer.chat_templates"
)

// The types of tokens (llama.h, enum llama_token_type).
const (
	tokenNormal  int32 = 1
	tokenUnknown int32 = 2
	tokenControl int32 = 3
	tokenUser    int32 = 4
	tokenUnused  int32 = 5
	tokenByte    int32 = 6
)

// Models of tokenizers: byte-level BPE, SentencePiece's BPE with scores, none.
const (
	modelGPT2  = "gpt2"
	modelLlama = "llama"
	modelNone  = "none"
)

// Tokenizer returns the entries that hold a checkpoint's tokenizer, for a model with so many rows of embeddings, and warnings where
// llama.cpp will cut text otherwise. read returns a file of the checkpoint, or an error that wraps fs.ErrNotExist. Read are
// tokenizer.json, tokenizer_config.json, special_tokens_map.json, chat_template.jinja, config.json and generation_config.json. Without
// a tokenizer.json the file has no vocabulary but its size. A tokenizer that llama.cpp has no model for is an error with [Refused] in its
// chain.
//
// Peak memory: three times the size of tokenizer.json.
func Tokenizer(read func(name string) ([]byte, error), vocab int) ([]gguf.KV, []string, error) {
	if vocab < 1 || vocab > maxTokens {
		return nil, nil, fmt.Errorf("llamacpp: tokenizer of %d tokens", vocab)
	}
	w := &tokenWriter{files: sideFiles{read}, vocab: vocab}
	doc, err := w.files.object(tokenizerFile)
	if err != nil {
		return nil, nil, err
	}
	if doc == nil {
		return w.none()
	}
	if err := w.parse(doc); err != nil {
		return nil, nil, formats.Errorf(tokenizerFile, "", "%w", err)
	}
	if err := w.write(doc); err != nil {
		return nil, nil, formats.Errorf(tokenizerFile, "", "%w", err)
	}
	if err := w.special(doc); err != nil {
		return nil, nil, err
	}
	return w.kv, w.warnings, nil
}

// tokenWriter turns the files of a tokenizer into metadata.
type tokenWriter struct {
	files    sideFiles
	vocab    int
	model    *bpeModel
	added    []addedToken
	pre      *cutting
	kv       []gguf.KV
	warnings []string
}

func (w *tokenWriter) add(key string, v gguf.Value) { w.kv = append(w.kv, gguf.KV{Key: key, Value: v}) }

func (w *tokenWriter) warn(format string, args ...any) {
	w.warnings = append(w.warnings, fmt.Sprintf(format, args...))
}

// none writes that there is no vocabulary; its size is a key of the architecture.
func (w *tokenWriter) none() ([]gguf.KV, []string, error) {
	w.add(keyModel, gguf.String(modelNone))
	data, err := w.files.bytes(sentencePieceFile)
	if err != nil {
		return nil, nil, err
	}
	if data != nil {
		w.warn("the file has no tokenizer, since %s is not read; save the checkpoint with a %s", sentencePieceFile, tokenizerFile)
	} else {
		w.warn("the file has no tokenizer, since the checkpoint has no %s", tokenizerFile)
	}
	return w.kv, w.warnings, nil
}

func (w *tokenWriter) parse(doc object) (err error) {
	if !doc.has("model") {
		return fmt.Errorf("model is missing")
	}
	if w.model, err = parseModel(doc["model"], w.vocab); err != nil {
		return err
	}
	if w.model.kind != "BPE" {
		return nil
	}
	if w.added, err = parseAdded(doc["added_tokens"], w.model); err != nil {
		return err
	}
	w.pre, err = parsePre(doc["pre_tokenizer"])
	return err
}

// write adds the model, its tokens and merges or scores.
func (w *tokenWriter) write(doc object) error {
	const fix = "write the model without a tokenizer"
	switch {
	case w.model.kind != "BPE":
		return &Refused{Rule: fmt.Sprintf("a tokenizer of type %q has no counterpart", clip(w.model.kind)), Fix: fix}
	case w.pre.byteLevel:
		return w.byteLevel(doc["normalizer"])
	case w.pre.unknown == "" && len(w.pre.patterns) == 0 && w.model.byteFallback:
		return w.sentencePiece(doc["normalizer"])
	}
	return &Refused{Rule: "a BPE tokenizer works on bytes, or falls back to them; this one does neither", Fix: fix}
}

// byteLevel writes byte-level BPE, as GPT-2, Llama 3 and Qwen have it.
func (w *tokenWriter) byteLevel(normalizer json.RawMessage) error {
	w.add(keyModel, gguf.String(modelGPT2))
	w.add(keyPre, gguf.String(w.preName(normalizer)))
	w.add(keySpacePrefix, gguf.Bool(w.pre.prefixSpace))
	if w.pre.prefixSpace {
		w.warn("the tokenizer puts a space in front of text, llama.cpp does not")
	}
	if n := w.missingBytes(); n > 0 {
		w.warn("%d bytes have no token, and llama.cpp does not take the unknown one for them", n)
	}
	kinds := w.kinds(nil)
	w.add(keyTokens, gguf.Strings(w.padded()))
	w.add(keyTokenType, gguf.Int32s(kinds))
	merges := make([]string, len(w.model.merges))
	for i, m := range w.model.merges {
		merges[i] = mergePart(m[0]) + " " + mergePart(m[1])
	}
	w.add(keyMerges, gguf.Strings(merges))
	return nil
}

// mergePart writes a space as the character that stands for it in the byte-level alphabet, since a space parts the two.
func mergePart(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r == ' ' {
			out[i] = 'Ġ'
		}
	}
	return string(out)
}

// preName recognizes the pre-tokenizer and warns of what llama.cpp does otherwise.
func (w *tokenWriter) preName(normalizer json.RawMessage) string {
	p, ok := recognize(w.pre.patterns, w.model.ignoreMerges)
	if w.pre.unknown != "" || !ok {
		w.warn("llama.cpp is not known to have this pre-tokenizer: %q cuts text into other words, and quality suffers", unknownPre)
		return unknownPre
	}
	name := p.names[0]
	if p.ignoreMerges != w.model.ignoreMerges {
		w.warn("with the pre-tokenizer %q words that are a token are merged all the same in llama.cpp or in the checkpoint, but not in both", name)
	}
	if p.since2026 {
		w.warn("builds of llama.cpp from before 2026 may not know the pre-tokenizer %q", name)
	}
	switch kind := normalizerType(normalizer); kind {
	case "":
	case "NFC":
		w.warn("the tokenizer brings text into the normal form C first, llama.cpp does not")
	default:
		w.warn("the tokenizer normalizes text first (%s), llama.cpp does not", clip(kind))
	}
	return name
}

// normalizerType returns the type of a normalizer section, "" where there is none.
func normalizerType(raw json.RawMessage) string {
	o, err := parseObject(raw)
	if err != nil {
		return ""
	}
	kind := ""
	if err := o.get("type", &kind); err != nil {
		return "?"
	}
	return kind
}
