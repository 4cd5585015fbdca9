package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/goccy/go-yaml"
)

// checkNesting bounds how deep brackets nest: the time of the YAML decoder grows with the cube of it.
func checkNesting(b []byte) error {
	const most = 64
	depth := 0
	for _, c := range b {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
		if depth > most {
			return fmt.Errorf("brackets nest deeper than %d", most)
		}
	}
	return nil
}

// decodeYAML decodes the one document of b; nothing at all is a document without fields. The decoder panics on some
// damaged input, which is an error like any other here.
func decodeYAML(b []byte, into any, opts ...yaml.DecodeOption) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not valid YAML (%v)", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(b), opts...)
	if err := dec.Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	var more any
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return errors.New("more than one document in the file")
	}
	return nil
}

// fractions are the fields of a recipe that take any number.
var fractions = []string{"full_share", "depths", "damp", "min", "max", "ppl_ratio", "kl", "needle_drop",
	"kv_budget", "balance", "lr", "reg", "density", "threshold", "key_channels", "ratio", "plan_ppl_ratio", "plan_kl",
	"params", "flops", "kv", "rate", "joint_rate", "settle", "floor", "decay", "beta1", "beta2", "clip", "logits", "temperature", "ce", "weight", "alpha"}

// cutOff finds the fractions in fields of whole numbers below a mapping, which the YAML decoder would cut off and go on. A
// whole number may be written as a decimal (5e9). path is what the mapping's keys are called with, with a dot at its end.
func cutOff(m map[string]any, path string) faults {
	var f faults
	for _, key := range sortedKeys(m) {
		if oneOf(key, fractions...) {
			continue
		}
		list, ok := m[key].([]any)
		if !ok {
			list = []any{m[key]}
		}
		for _, v := range list {
			switch v := v.(type) {
			case map[string]any:
				f = append(f, cutOff(v, path+key+".")...)
			case float64:
				const exact = 1 << 53
				f.add(v != math.Trunc(v) || math.Abs(v) > exact, "%s%s %v: want a whole number", path, key, v)
			}
		}
	}
	return f
}
