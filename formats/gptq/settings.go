package gptq

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"modelpress/formats"
)

// Settings is what quantization_config, or quantize_config.json, says of a checkpoint.
type Settings struct {
	Format          // of modules that no pattern of dynamic names
	LMHead  bool    // the output head is quantized
	Dynamic Dynamic // what differs from module to module
	assumed bool    // desc_act is missing
}

const maxDepth = 32 // nesting of quantization_config; real ones stay below 8

// fields are the keys of quantization_config that say how weights are stored.
type fields struct {
	QuantMethod, Method      string
	CheckpointFormat, Format string
	PackDType                string
	Bits, GroupSize          *int
	DescAct, Sym             *bool
	LMHead, Marlin           bool
	Dynamic                  json.RawMessage
}

// ParseConfig reads the value of quantization_config in config.json, or the content of quantize_config.json, which some checkpoints have in
// its place. Keys that do not say how weights are stored are skipped. Where sym and desc_act are missing they are true, where
// checkpoint_format is missing it is version 1, as in AutoGPTQ.
func ParseConfig(raw json.RawMessage) (*Settings, error) {
	s, err := parseConfig(raw)
	if err != nil {
		return nil, formats.Errorf("config.json", "", "quantization_config: %w", err)
	}
	return s, nil
}

func parseConfig(raw json.RawMessage) (*Settings, error) {
	var c fields
	if err := formats.ReadJSONFields(raw, maxDepth, map[string]any{
		"quant_method": &c.QuantMethod, "method": &c.Method, "checkpoint_format": &c.CheckpointFormat, "format": &c.Format,
		"pack_dtype": &c.PackDType, "bits": &c.Bits, "group_size": &c.GroupSize, "desc_act": &c.DescAct, "sym": &c.Sym,
		lmHead: &c.LMHead, "is_marlin_format": &c.Marlin, "dynamic": &c.Dynamic,
	}); err != nil {
		return nil, err
	}
	v2, err := c.version()
	if err != nil {
		return nil, err
	}
	if c.Bits == nil || c.GroupSize == nil {
		return nil, errors.New("bits and group_size are needed")
	}
	s := &Settings{LMHead: c.LMHead, assumed: c.DescAct == nil}
	s.Format = Format{
		Bits: *c.Bits, Group: *c.GroupSize, V2: v2, ActOrder: c.DescAct == nil || *c.DescAct, Symmetric: c.Sym == nil || *c.Sym,
	}
	if err := s.checkSizes(); err != nil {
		return nil, err
	}
	if len(c.Dynamic) > 0 {
		if s.Dynamic, err = parseDynamic(c.Dynamic); err != nil {
			return nil, fmt.Errorf("dynamic: %w", err)
		}
	}
	return s, nil
}

// checkSizes looks at what no weight could have.
func (f Format) checkSizes() error {
	probe := int64(block)
	if f.Group > 0 && f.Group <= 1<<24 {
		probe *= int64(f.Group)
	}
	return f.Check(block, probe)
}

// version returns whether the weights are of version 2, and refuses what is not of this layout.
func (c *fields) version() (v2 bool, err error) {
	for _, method := range []string{c.QuantMethod, c.Method} {
		if m := strings.ToLower(method); m != "" && m != "gptq" {
			return false, fmt.Errorf("quant_method %.40q; this reader knows gptq", method)
		}
	}
	if c.Marlin {
		return false, errors.New("is_marlin_format: the layout of the Marlin kernel is not supported")
	}
	if c.PackDType != "" && c.PackDType != "int32" {
		return false, fmt.Errorf("pack_dtype %.40q; supported: int32", c.PackDType)
	}
	name := strings.ToLower(c.CheckpointFormat)
	if other := strings.ToLower(c.Format); name == "" {
		name = other
	} else if other != "" && other != name {
		return false, fmt.Errorf("checkpoint_format %.40q and format %.40q contradict each other", c.CheckpointFormat, c.Format)
	}
	switch name {
	case "", formatV1:
		return false, nil
	case formatV2:
		return true, nil
	}
	return false, fmt.Errorf("checkpoint_format %.40q; supported: %s, %s", name, formatV1, formatV2)
}

// Module returns how a module is stored that is quantized, or an error where the config says that it is not.
func (s *Settings) Module(name string) (Format, error) {
	f := s.Format
	o := s.Dynamic.find(name)
	if o == nil {
		return f, nil
	}
	if o.excluded {
		return Format{}, fmt.Errorf("module is quantized although the entry %.80q of dynamic excludes it", o.key)
	}
	if o.bits != nil {
		f.Bits = *o.bits
	}
	if o.group != nil {
		f.Group = *o.group
	}
	if o.actOrder != nil {
		f.ActOrder = *o.actOrder
	}
	if o.sym != nil {
		f.Symmetric = *o.sym
	}
	return f, nil
}
