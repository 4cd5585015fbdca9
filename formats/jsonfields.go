package formats

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ReadJSONFields decodes the keys of a JSON object that are in fields into what those point to, and skips the others. encoding/json
// alone would take "BITS" for "bits" and the last of two equal keys, which other readers do not. null leaves its destination alone.
// Arrays and objects may nest maxDepth deep.
func ReadJSONFields(data []byte, maxDepth int, fields map[string]any) error {
	s := NewJSONScanner(data, maxDepth)
	if s.Kind() != '{' {
		return errors.New("an object is needed")
	}
	if err := s.Object(func(key string) error {
		raw, err := s.Raw()
		if err != nil {
			return err
		}
		dst, ok := fields[key]
		if !ok || string(raw) == "null" {
			return nil
		}
		if err := json.Unmarshal(raw, dst); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		return nil
	}); err != nil {
		return err
	}
	return s.End()
}
