package calib

import (
	"encoding/json"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// addedToken is an entry of added_tokens.
type addedToken struct {
	id                         int32
	content                    string
	singleWord, lstrip, rstrip bool
	normalized, special        bool
}

// addedTokens are the tokens that are cut out of a text before the model sees it. Those with normalized = false match
// the text as written and go first; the others match after normalization.
type addedTokens struct {
	ids        map[string]int32
	byID       map[int32]*addedToken
	decoded    map[int32]string // stored form for decoding: the normalized content of normalized tokens
	beyond     int              // how many are not in the model's vocabulary
	raw        matcher
	normalized matcher
}

// loadAdded reads added_tokens and joins them with the model's vocabulary.
func loadAdded(items []json.RawMessage, b *bpe, n normalizer) (*addedTokens, error) {
	a := &addedTokens{ids: map[string]int32{}, byID: map[int32]*addedToken{}, decoded: map[int32]string{}}
	for i, raw := range items {
		path := fmt.Sprintf("added_tokens[%d]", i)
		tok, err := parseAdded(path, raw)
		if err != nil {
			return nil, err
		}
		if err := a.add(tok, b, n); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return a, nil
}

func parseAdded(path string, raw json.RawMessage) (*addedToken, error) {
	o, err := parseObject(path, raw)
	if err != nil {
		return nil, err
	}
	t := &addedToken{}
	if t.id, err = tokenID(o.fields["id"]); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if isNull(o.fields["content"]) {
		return nil, fmt.Errorf("%s: content is missing", path)
	}
	if t.content, err = o.text("content", ""); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		to   *bool
	}{{"single_word", &t.singleWord}, {"lstrip", &t.lstrip}, {"rstrip", &t.rstrip}, {"normalized", &t.normalized}, {"special", &t.special}} {
		if *f.to, err = o.flag(f.name, false); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// add checks a token against the vocabulary and the tokens before it.
func (a *addedTokens) add(t *addedToken, b *bpe, n normalizer) error {
	if t.content == "" {
		return nil // the original ignores these
	}
	if len(t.content) > maxAddedToken {
		return fmt.Errorf("content of %d bytes is too long: at most %d", len(t.content), maxAddedToken)
	}
	if _, dup := a.ids[t.content]; dup {
		return fmt.Errorf("%q appears twice", clip(t.content))
	}
	if other, dup := a.byID[t.id]; dup {
		return fmt.Errorf("id %d belongs to %q and to %q", t.id, clip(other.content), clip(t.content))
	}
	if other, ok := b.token(t.id); ok && other != t.content {
		return fmt.Errorf("id %d belongs to %q and, in model.vocab, to %q", t.id, clip(t.content), clip(other))
	}
	id, inVocab := b.vocab[t.content]
	if inVocab && id != t.id {
		return fmt.Errorf("%q has id %d here and %d in model.vocab", clip(t.content), t.id, id)
	}
	if want := len(b.vocab) + a.beyond; !inVocab && int(t.id) != want {
		// The original ignores the id in the file and counts on from the vocabulary: the two must agree.
		return fmt.Errorf("%q has id %d, but the next after model.vocab and the tokens before it is %d", clip(t.content), t.id, want)
	}
	if !inVocab {
		a.beyond++
	}
	a.ids[t.content], a.byID[t.id] = t.id, t
	pattern, m := t.content, &a.raw
	if t.normalized {
		m = &a.normalized
		if n != nil {
			pattern = n.apply(t.content)
		}
	}
	a.decoded[t.id] = pattern
	if pattern == "" {
		return nil
	}
	return m.add(pattern, t)
}

// isWord tells whether r is in \w as the Rust regex crate defines it (Unicode TR 18, annex C).
func isWord(r rune) bool {
	c := classOf(r)
	if c&(charLetter|charMark) != 0 || r == 0x200C || r == 0x200D {
		return true
	}
	if c&charNumber != 0 && !unicode.Is(unicode.No, r) { // \p{Nd} and \p{Nl}
		return true
	}
	return unicode.In(r, unicode.Pc, unicode.Other_Alphabetic)
}

// standsAlone tells whether s[start:end] has no word character next to it.
func standsAlone(s string, start, end int) bool {
	if start > 0 {
		if r, _ := utf8.DecodeLastRuneInString(s[:start]); isWord(r) {
			return false
		}
	}
	if end < len(s) {
		if r, _ := utf8.DecodeRuneInString(s[end:]); isWord(r) {
			return false
		}
	}
	return true
}
