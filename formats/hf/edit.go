package hf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"modelpress/formats"
)

// KV is a top-level key of a JSON object and its new value, as encoding/json writes it. A json.RawMessage is taken as
// the JSON it is.
type KV struct {
	Key   string
	Value any
}

// EditConfig returns a JSON object with some top-level keys deleted and others set. A key that is there keeps its place,
// a new one goes to the end in the order given. All other bytes stay as they are; what is inserted takes on the
// indentation found. A key in both lists, or twice in set, is an error; deleting a key that is not there is none.
func EditConfig(raw []byte, set []KV, remove []string) ([]byte, error) {
	list, err := members(raw, configName)
	if err != nil {
		return nil, err
	}
	style := styleOf(raw, list)
	values := make(map[string][]byte, len(set))
	for _, kv := range set {
		if _, ok := values[kv.Key]; ok || slices.Contains(remove, kv.Key) {
			return nil, fmt.Errorf("edit %s: key %q is changed twice", configName, kv.Key)
		}
		if values[kv.Key], err = style.value(kv.Value); err != nil {
			return nil, fmt.Errorf("edit %s: key %q: %w", configName, kv.Key, err)
		}
	}
	out := splice(raw, list, values, remove)
	if out, err = style.add(out, set, list, values); err != nil {
		return nil, err
	}
	return out, CheckConfig(out, configName)
}

// splice copies raw with the values of existing keys replaced and removed keys left out.
func splice(raw []byte, list []member, values map[string][]byte, remove []string) []byte {
	if len(list) == 0 {
		return slices.Clone(raw)
	}
	out := slices.Clone(raw[:list[0].start])
	wrote := false
	for i, m := range list {
		if slices.Contains(remove, m.key) {
			continue
		}
		if wrote { // the comma and white space that stood before this key
			out = append(out, raw[list[i-1].end:m.start]...)
		}
		wrote = true
		out = append(out, raw[m.start:m.value]...)
		if v, ok := values[m.key]; ok {
			out = append(out, v...)
		} else {
			out = append(out, raw[m.value:m.end]...)
		}
	}
	if !wrote { // an object whose every key went: no white space of a list stays
		out = bytes.TrimRight(out, " \t\r\n")
		return append(out, bytes.TrimLeft(raw[list[len(list)-1].end:], " \t\r\n")...)
	}
	return append(out, raw[list[len(list)-1].end:]...)
}

// style is how a JSON object is laid out.
type style struct {
	lead   string // white space before each key: "\n  "
	indent string // of one level, "" for an object on one line
	colon  string // between key and value
	tail   string // white space before the closing brace
}

// styleOf takes the layout of an object from its first member, or assumes that of json.dump(indent=2) for an empty one.
func styleOf(raw []byte, list []member) style {
	if len(list) == 0 {
		return style{lead: "\n  ", indent: "  ", colon: ": ", tail: "\n"}
	}
	first, last := list[0], list[len(list)-1]
	open := bytes.IndexByte(raw, '{')
	s := style{lead: string(raw[open+1 : first.start])}
	key := raw[first.start:first.value]
	s.colon = string(key[bytes.LastIndexByte(key, '"')+1:])
	s.tail = string(raw[last.end : last.end+bytes.IndexByte(raw[last.end:], '}')])
	if i := strings.LastIndexByte(s.lead, '\n'); i >= 0 {
		s.indent = s.lead[i+1:]
	} else if len(list) > 1 {
		s.lead = string(raw[list[0].end+1+bytes.IndexByte(raw[list[0].end:], ',') : list[1].start])
	}
	return s
}

// value encodes v as a member of a top-level object in this style.
func (s style) value(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	text := bytes.TrimRight(b.Bytes(), "\n")
	if err := formats.CheckJSON(text, configDepth-1); err != nil {
		return nil, err
	}
	if s.indent == "" {
		return text, nil
	}
	var out bytes.Buffer
	err := json.Indent(&out, text, s.indent, s.indent)
	return out.Bytes(), err
}

// add appends the keys of set that the object does not have.
func (s style) add(out []byte, set []KV, list []member, values map[string][]byte) ([]byte, error) {
	var tail []byte
	for _, kv := range set {
		if slices.ContainsFunc(list, func(m member) bool { return m.key == kv.Key }) {
			continue
		}
		key, err := style{}.value(kv.Key)
		if err != nil {
			return nil, err
		}
		tail = append(tail, ',')
		tail = append(tail, s.lead...)
		tail = append(tail, key...)
		tail = append(tail, s.colon...)
		tail = append(tail, values[kv.Key]...)
	}
	if tail == nil {
		return out, nil
	}
	kept, err := members(out, configName)
	if err != nil {
		return nil, err
	}
	if len(kept) == 0 {
		at := bytes.IndexByte(out, '{') + 1
		return slices.Concat(out[:at], tail[1:], []byte(s.tail), bytes.TrimLeft(out[at:], " \t\r\n")), nil
	}
	at := kept[len(kept)-1].end
	return slices.Insert(out, at, tail...), nil
}
