package llamacpp

import (
	"bytes"
	"encoding/json"
)

// tokenDocument writes tokenizer.json and tokenizer_config.json.
type tokenDocument struct {
	r            *tokenReader
	ignoreMerges bool
	bos, eos     bool // text gets one in front, behind
}

// ordered is a JSON object whose members keep their order.
type ordered []member

type member struct {
	key   string
	value any
}

// MarshalJSON implements json.Marshaler.
func (o ordered) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, v := range []any{m.key, m.value} {
			raw, err := encode(v)
			if err != nil {
				return nil, err
			}
			if j == 1 {
				b.WriteByte(':')
			}
			b.Write(raw)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// encode writes a value without escapes that JSON does not ask for.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), err
}

func (d *tokenDocument) byteLevel(pre preTokenizer, prefix bool) {
	level := func(regex bool) ordered {
		return ordered{{"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"trim_offsets", true}, {"use_regex", regex}}
	}
	stages := []any{}
	for i, p := range pre.patterns {
		if i == len(pre.patterns)-1 && p == reGPT2 {
			stages = append(stages, level(true))
			break
		}
		stages = append(stages, ordered{{"type", "Split"}, {"pattern", ordered{{"Regex", p}}}, {"behavior", "Isolated"}, {"invert", false}})
		if i == len(pre.patterns)-1 {
			stages = append(stages, level(false))
		}
	}
	cut := any(ordered{{"type", "Sequence"}, {"pretokenizers", stages}})
	if len(stages) == 1 {
		cut = stages[0]
	}
	var normalizer any
	if pre.nfc {
		normalizer = ordered{{"type", "NFC"}}
	}
	model := d.model(nil, false, false)
	d.write(prefix, normalizer, cut, level(true), model)
}

func (d *tokenDocument) sentencePiece(prefix bool) {
	replace := func(from, to string) ordered {
		return ordered{{"type", "Replace"}, {"pattern", ordered{{"String", from}}}, {"content", to}}
	}
	normal, decode := []any{}, []any{replace(metaSymbol, " "), ordered{{"type", "ByteFallback"}}, ordered{{"type", "Fuse"}}}
	if prefix {
		normal = append(normal, ordered{{"type", "Prepend"}, {"prepend", metaSymbol}})
		decode = append(decode, ordered{{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}})
	}
	normal = append(normal, replace(" ", metaSymbol))
	var unknown any
	for id, kind := range d.r.kinds {
		if kind == tokenUnknown {
			unknown = d.r.tokens[id]
			break
		}
	}
	d.write(prefix, ordered{{"type", "Sequence"}, {"normalizers", normal}}, nil, ordered{{"type", "Sequence"}, {"decoders", decode}},
		d.model(unknown, true, true))
}

// model returns the model section.
func (d *tokenDocument) model(unknown any, fuse, fallback bool) ordered {
	var vocab ordered
	for id, t := range d.r.tokens {
		if d.r.kinds[id] != tokenUnused {
			vocab = append(vocab, member{t, id})
		}
	}
	merges := make([]string, len(d.r.merges))
	for i, m := range d.r.merges {
		merges[i] = m[0] + " " + m[1]
	}
	return ordered{{"type", "BPE"}, {"dropout", nil}, {"unk_token", unknown}, {"continuing_subword_prefix", nil}, {"end_of_word_suffix", nil},
		{"fuse_unk", fuse}, {"byte_fallback", fallback}, {"ignore_merges", d.ignoreMerges}, {"vocab", vocab}, {"merges", merges}}
}

// write adds the files.
func (d *tokenDocument) write(prefix bool, normalizer, cut, decoder any, model ordered) {
	added := []any{}
	for id, t := range d.r.tokens {
		if d.r.added(id) {
			added = append(added, ordered{{"id", id}, {"content", t}, {"single_word", false}, {"lstrip", false}, {"rstrip", false},
				{"normalized", false}, {"special", d.r.kinds[id] != tokenUser}})
		}
	}
	doc := ordered{{"version", "1.0"}, {"truncation", nil}, {"padding", nil}, {"added_tokens", added}, {"normalizer", normalizer},
		{"pre_tokenizer", cut}, {"post_processor", d.post()}, {"decoder", decoder}, {"model", model}}
	for name, v := range map[string]ordered{tokenizerFile: doc, tokenizerConfigFile: d.config(prefix)} {
		raw, err := encode(v)
		if err != nil { // every value is a text or a number
			d.r.warn("the tokenizer is left out: %v", err)
			return
		}
		d.r.files[name] = append(raw, '\n')
	}
}

// post returns the post-processor: tokens around text, nil for none.
func (d *tokenDocument) post() any {
	text := ordered{{"Sequence", ordered{{"id", "A"}, {"type_id", 0}}}}
	single, special := []any{text}, ordered{}
	put := func(role string, front bool) {
		id, ok := d.r.special[role]
		if !ok {
			d.r.warn("text gets a %s token, but no key says which", role)
			return
		}
		t := d.r.tokens[id]
		piece := ordered{{"SpecialToken", ordered{{"id", t}, {"type_id", 0}}}}
		if front {
			single = append([]any{piece}, single...)
		} else {
			single = append(single, piece)
		}
		if len(special) == 0 || special[0].key != t {
			special = append(special, member{t, ordered{{"id", t}, {"ids", []int{id}}, {"tokens", []string{t}}}})
		}
	}
	if d.bos {
		put("bos", true)
	}
	if d.eos {
		put("eos", false)
	}
	if len(special) == 0 {
		return nil
	}
	pair := append(append([]any{}, single...), ordered{{"Sequence", ordered{{"id", "B"}, {"type_id", 1}}}})
	return ordered{{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}}
}

// config returns tokenizer_config.json.
func (d *tokenDocument) config(prefix bool) ordered {
	o := ordered{{"tokenizer_class", "PreTrainedTokenizerFast"}}
	for _, s := range specials {
		if id, ok := d.r.special[s.role]; ok {
			o = append(o, member{s.role + "_token", d.r.tokens[id]})
		}
	}
	o = append(o, member{"add_bos_token", d.bos}, member{"add_eos_token", d.eos}, member{"add_prefix_space", prefix},
		member{"clean_up_tokenization_spaces", false})
	if t := d.templates(); t != nil {
		o = append(o, member{"chat_template", t})
	}
	return o
}

// templates returns the chat template, or a list of several with their names; nil for none.
func (d *tokenDocument) templates() any {
	var list []any
	v, _ := d.r.file.Lookup(keyTemplates)
	names, _ := v.Strs()
	for _, name := range names {
		if t := d.r.text(keyTemplate + "." + name); t != "" {
			list = append(list, ordered{{"name", name}, {"template", t}})
		}
	}
	t := d.r.text(keyTemplate)
	switch {
	case t == "" && list == nil:
		return nil
	case t == "":
		return list
	case list == nil:
		return t
	}
	return append([]any{ordered{{"name", "default"}, {"template", t}}}, list...)
}

var _ json.Marshaler = ordered{}
