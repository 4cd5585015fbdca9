package llamacpp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"modelpress/formats"
)

const (
	tokenizerFile       = "tokenizer.json"
	tokenizerConfigFile = "tokenizer_config.json"
	specialMapFile      = "special_tokens_map.json"
	generationFile      = "generation_config.json"
	templateFile        = "chat_template.jinja"
	sentencePieceFile   = "tokenizer.model"
)

// Bounds on what a tokenizer's files may hold. The largest vocabularies in use have 2^18 tokens, the largest files 33 MB.
const (
	maxTokenFile = 256 << 20
	maxTokens    = 1 << 22
	maxDepth     = 32
)

// object is a JSON object whose members are read one by one.
type object map[string]json.RawMessage

// parseObject reads an object by the strict rules of [formats.JSONScanner].
func parseObject(raw []byte) (object, error) {
	o := object{}
	s := formats.NewJSONScanner(raw, maxDepth)
	err := s.Object(func(key string) (err error) {
		o[key], err = s.Raw()
		return err
	})
	if err == nil {
		err = s.End()
	}
	return o, err
}

// has reports whether the member is there with a value other than null.
func (o object) has(key string) bool {
	v, ok := o[key]
	return ok && string(v) != "null"
}

// get decodes a member into v; what is missing or null leaves v as it is.
func (o object) get(key string, v any) error {
	if !o.has(key) {
		return nil
	}
	if err := json.Unmarshal(o[key], v); err != nil {
		return fmt.Errorf("key %q has another type than %s", key, strings.TrimPrefix(fmt.Sprintf("%T", v), "*"))
	}
	return nil
}

// child reads a member that is an object; nil where it is missing or null.
func (o object) child(key string) (object, error) {
	if !o.has(key) {
		return nil, nil
	}
	c, err := parseObject(o[key])
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", key, err)
	}
	return c, nil
}

// sideFiles reads the files of a checkpoint that say something of its tokenizer.
type sideFiles struct {
	read func(name string) ([]byte, error)
}

// bytes returns a file, nil where there is none.
func (s sideFiles) bytes(name string) ([]byte, error) {
	data, err := s.read(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case len(data) > maxTokenFile:
		return nil, formats.Errorf(name, "", "%d bytes are too many: at most %d", len(data), maxTokenFile)
	case data == nil:
		data = []byte{}
	}
	return data, nil
}

// object returns a file that is a JSON object, nil where there is none.
func (s sideFiles) object(name string) (object, error) {
	data, err := s.bytes(name)
	if data == nil || err != nil {
		return nil, err
	}
	o, err := parseObject(data)
	if err != nil {
		return nil, formats.Errorf(name, "", "not a valid JSON object: %w", err)
	}
	return o, nil
}
