package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// strictJSON refuses what encoding/json would let pass or read in its own way: an object with a key twice, deep nesting, anything after the
// value, and null where nulls is false.
func strictJSON(data []byte, nulls bool) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := strictValue(dec, 0, nulls); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("data after the JSON value")
	}
	return nil
}

func strictValue(dec *json.Decoder, depth int, nulls bool) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	if tok == nil && !nulls {
		return errors.New("null")
	}
	d, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		if d == '{' {
			tok, err := dec.Token()
			if err != nil {
				return err
			}
			name := tok.(string) // the decoder accepts nothing else here
			if seen[name] {
				return fmt.Errorf("duplicate key %.80q", name)
			}
			seen[name] = true
		}
		if err := strictValue(dec, depth+1, nulls); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// decode reads a file without nulls into v.
func (r *reader) decode(f File, v any) error {
	if err := strictJSON(f.Data, false); err != nil {
		return r.bad(f.Name, "%w", err)
	}
	if err := json.Unmarshal(f.Data, v); err != nil {
		return r.bad(f.Name, "%w", err)
	}
	return nil
}

// object reads a file that may hold more than what is wanted of it, as a config.json does.
func (r *reader) object(f File) (map[string]json.RawMessage, error) {
	if err := strictJSON(f.Data, true); err != nil {
		return nil, r.bad(f.Name, "%w", err)
	}
	var o map[string]json.RawMessage
	if err := json.Unmarshal(f.Data, &o); err != nil {
		return nil, r.bad(f.Name, "%w", err)
	}
	return o, nil
}

// onlyObject reads the only file as an object.
func (r *reader) onlyObject() (File, map[string]json.RawMessage, error) {
	f, err := r.only()
	if err != nil {
		return f, nil, err
	}
	o, err := r.object(f)
	return f, o, err
}

// member reads a key of an object into v; it must be there, and hold no null.
func (r *reader) member(f File, o map[string]json.RawMessage, key string, v any) error {
	raw, ok := o[key]
	if !ok {
		return r.bad(f.Name, "%s is missing", key)
	}
	if err := strictJSON(raw, false); err != nil {
		return r.bad(f.Name, "%s: %w", key, err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return r.bad(f.Name, "%s: %w", key, err)
	}
	return nil
}

// tokens reads a number of tokens, at least least.
func (r *reader) tokens(f File, o map[string]json.RawMessage, key string, least int) (int, error) {
	var n int
	if err := r.member(f, o, key, &n); err != nil {
		return 0, err
	}
	if n < least || n > maxTokens {
		return 0, r.bad(f.Name, "%s: %d is not in %d..%d", key, n, least, maxTokens)
	}
	return n, nil
}
