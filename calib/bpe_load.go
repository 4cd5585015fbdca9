package calib

import (
	"encoding/json"
	"errors"
	"fmt"
)

// maxTokenID bounds ids (the largest vocabularies in use have about 2^18 tokens), so that the id-indexed table of a
// hostile file stays small.
const maxTokenID = 1<<22 - 1

// loadBPE reads the "model" section. byteLevel says that a ByteLevel pre-tokenizer hands over raw bytes.
func loadBPE(raw json.RawMessage, byteLevel bool) (*bpe, error) {
	o, err := parseObject("model", raw)
	if err != nil {
		return nil, err
	}
	kind, err := o.text("type", "BPE")
	if err != nil {
		return nil, err
	}
	if kind != "BPE" {
		return nil, fmt.Errorf("model type %q is not supported: only BPE is", kind)
	}
	b := &bpe{byteLevel: byteLevel}
	if err := b.loadOptions(o); err != nil {
		return nil, err
	}
	if err := b.loadVocab(o.fields["vocab"]); err != nil {
		return nil, err
	}
	if err := b.loadMerges(o.fields["merges"]); err != nil {
		return nil, err
	}
	if err := b.loadUnknown(o); err != nil {
		return nil, err
	}
	b.index()
	return b, nil
}

func (b *bpe) loadOptions(o jsonObject) error {
	var err, all error
	flag := func(name string) bool {
		v, e := o.flag(name, false)
		all = errors.Join(all, e)
		return v
	}
	b.fuseUnk, b.byteFallback, b.ignoreMerges = flag("fuse_unk"), flag("byte_fallback"), flag("ignore_merges")
	for _, name := range []string{"continuing_subword_prefix", "end_of_word_suffix"} {
		s, e := o.text(name, "")
		if e == nil && s != "" {
			e = fmt.Errorf("model.%s %q is not supported", name, s)
		}
		all = errors.Join(all, e)
	}
	dropout := 0.0
	if raw := o.fields["dropout"]; !isNull(raw) {
		if err = json.Unmarshal(raw, &dropout); err != nil || dropout != 0 {
			all = errors.Join(all, fmt.Errorf("model.dropout %s is not supported: it must be null or 0", clip(string(raw))))
		}
	}
	return all
}

func (b *bpe) loadVocab(raw json.RawMessage) error {
	if isNull(raw) {
		return errors.New("model.vocab is missing")
	}
	b.vocab = make(map[string]int32, min(len(raw)/16, maxTokenID))
	top := int32(-1)
	err := eachField(raw, func(token string, value json.RawMessage) error {
		id, err := tokenID(value)
		if err != nil {
			return fmt.Errorf("model.vocab: token %q: %w", clip(token), err)
		}
		if _, dup := b.vocab[token]; dup {
			return fmt.Errorf("model.vocab: token %q appears twice", clip(token))
		}
		b.vocab[token] = id
		top = max(top, id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("model.vocab: %w", err)
	}
	if len(b.vocab) == 0 {
		return errors.New("model.vocab is empty")
	}
	return b.invert(int(top) + 1)
}

// invert fills tokens and rejects ids that two tokens share.
func (b *bpe) invert(n int) error {
	b.tokens = make([]string, n)
	used := make([]bool, n)
	shared := int32(-1)
	for token, id := range b.vocab {
		if used[id] && (shared < 0 || id < shared) {
			shared = id
		}
		used[id] = true
		b.tokens[id] = token
	}
	if shared >= 0 {
		return fmt.Errorf("model.vocab: id %d belongs to more than one token", shared)
	}
	return nil
}

func (b *bpe) loadUnknown(o jsonObject) error {
	unk, err := o.text("unk_token", "")
	if err != nil {
		return err
	}
	b.unk = -1
	if unk != "" {
		id, ok := b.vocab[unk]
		if !ok {
			return fmt.Errorf("model.unk_token %q is not in the vocabulary", clip(unk))
		}
		b.unk = id
	}
	for i := range b.fallback {
		b.fallback[i] = b.lookup(fmt.Sprintf("<0x%02X>", i))
	}
	return nil
}

func (b *bpe) lookup(token string) int32 {
	if id, ok := b.vocab[token]; ok {
		return id
	}
	return -1
}

// index fills the tables that map bytes, ASCII characters and whole words to ids.
func (b *bpe) index() {
	b.complete = true
	for i := range b.byteIDs {
		b.byteIDs[i] = b.lookup(byteAlphabet[i])
		b.complete = b.complete && b.byteIDs[i] >= 0
	}
	for c := range b.ascii {
		b.ascii[c] = b.lookup(string(rune(c)))
	}
	if b.byteLevel {
		b.splitAt = ""
	}
	if !b.byteLevel || !b.ignoreMerges {
		return
	}
	b.words = make(map[string]int32, len(b.vocab))
	for token, id := range b.vocab {
		if raw, ok := alphabetBytes(token); ok {
			b.words[string(raw)] = id
		}
	}
}
