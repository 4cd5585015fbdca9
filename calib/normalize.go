package calib

import (
	"encoding/json"
	"fmt"
	"strings"
)

// normalizer changes a piece of text before it is cut into words.
type normalizer interface {
	apply(s string) string
}

// prepend puts text in front of what is not empty.
type prepend struct{ text string }

func (p prepend) apply(s string) string {
	if s == "" {
		return s
	}
	return p.text + s
}

// replace replaces every occurrence of a string.
type replace struct{ old, new string }

func (r replace) apply(s string) string { return strings.ReplaceAll(s, r.old, r.new) }

// strip removes white space at the ends.
type strip struct{ left, right bool }

func (t strip) apply(s string) string {
	if t.left {
		s = strings.TrimLeftFunc(s, isSpace)
	}
	if t.right {
		s = strings.TrimRightFunc(s, isSpace)
	}
	return s
}

// normalSequence applies normalizers in order.
type normalSequence []normalizer

func (n normalSequence) apply(s string) string {
	for _, f := range n {
		s = f.apply(s)
	}
	return s
}

// Limits on what a file may make of a text: how many times longer, and how many bytes in front of it.
const (
	maxGrowth  = 64
	maxPrepend = 256
)

// growth returns a bound on how many times longer n makes a text, not counting prepended bytes; at most maxGrowth+1.
func growth(n normalizer) int {
	switch n := n.(type) {
	case replace:
		return min(max(1, (len(n.new)+len(n.old)-1)/len(n.old)), maxGrowth+1)
	case nfc:
		return 3
	case normalSequence:
		g := 1
		for _, f := range n {
			g = min(g*growth(f), maxGrowth+1)
		}
		return g
	}
	return 1
}

// loadNormalizers reads the normalizer section; nil for none.
func loadNormalizers(raw json.RawMessage) (normalizer, error) {
	n, err := loadNormalizer(raw, 0)
	if err == nil && growth(n) > maxGrowth {
		return nil, fmt.Errorf("normalizer may make a text more than %d times longer", maxGrowth)
	}
	return n, err
}

func loadNormalizer(raw json.RawMessage, depth int) (normalizer, error) {
	if isNull(raw) {
		return nil, nil
	}
	o, err := parseObject("normalizer", raw)
	if err != nil {
		return nil, err
	}
	kind, err := o.text("type", "")
	if err != nil {
		return nil, err
	}
	switch kind {
	case "Sequence":
		return loadNormalSequence(o, depth)
	case "NFC":
		return nfc{}, nil
	case "Prepend":
		text, err := o.text("prepend", "")
		if err == nil && len(text) > maxPrepend {
			err = fmt.Errorf("normalizer Prepend: %d bytes are too many: at most %d", len(text), maxPrepend)
		}
		return prepend{text}, err
	case "Replace":
		return loadReplace(o)
	case "Strip":
		left, err := o.flag("strip_left", true)
		if err != nil {
			return nil, err
		}
		right, err := o.flag("strip_right", true)
		return strip{left, right}, err
	}
	return nil, fmt.Errorf("normalizer type %q is not supported", clip(kind))
}

func loadNormalSequence(o jsonObject, depth int) (normalizer, error) {
	if depth >= maxNesting {
		return nil, fmt.Errorf("normalizer: more than %d sequences inside each other", maxNesting)
	}
	items, err := o.list("normalizers")
	if err == nil && len(items) > maxStages {
		err = fmt.Errorf("normalizer: a sequence of %d is too long: at most %d", len(items), maxStages)
	}
	if err != nil {
		return nil, err
	}
	var seq normalSequence
	for _, raw := range items {
		n, err := loadNormalizer(raw, depth+1)
		if err != nil {
			return nil, err
		}
		if n != nil {
			seq = append(seq, n)
		}
	}
	if len(seq) == 0 {
		return nil, nil
	}
	return seq, nil
}

func loadReplace(o jsonObject) (normalizer, error) {
	old, text, err := replaceFields(o)
	return replace{old, text}, err
}

// replaceFields reads "pattern": {"String": …} and "content" of a Replace normalizer or decoder.
func replaceFields(o jsonObject) (old, text string, err error) {
	var pattern struct{ String, Regex *string }
	if err := o.decode("pattern", &pattern); err != nil {
		return "", "", err
	}
	if pattern.String == nil || *pattern.String == "" {
		return "", "", fmt.Errorf("%s Replace: pattern %s is not supported: it must be a string", o.path, clip(string(o.fields["pattern"])))
	}
	text, err = o.text("content", "")
	return *pattern.String, text, err
}
