package packed

import (
	"bytes"
	"encoding/json"
	"fmt"

	"modelpress/formats"
)

// orderedGroups are the entries of config_groups in the order of the file, which decides when two of them match a module.
type orderedGroups []namedGroup

type namedGroup struct {
	name string
	group
}

// MarshalJSON writes an object.
func (g orderedGroups) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, e := range g {
		name, err := json.Marshal(e.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(e.group)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads an object and keeps its order.
func (g *orderedGroups) UnmarshalJSON(data []byte) error {
	s := formats.NewJSONScanner(data, maxDepth)
	return s.Object(func(key string) error {
		raw, err := s.Raw()
		if err != nil {
			return err
		}
		e := namedGroup{name: key}
		if err := json.Unmarshal(raw, &e.group); err != nil {
			return fmt.Errorf("config_groups %q: %w", key, err)
		}
		*g = append(*g, e)
		return nil
	})
}

const maxDepth = 32 // nesting of quantization_config; real ones stay below 8

// fields decodes an object key by key into the fields of *v named in keys. encoding/json alone would take "NUM_BITS" for
// "num_bits" and the last of two equal keys, which other readers do not. Keys that are missing from the map are errors where
// strict is set, else skipped.
func fields(data []byte, strict bool, keys map[string]any) error {
	s := formats.NewJSONScanner(data, maxDepth)
	if s.Kind() != '{' {
		return fmt.Errorf("an object is needed")
	}
	if err := s.Object(func(key string) error {
		raw, err := s.Raw()
		if err != nil {
			return err
		}
		dst, ok := keys[key]
		if !ok && strict {
			return fmt.Errorf("unknown key %.40q", key)
		}
		if !ok {
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

// UnmarshalJSON reads an object and refuses unknown keys.
func (a *args) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	return fields(data, true, map[string]any{
		"actorder": &a.ActOrder, "block_structure": &a.BlockStructure, "dynamic": &a.Dynamic, "group_size": &a.GroupSize,
		"num_bits": &a.NumBits, "observer": &a.Observer, "observer_kwargs": &a.ObserverKwargs, "scale_dtype": &a.ScaleDType,
		"strategy": &a.Strategy, "symmetric": &a.Symmetric, "type": &a.Type, "zp_dtype": &a.ZPDType,
	})
}

// UnmarshalJSON reads an object and refuses unknown keys.
func (g *group) UnmarshalJSON(data []byte) error {
	return fields(data, true, map[string]any{
		"format": &g.Format, "input_activations": &g.InputActivations, "output_activations": &g.OutputActivations,
		"targets": &g.Targets, "weights": &g.Weights,
	})
}

// UnmarshalJSON reads an object; keys that are not of the schema are skipped.
func (c *config) UnmarshalJSON(data []byte) error {
	return fields(data, false, map[string]any{
		"config_groups": &c.ConfigGroups, "format": &c.Format, "ignore": &c.Ignore, "kv_cache_scheme": &c.KVCacheScheme,
		"quantization": &c.Quantization, "quant_method": &c.QuantMethod, "quantization_status": &c.QuantizationStatus,
		"sparsity_config": &c.SparsityConfig, "transform_config": &c.TransformConfig, "version": &c.Version,
	})
}
