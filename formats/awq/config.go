package awq

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"modelpress/formats"
)

// written is quantization_config as [Format.Config] writes it: the keys that AutoAWQ, vLLM and transformers read.
type written struct {
	Bits                int      `json:"bits"`
	GroupSize           int      `json:"group_size"`
	LMHead              bool     `json:"lm_head,omitempty"` // vLLM (awq_marlin.py) alone reads it, and a quantized output head
	ModulesToNotConvert []string `json:"modules_to_not_convert"`
	QuantMethod         string   `json:"quant_method"`
	Version             string   `json:"version"`
	ZeroPoint           bool     `json:"zero_point"`
}

// lmHead is the output head.
const lmHead = "lm_head"

// Config returns the value of the key quantization_config of config.json for a checkpoint whose modules in quantized are stored in the format
// and whose linear modules in plain are not. Readers take a module for plain whose name contains an entry, wherever (AutoAWQ,
// awq/utils/module.py; vLLM): it is an error where the name of a quantized module contains that of a plain one.
func (f Format) Config(quantized, plain []string) (json.RawMessage, error) {
	for _, p := range plain {
		for _, q := range quantized {
			if strings.Contains(q, p) {
				return nil, fmt.Errorf("awq: modules_to_not_convert: %q is to stay as it is, but readers would leave %q as it is, too", p, q)
			}
		}
	}
	head := slices.ContainsFunc(quantized, func(q string) bool { return q == lmHead || strings.HasSuffix(q, "."+lmHead) })
	b, err := json.Marshal(written{
		Bits: bits, GroupSize: f.Group, LMHead: head, ModulesToNotConvert: plain, QuantMethod: "awq", Version: "gemm", ZeroPoint: true,
	})
	if err != nil {
		panic("awq: " + err.Error()) // plain strings and numbers always marshal
	}
	return b, nil
}

const maxDepth = 32 // nesting of quantization_config; real ones stay below 8

// Settings is what quantization_config, or quant_config.json, says of a checkpoint.
type Settings struct {
	Group int      // columns that share a scale; -1 for one scale per output row
	Plain []string // modules_to_not_convert: parts of the names of modules that are not quantized
}

// ParseConfig reads the value of quantization_config in config.json, or the content of quant_config.json, which older checkpoints have in
// its place. Keys that do not say how weights are stored are skipped.
func ParseConfig(raw json.RawMessage) (*Settings, error) {
	s, err := parseConfig(raw)
	if err != nil {
		return nil, formats.Errorf("config.json", "", "quantization_config: %w", err)
	}
	return s, nil
}

func parseConfig(raw json.RawMessage) (*Settings, error) {
	var method, version, format, checkpointFormat, backend string
	var b, wBit, group, qGroup *int
	s := &Settings{}
	if err := formats.ReadJSONFields(raw, maxDepth, map[string]any{
		"quant_method": &method, "version": &version, "format": &format, "checkpoint_format": &checkpointFormat, "backend": &backend,
		"bits": &b, "w_bit": &wBit, "group_size": &group, "q_group_size": &qGroup, "modules_to_not_convert": &s.Plain,
	}); err != nil {
		return nil, err
	}
	if m := strings.ToLower(method); m != "" && m != "awq" {
		return nil, fmt.Errorf("quant_method %.40q; this reader knows awq", method)
	}
	if backend == "llm-awq" {
		return nil, fmt.Errorf("backend llm-awq packs weights in another order; supported: version gemm of AutoAWQ")
	}
	for _, v := range []string{version, format, checkpointFormat} {
		if err := checkVersion(strings.ToLower(v)); err != nil {
			return nil, err
		}
	}
	n, err := either(b, wBit, "bits", "w_bit")
	if err != nil {
		return nil, err
	}
	if n != bits {
		return nil, fmt.Errorf("%d bits per code; awq has 4", n)
	}
	if s.Group, err = either(group, qGroup, "group_size", "q_group_size"); err != nil {
		return nil, err
	}
	if s.Group != -1 && s.Group <= 0 {
		return nil, fmt.Errorf("group_size %d: a positive number of columns, or -1 for one scale per row, is needed", s.Group)
	}
	return s, nil
}

// checkVersion refuses the layouts of other kernels. A missing version is gemm, as in AutoAWQ.
func checkVersion(v string) error {
	switch v {
	case "", "gemm":
		return nil
	case "gemv", "gemv_fast":
		return fmt.Errorf("version %s packs weights along the other dimension; supported: gemm", v)
	case "marlin", "exllama", "ipex":
		return fmt.Errorf("version %s is the layout of one kernel, which is not stored in checkpoints to be read by others; supported: gemm", v)
	}
	return fmt.Errorf("version %.40q; supported: gemm", v)
}

// either returns the value of a key or of its older name.
func either(a, b *int, name, older string) (int, error) {
	switch {
	case a == nil && b == nil:
		return 0, fmt.Errorf("%s is missing", name)
	case a == nil:
		return *b, nil
	case b != nil && *a != *b:
		return 0, fmt.Errorf("%s %d and %s %d contradict each other", name, *a, older, *b)
	}
	return *a, nil
}
