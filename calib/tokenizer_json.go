package calib

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// jsonObject is a JSON object whose fields are read one by one, by exact name. Field names are case-sensitive and may not
// repeat, unlike in encoding/json's own structs.
type jsonObject struct {
	path   string // for messages: where in the file this object lies
	fields map[string]json.RawMessage
}

func parseObject(path string, raw json.RawMessage) (jsonObject, error) {
	o := jsonObject{path: path, fields: map[string]json.RawMessage{}}
	if isNull(raw) {
		return o, fmt.Errorf("%s is missing", path)
	}
	err := eachField(raw, func(name string, value json.RawMessage) error {
		if _, dup := o.fields[name]; dup {
			return fmt.Errorf("key %q appears twice", clip(name))
		}
		o.fields[name] = value
		return nil
	})
	if err != nil {
		return o, fmt.Errorf("%s: %w", path, err)
	}
	return o, nil
}

// eachField calls f for every member of a JSON object in order, repeated names included.
func eachField(raw json.RawMessage, f func(name string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	start, err := d.Token()
	if err != nil {
		return syntaxError(err)
	}
	if start != json.Delim('{') {
		return fmt.Errorf("want an object, have %s", clip(string(raw)))
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return syntaxError(err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return syntaxError(err)
		}
		key, ok := name.(string)
		if !ok {
			return fmt.Errorf("member name is not a string")
		}
		if err := f(key, value); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return syntaxError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the end of the object")
	}
	return nil
}

func syntaxError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("JSON ends early")
	}
	return err
}

// decode reads a field into v; null and absent fields leave v as it is.
func (o jsonObject) decode(name string, v any) error {
	raw := o.fields[name]
	if isNull(raw) {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s.%s: %s has the wrong type", o.path, name, clip(string(raw)))
	}
	return nil
}

func (o jsonObject) text(name, missing string) (string, error) {
	err := o.decode(name, &missing)
	return missing, err
}

func (o jsonObject) flag(name string, missing bool) (bool, error) {
	err := o.decode(name, &missing)
	return missing, err
}

func (o jsonObject) list(name string) ([]json.RawMessage, error) {
	var items []json.RawMessage
	err := o.decode(name, &items)
	return items, err
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// tokenID reads an id and checks its range.
func tokenID(raw json.RawMessage) (int32, error) {
	var id int64
	if err := json.Unmarshal(raw, &id); err != nil || isNull(raw) {
		return 0, fmt.Errorf("id %s is not an integer", clip(string(raw)))
	}
	if id < 0 || id > maxTokenID {
		return 0, fmt.Errorf("id %d is outside 0…%d", id, maxTokenID)
	}
	return int32(id), nil
}

// clip shortens text from the file for use in a message.
func clip(s string) string {
	const most = 80
	if r := []rune(s[:min(len(s), 4*most)]); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
