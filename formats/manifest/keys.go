package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
)

const maxDepth = 64

// checkKeys refuses keys that appear twice in an object, known keys in capitals, deep nesting, and anything after the value.
// Decoding into Go types does not tell keys apart by case; other readers do, and would see another plan.
func checkKeys(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := checkValue(dec, 0, false); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("data after the JSON value")
	}
	return nil
}

// checkValue reads one value. The keys of a free object are names that the producer chose.
func checkValue(dec *json.Decoder, depth int, free bool) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	d, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		name := ""
		if d == '{' {
			tok, err := dec.Token()
			if err != nil {
				return err
			}
			name = tok.(string) // the decoder accepts nothing else here
			if seen[name] {
				return fmt.Errorf("duplicate key %.80q", name)
			}
			seen[name] = true
			if folded := fold(name); !free && folded != name && knownKeys()[folded] {
				return fmt.Errorf("key %.80q should be %q", name, folded)
			}
		}
		if err := checkValue(dec, depth+1, name == "policies" || name == "scaling"); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// fold maps spellings that encoding/json takes for one key to one string.
func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }

// knownKeys returns the names of all fields of version 1 that are decoded by encoding/json.
var knownKeys = sync.OnceValue(func() map[string]bool {
	keys := map[string]bool{}
	done := map[reflect.Type]bool{}
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			visit(t.Elem())
		case reflect.Struct:
			if done[t] {
				return
			}
			done[t] = true
			for i := range t.NumField() {
				if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" {
					keys[name] = true
				}
				visit(t.Field(i).Type)
			}
		}
	}
	visit(reflect.TypeFor[Plan]())
	return keys
})
