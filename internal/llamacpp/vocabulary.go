package llamacpp

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"modelpress/formats"
)

// bpeModel is the model section of a tokenizer.json.
type bpeModel struct {
	kind                              string
	tokens                            []string // by id, "" for a gap
	ids                               map[string]int32
	merges                            [][2]string
	byteFallback, ignoreMerges, fuses bool
	unknown                           string
}

// addedToken is an entry of added_tokens.
type addedToken struct {
	id      int32
	content string
	special bool
	spaced  bool // takes white space beside it, or stands alone between words
}

// parseModel reads the model section. Ids lie below vocab.
func parseModel(raw json.RawMessage, vocab int) (*bpeModel, error) {
	o, err := parseObject(raw)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	m := &bpeModel{kind: "BPE", tokens: make([]string, vocab), ids: map[string]int32{}}
	err = errors.Join(o.get("type", &m.kind), o.get("byte_fallback", &m.byteFallback), o.get("ignore_merges", &m.ignoreMerges),
		o.get("fuse_unk", &m.fuses), o.get("unk_token", &m.unknown))
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if m.kind != "BPE" {
		return m, nil
	}
	if !o.has("vocab") || !o.has("merges") {
		return nil, errors.New("model: vocab or merges are missing")
	}
	if err := m.parseVocab(o["vocab"]); err != nil {
		return nil, fmt.Errorf("model.vocab: %w", err)
	}
	if m.merges, err = parseMerges(o["merges"]); err != nil {
		return nil, fmt.Errorf("model.merges: %w", err)
	}
	return m, nil
}

func (m *bpeModel) parseVocab(raw json.RawMessage) error {
	s := formats.NewJSONScanner(raw, maxDepth)
	return s.Object(func(token string) error {
		id, err := s.Natural()
		if err != nil {
			return err
		}
		if id >= int64(len(m.tokens)) {
			return fmt.Errorf("id %d of %q, but the model has %d rows of embeddings", id, clip(token), len(m.tokens))
		}
		if have := m.tokens[id]; have != "" {
			return fmt.Errorf("id %d belongs to %q and to %q", id, clip(have), clip(token))
		}
		m.tokens[id], m.ids[token] = token, int32(id)
		return nil
	})
}

// parseMerges reads merges given as "left right" or as [left, right]; their order is their rank.
func parseMerges(raw json.RawMessage) ([][2]string, error) {
	var out [][2]string
	s := formats.NewJSONScanner(raw, maxDepth)
	err := s.Array(func(i int) error {
		if i >= maxTokens*4 {
			return fmt.Errorf("more than %d", maxTokens*4)
		}
		if s.Kind() == '[' {
			pair, err := mergePair(s)
			if err != nil {
				return fmt.Errorf("entry %d: %w", i, err)
			}
			out = append(out, pair)
			return nil
		}
		line, err := s.String()
		if err != nil || strings.HasPrefix(line, "#version") {
			return err
		}
		left, right, ok := strings.Cut(line, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return fmt.Errorf("entry %d: %q is not two tokens with a space between", i, clip(line))
		}
		out = append(out, [2]string{left, right})
		return nil
	})
	return out, err
}

func mergePair(s *formats.JSONScanner) (pair [2]string, err error) {
	n := 0
	err = s.Array(func(i int) error {
		part, err := s.String()
		if i < 2 {
			pair[i] = part
		}
		n++
		return err
	})
	if err == nil && (n != 2 || pair[0] == "" || pair[1] == "") {
		err = errors.New("is not two tokens")
	}
	return pair, err
}

// parseAdded reads added_tokens and checks them against the vocabulary.
func parseAdded(raw json.RawMessage, m *bpeModel) ([]addedToken, error) {
	var list []json.RawMessage
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, errors.New("added_tokens is not a list")
		}
	}
	var out []addedToken
	for i, item := range list {
		t, err := parseAddedToken(item, m)
		if err != nil {
			return nil, fmt.Errorf("added_tokens[%d]: %w", i, err)
		}
		if t.content != "" {
			out = append(out, t)
		}
	}
	return out, nil
}

func parseAddedToken(raw json.RawMessage, m *bpeModel) (addedToken, error) {
	o, err := parseObject(raw)
	if err != nil {
		return addedToken{}, err
	}
	t, id, flags := addedToken{}, int64(-1), [3]bool{}
	if err := errors.Join(o.get("id", &id), o.get("content", &t.content), o.get("special", &t.special), o.get("lstrip", &flags[0]),
		o.get("rstrip", &flags[1]), o.get("single_word", &flags[2])); err != nil {
		return t, err
	}
	t.spaced = flags != [3]bool{}
	if id < 0 || id >= int64(len(m.tokens)) {
		return t, fmt.Errorf("id %d of %q, but the model has %d rows of embeddings", id, clip(t.content), len(m.tokens))
	}
	t.id = int32(id)
	if have, ok := m.ids[t.content]; ok && have != t.id {
		return t, fmt.Errorf("%q has id %d here and %d elsewhere", clip(t.content), t.id, have)
	}
	if have := m.tokens[t.id]; have != "" && have != t.content {
		return t, fmt.Errorf("id %d belongs to %q and to %q", t.id, clip(have), clip(t.content))
	}
	if t.content != "" {
		m.tokens[t.id], m.ids[t.content] = t.content, t.id
	}
	return t, nil
}

// clip shortens text from a file for use in a message.
func clip(s string) string {
	const most = 40
	if r := []rune(s[:min(len(s), 4*most)]); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
