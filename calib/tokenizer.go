package calib

import (
	"sync"
	"unicode/utf8"

	"modelpress/formats"
)

// tokenizerFile is the name that errors carry: the tokenizer is handed over as bytes and always comes from this file.
const tokenizerFile = "tokenizer.json"

// Tokenizer turns text into the token ids that a checkpoint was trained on and back. It is built from the checkpoint's
// own tokenizer.json and gives, id for id, what the Hugging Face tokenizers library gives for the families it accepts
// (byte-level BPE and BPE with byte fallback). It is safe for concurrent use.
type Tokenizer struct {
	added     *addedTokens
	normalize normalizer   // nil: text stays as it is
	pre       preTokenizer // nil: a piece of text is one word
	model     *bpe
	post      postProcessor // nil: nothing is added
	decode    decoder       // nil: tokens are joined by spaces

	mu   sync.Mutex
	idle []*encoder // scratch and word caches for reuse, at most maxIdle
}

// maxIdle bounds the number of scratch encoders that wait for reuse; more callers at once only cost allocations.
const maxIdle = 16

// LoadTokenizer builds a tokenizer from the bytes of a tokenizer.json. Every fault is a *formats.Error that names the
// file and the cause: malformed JSON, a model that is not BPE, an unknown pre-tokenizer pattern, merges of tokens that do
// not exist, repeated or excessive ids. The truncation and padding sections are ignored: calibration decides lengths.
func LoadTokenizer(json []byte) (*Tokenizer, error) {
	t, err := buildTokenizer(json)
	if err != nil {
		return nil, formats.Errorf(tokenizerFile, "", "%w", err)
	}
	return t, nil
}

// Encode returns the token ids of text. Added tokens that occur in the text (special ones too) become their ids; nothing
// is put before or after. Bytes that are not UTF-8 count as U+FFFD, one for each byte.
func (t *Tokenizer) Encode(text string) []int32 {
	if !utf8.ValidString(text) {
		text = string([]rune(text))
	}
	e := t.acquire()
	e.text(text)
	ids := make([]int32, len(e.ids))
	copy(ids, e.ids)
	t.release(e)
	return ids
}

// EncodeSpecial is Encode followed by the checkpoint's post-processor, which puts the special tokens of the model (such
// as <s>) around the text.
func (t *Tokenizer) EncodeSpecial(text string) []int32 {
	ids := t.Encode(text)
	if t.post == nil {
		return ids
	}
	return t.post.process(ids)
}

// Decode returns the text of ids, special tokens included. Ids that have no token are left out.
func (t *Tokenizer) Decode(ids []int32) string { return t.decodeIDs(ids, false) }

// DecodeSkipSpecial is Decode without the special tokens.
func (t *Tokenizer) DecodeSkipSpecial(ids []int32) string { return t.decodeIDs(ids, true) }

// TokenID returns the id of the token whose stored form (byte-level alphabet, "▁" for a space) or added content is s.
func (t *Tokenizer) TokenID(s string) (int32, bool) {
	if id, ok := t.added.ids[s]; ok {
		return id, true
	}
	id, ok := t.model.vocab[s]
	return id, ok
}

// VocabSize returns the number of distinct tokens, added tokens included. Ids may have gaps, and the embedding of a model
// may have more rows than this.
func (t *Tokenizer) VocabSize() int {
	n := len(t.model.vocab)
	for s := range t.added.ids {
		if _, ok := t.model.vocab[s]; !ok {
			n++
		}
	}
	return n
}

// MaxID returns the largest id that Encode can return.
func (t *Tokenizer) MaxID() int32 {
	top := t.model.maxID()
	for id := range t.added.byID {
		top = max(top, id)
	}
	return top
}

func (t *Tokenizer) acquire() *encoder {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.idle); n > 0 {
		e := t.idle[n-1]
		t.idle = t.idle[:n-1]
		e.ids = e.ids[:0]
		return e
	}
	return newEncoder(t)
}

func (t *Tokenizer) release(e *encoder) {
	e.trim()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) < maxIdle {
		t.idle = append(t.idle, e)
	}
}
