package calib

import (
	"encoding/json"
	"fmt"
)

// postProcessor puts special tokens around the ids of one text.
type postProcessor interface {
	process(ids []int32) []int32
}

// postTemplate is a TemplateProcessing (or Bert/Roberta) post-processor for a single text: ids before and after it.
type postTemplate struct {
	pieces [][]int32 // nil stands for the text
}

func (t *postTemplate) process(ids []int32) []int32 {
	var out []int32
	for _, p := range t.pieces {
		if p == nil {
			out = append(out, ids...)
		} else {
			out = append(out, p...)
		}
	}
	return out
}

// postSequence applies post-processors in order.
type postSequence []postProcessor

func (s postSequence) process(ids []int32) []int32 {
	for _, p := range s {
		ids = p.process(ids)
	}
	return ids
}

// Limits on every section: Sequence within Sequence, and the length of one.
const (
	maxNesting = 8
	maxStages  = 16
)

// loadPost reads the post_processor section; nil for none. known tells whether an id has a token.
func loadPost(raw json.RawMessage, known func(int32) bool, depth int) (postProcessor, error) {
	if isNull(raw) {
		return nil, nil
	}
	o, err := parseObject("post_processor", raw)
	if err != nil {
		return nil, err
	}
	kind, err := o.text("type", "")
	if err != nil {
		return nil, err
	}
	switch kind {
	case "ByteLevel": // trims offsets, which nobody asks for here
		return nil, nil
	case "TemplateProcessing":
		return loadTemplate(o, known)
	case "BertProcessing", "RobertaProcessing":
		return loadBrackets(o, known)
	case "Sequence":
		return loadPostSequence(o, known, depth)
	}
	return nil, fmt.Errorf("post_processor type %q is not supported", clip(kind))
}

func loadPostSequence(o jsonObject, known func(int32) bool, depth int) (postProcessor, error) {
	if depth >= maxNesting {
		return nil, fmt.Errorf("post_processor: more than %d sequences inside each other", maxNesting)
	}
	items, err := o.list("processors")
	if err == nil && len(items) > maxStages {
		err = fmt.Errorf("post_processor: a sequence of %d is too long: at most %d", len(items), maxStages)
	}
	if err != nil {
		return nil, err
	}
	var seq postSequence
	for _, raw := range items {
		p, err := loadPost(raw, known, depth+1)
		if err != nil {
			return nil, err
		}
		if p != nil {
			seq = append(seq, p)
		}
	}
	if len(seq) == 0 {
		return nil, nil
	}
	return seq, nil
}

// loadTemplate reads "single": pieces {"Sequence": …} or {"SpecialToken": {"id": name}}, with the ids of names in
// special_tokens.
func loadTemplate(o jsonObject, known func(int32) bool) (postProcessor, error) {
	var pieces []map[string]struct {
		ID string `json:"id"`
	}
	var special map[string]struct {
		IDs []json.RawMessage `json:"ids"`
	}
	if err := o.decode("single", &pieces); err != nil {
		return nil, err
	}
	if err := o.decode("special_tokens", &special); err != nil {
		return nil, err
	}
	t, seen := &postTemplate{}, false
	for i, piece := range pieces {
		tok, isToken := piece["SpecialToken"]
		seq, isText := piece["Sequence"]
		switch {
		case len(piece) == 1 && isText && seq.ID == "A" && !seen:
			seen = true
			t.pieces = append(t.pieces, nil)
		case len(piece) == 1 && isToken:
			def, ok := special[tok.ID]
			if !ok {
				return nil, fmt.Errorf("post_processor.special_tokens lacks %q", clip(tok.ID))
			}
			ids, err := knownIDs(def.IDs, known)
			if err != nil {
				return nil, fmt.Errorf("post_processor.special_tokens %q: %w", clip(tok.ID), err)
			}
			t.pieces = append(t.pieces, ids)
		default:
			return nil, fmt.Errorf("post_processor.single[%d] is neither a special token nor the only sequence A", i)
		}
	}
	return t, nil
}

func knownIDs(raw []json.RawMessage, known func(int32) bool) ([]int32, error) {
	ids := make([]int32, 0, len(raw))
	for _, r := range raw {
		id, err := tokenID(r)
		if err != nil {
			return nil, err
		}
		if !known(id) {
			return nil, fmt.Errorf("id %d has no token", id)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// loadBrackets reads "cls" and "sep", each [token, id]: cls goes before the text, sep after it.
func loadBrackets(o jsonObject, known func(int32) bool) (postProcessor, error) {
	t := &postTemplate{pieces: make([][]int32, 3)}
	for i, name := range []string{"cls", "sep"} {
		pair, err := o.list(name)
		if err != nil {
			return nil, err
		}
		if len(pair) != 2 {
			return nil, fmt.Errorf("post_processor.%s is not [token, id]", name)
		}
		if t.pieces[2*i], err = knownIDs(pair[1:], known); err != nil {
			return nil, fmt.Errorf("post_processor.%s: %w", name, err)
		}
	}
	return t, nil
}
