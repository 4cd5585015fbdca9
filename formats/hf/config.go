package hf

import (
	"encoding/json"

	"modelpress/formats"
)

const (
	configName     = "config.json"
	maxConfigBytes = 16 << 20
	configDepth    = 64
)

// CheckConfig checks that raw is a strict JSON object of sensible size: what [Open] asks of config.json. file is what
// errors call it.
func CheckConfig(raw []byte, file string) error {
	if len(raw) > maxConfigBytes {
		return formats.Errorf(file, "", "%d bytes are over the limit of %d", len(raw), maxConfigBytes)
	}
	_, err := members(raw, file)
	return err
}

// member is one key of a top-level object, with the offsets of its parts in the text.
type member struct {
	key        string
	start      int // of the key's opening quote
	value, end int // of the value's first byte, and after its last
}

// members checks raw as [CheckConfig] does, for any size, and returns its keys in order.
func members(raw []byte, file string) ([]member, error) {
	var list []member
	s := formats.NewJSONScanner(raw, configDepth)
	start := 0
	if s.Kind() == '{' {
		start = s.Pos() + 1
	}
	err := s.Object(func(key string) error {
		m := member{key: key, start: keyStart(raw, start)}
		m.value = s.Pos()
		if err := s.Skip(); err != nil {
			return err
		}
		m.end = s.Consumed()
		start = m.end
		list = append(list, m)
		return nil
	})
	if err == nil {
		err = s.End()
	}
	if err != nil {
		return nil, formats.Errorf(file, "", "%w", err)
	}
	return list, nil
}

// keyStart finds the quote that opens a key, past the comma and the white space before it.
func keyStart(raw []byte, from int) int {
	for raw[from] != '"' {
		from++
	}
	return from
}

// lookup returns the raw value of a top-level key of checked JSON, nil where it is absent or null.
func lookup(raw []byte, list []member, key string) json.RawMessage {
	for _, m := range list {
		if m.key == key && string(raw[m.value:m.end]) != "null" {
			return json.RawMessage(raw[m.value:m.end:m.end])
		}
	}
	return nil
}
