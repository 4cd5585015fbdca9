package llamacpp

import (
	"fmt"
	"unicode/utf8"

	"modelpress/formats/gguf"
)

// tokenizerFiles writes the files of a checkpoint's tokenizer from a GGUF file, the ids of tokens for its config.json, and what the
// tokenizer lacks. A tokenizer that cannot be written is left out with a warning.
func tokenizerFiles(f File) (files map[string][]byte, ids map[string]any, warnings []string) {
	r := &tokenReader{file: f, ids: map[string]any{}, files: map[string][]byte{}}
	r.read()
	return r.files, r.ids, r.warnings
}

// tokenReader turns metadata into the files of a tokenizer.
type tokenReader struct {
	file     File
	tokens   []string
	kinds    []int32
	merges   [][2]string
	special  map[string]int // by role
	ids      map[string]any
	files    map[string][]byte
	warnings []string
}

func (r *tokenReader) warn(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

func (r *tokenReader) read() {
	v, _ := r.file.Lookup(keyModel)
	model, _ := v.Str()
	if model == modelNone || model == "no_vocab" || model == "" {
		return
	}
	if why := r.table(); why != "" {
		r.warn("the tokenizer is left out: %s", why)
		return
	}
	switch model {
	case modelGPT2:
		r.specials(nil)
		r.byteLevel()
	case modelLlama:
		r.specials(map[string]int{"bos": 1, "eos": 2, "unk": 0})
		r.sentencePiece()
	default:
		r.warn("the tokenizer is left out: model %q has no counterpart", clip(model))
	}
}

// table reads tokens and their types, and says what is wrong with them.
func (r *tokenReader) table() string {
	v, _ := r.file.Lookup(keyTokens)
	tokens, ok := v.Strs()
	if !ok || len(tokens) == 0 || len(tokens) > maxTokens {
		return fmt.Sprintf("%s is no list of tokens", keyTokens)
	}
	r.tokens, r.kinds = tokens, make([]int32, len(tokens))
	for i := range r.kinds {
		r.kinds[i] = tokenNormal
	}
	if v, ok := r.file.Lookup(keyTokenType); ok {
		kinds, ok := v.Ints()
		if !ok || len(kinds) != len(tokens) {
			return fmt.Sprintf("%s has not a type for each token", keyTokenType)
		}
		for i, k := range kinds {
			r.kinds[i] = int32(k)
		}
	}
	seen := make(map[string]bool, len(tokens))
	for i, t := range tokens {
		switch {
		case r.kinds[i] == tokenUnused:
		case t == "" || !utf8.ValidString(t):
			return fmt.Sprintf("token %d is no text", i)
		case seen[t]:
			return fmt.Sprintf("token %q stands twice", clip(t))
		}
		seen[t] = true
	}
	return ""
}

// specials reads the ids of special tokens, with those that llama.cpp takes where there is no key.
func (r *tokenReader) specials(defaults map[string]int) {
	r.special = map[string]int{}
	for _, s := range specials {
		id, ok := defaults[s.role]
		if v, there := r.file.Lookup(specialKey(s.key)); there {
			n, isInt := v.Int()
			id, ok = int(n), isInt && n >= 0 && n <= maxTokens
		}
		if ok && id < len(r.tokens) && r.kinds[id] != tokenUnused {
			r.special[s.role] = id
		}
	}
	for _, role := range []string{"bos", "eos", "pad"} {
		if id, ok := r.special[role]; ok {
			r.ids[role+"_token_id"] = id
		}
	}
}

func (r *tokenReader) flag(key string, def bool) bool {
	if v, ok := r.file.Lookup(key); ok {
		if b, ok := v.Bool(); ok {
			return b
		}
	}
	return def
}

func (r *tokenReader) text(key string) string {
	v, _ := r.file.Lookup(key)
	s, _ := v.Str()
	return s
}

// added reports whether a token is cut out of text before the model sees it.
func (r *tokenReader) added(id int) bool {
	return r.kinds[id] == tokenControl || r.kinds[id] == tokenUser || r.kinds[id] == tokenUnknown
}

var _ File = (*gguf.File)(nil)
