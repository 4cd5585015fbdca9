package convert

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"modelpress/formats"
)

// configDepth bounds the nesting of config.json, which was checked when the model was opened.
const configDepth = 64

// diffConfig lists the top-level keys of two configurations that differ, by name. Numbers differ by value and not by how they are written, and
// so do objects.
func diffConfig(a, b []byte) ([]KeyDifference, error) {
	x, err := topLevel(a)
	if err != nil {
		return nil, side(sideA, err)
	}
	y, err := topLevel(b)
	if err != nil {
		return nil, side(sideB, err)
	}
	keys := maps.Clone(x)
	maps.Copy(keys, y)
	list := []KeyDifference{}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		v, inA := x[key]
		w, inB := y[key]
		if inA && inB {
			same, err := sameJSON(v, w)
			if err != nil {
				return nil, formats.Errorf(configName, "", "key %q: %w", key, err)
			}
			if same {
				continue
			}
		}
		list = append(list, KeyDifference{Key: key, A: v, B: w})
	}
	return list, nil
}

// topLevel returns the values of a configuration without white space.
func topLevel(raw []byte) (map[string]json.RawMessage, error) {
	values := map[string]json.RawMessage{}
	s := formats.NewJSONScanner(raw, configDepth)
	err := s.Object(func(key string) error {
		v, err := s.Raw()
		if err != nil {
			return err
		}
		var out bytes.Buffer
		err = json.Compact(&out, v)
		values[key] = out.Bytes()
		return err
	})
	if err != nil {
		return nil, formats.Errorf(configName, "", "%w", err)
	}
	return values, nil
}

func sameJSON(a, b []byte) (bool, error) {
	if bytes.Equal(a, b) {
		return true, nil
	}
	x, err := parseJSON(a)
	if err != nil {
		return false, err
	}
	y, err := parseJSON(b)
	return err == nil && reflect.DeepEqual(x, y), err
}

// parseJSON is the value of a JSON text, every number in one writing.
func parseJSON(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return plainNumbers(v), nil
}

func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		return plainNumber(string(v))
	case []any:
		for i := range v {
			v[i] = plainNumbers(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = plainNumbers(v[key])
		}
	}
	return v
}

// plainNumber leaves whole numbers as they are, of any length, and others to the precision of float64, which is all that readers have.
func plainNumber(text string) json.Number {
	if !strings.ContainsAny(text, ".eE") {
		return json.Number(text)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return json.Number(text)
	}
	return json.Number(strconv.FormatFloat(f, 'f', -1, 64))
}
