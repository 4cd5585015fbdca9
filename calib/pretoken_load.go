package calib

import (
	"encoding/json"
	"fmt"
	"math"
)

// loadPre reads the pre_tokenizer section into a flat list; bytes tells whether the last stage is ByteLevel.
func loadPre(raw json.RawMessage) (pre preTokenizer, bytes bool, err error) {
	var seq preSequence
	if err := seq.load(raw, 0); err != nil {
		return nil, false, err
	}
	for i, stage := range seq {
		switch stage.(type) {
		case byteLevel:
			if i != len(seq)-1 {
				return nil, false, fmt.Errorf("pre_tokenizer: ByteLevel is only supported as the last stage")
			}
			bytes = true
		case metaspace:
			if len(seq) != 1 {
				return nil, false, fmt.Errorf("pre_tokenizer: Metaspace is only supported alone")
			}
		}
	}
	switch len(seq) {
	case 0:
		return nil, false, nil
	case 1:
		return seq[0], bytes, nil
	}
	return seq, bytes, nil
}

func (s *preSequence) load(raw json.RawMessage, depth int) error {
	if isNull(raw) {
		return nil
	}
	o, err := parseObject("pre_tokenizer", raw)
	if err != nil {
		return err
	}
	kind, err := o.text("type", "")
	if err != nil {
		return err
	}
	var stage preTokenizer
	switch kind {
	case "Sequence":
		return s.loadAll(o, depth)
	case "ByteLevel":
		stage, err = loadByteLevel(o)
	case "Metaspace":
		stage, err = loadMetaspace(o)
	case "Split":
		stage, err = loadSplit(o)
	case "Digits":
		stage, err = loadDigits(o)
	default:
		err = fmt.Errorf("pre_tokenizer type %q is not supported", clip(kind))
	}
	*s = append(*s, stage)
	return err
}

func (s *preSequence) loadAll(o jsonObject, depth int) error {
	if depth >= maxNesting {
		return fmt.Errorf("pre_tokenizer: more than %d sequences inside each other", maxNesting)
	}
	items, err := o.list("pretokenizers")
	if err == nil && len(*s)+len(items) > maxStages {
		err = fmt.Errorf("pre_tokenizer: a sequence of %d is too long: at most %d", len(*s)+len(items), maxStages)
	}
	if err != nil {
		return err
	}
	for _, raw := range items {
		if err := s.load(raw, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func loadByteLevel(o jsonObject) (preTokenizer, error) {
	prefix, err := o.flag("add_prefix_space", true)
	if err != nil {
		return nil, err
	}
	regex, err := o.flag("use_regex", true)
	if err != nil {
		return nil, err
	}
	if !regex {
		return byteLevel{prefixSpace: prefix}, nil
	}
	return byteLevel{prefixSpace: prefix, words: endGPT2}, nil
}

func loadMetaspace(o jsonObject) (preTokenizer, error) {
	symbol, err := o.text("replacement", metaSymbol)
	if err != nil {
		return nil, err
	}
	if len([]rune(symbol)) != 1 {
		return nil, fmt.Errorf("pre_tokenizer.replacement %q is not one character", clip(symbol))
	}
	prefix, err := o.flag("add_prefix_space", true)
	if err != nil {
		return nil, err
	}
	fallback := "always"
	if !prefix {
		fallback = "never"
	}
	scheme, err := o.text("prepend_scheme", fallback)
	if err != nil {
		return nil, err
	}
	if scheme != "always" && scheme != "first" && scheme != "never" {
		return nil, fmt.Errorf("pre_tokenizer.prepend_scheme %q is not supported", clip(scheme))
	}
	if !prefix && scheme != "never" {
		return nil, fmt.Errorf("pre_tokenizer: add_prefix_space false contradicts prepend_scheme %q", scheme)
	}
	cut, err := o.flag("split", true)
	return metaspace{symbol: symbol, scheme: scheme, cut: cut}, err
}

// loadSplit accepts the patterns of pretoken_patterns.go. With behaviour "Isolated" matches and what lies between them are
// words; the older "Removed" with invert keeps the matches, which is the same for patterns that match everywhere.
func loadSplit(o jsonObject) (preTokenizer, error) {
	var pattern struct{ Regex, String *string }
	if err := o.decode("pattern", &pattern); err != nil {
		return nil, err
	}
	behavior, err := o.text("behavior", "")
	if err != nil {
		return nil, err
	}
	invert, err := o.flag("invert", false)
	if err != nil {
		return nil, err
	}
	if pattern.Regex == nil {
		return nil, fmt.Errorf("pre_tokenizer Split: pattern %s is not supported: only known regular expressions are", clip(string(o.fields["pattern"])))
	}
	isolated := behavior == "Isolated"
	if f, ok := totalPatterns[*pattern.Regex]; ok && (isolated || behavior == "Removed" && invert) {
		return patternSplit{f}, nil
	}
	if f, ok := partialPatterns[*pattern.Regex]; ok && isolated {
		return patternSplit{f}, nil
	}
	return nil, fmt.Errorf("pre_tokenizer Split: pattern %q with behavior %q, invert %t is not supported", clip(*pattern.Regex), clip(behavior), invert)
}

func loadDigits(o jsonObject) (preTokenizer, error) {
	each, err := o.flag("individual_digits", false)
	most := math.MaxInt
	if each {
		most = 1
	}
	return patternSplit{digits{most: most, numeric: true}.end}, err
}
