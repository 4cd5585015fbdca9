package hf

import (
	"encoding/json"
	"strings"

	"modelpress/formats"
)

// quantFiles are where programs wrote how weights are quantized before it had a place in config.json, and the quant_method that each
// stands for. They describe the weights as they are, so that they are no side files of a result.
var quantFiles = []struct{ name, method string }{{"quantize_config.json", "gptq"}, {"quant_config.json", "awq"}}

// openQuantConfig reads such a file, where config.json says nothing and a tensor is packed.
func (c *Checkpoint) openQuantConfig() error {
	if c.QuantizationConfig() != nil || !c.hasPacked() {
		return nil
	}
	for _, f := range quantFiles {
		if !c.dir.exists(f.name) {
			continue
		}
		raw, info, err := c.dir.read(f.name, maxConfigBytes)
		if err != nil {
			return err
		}
		list, err := members(raw, f.name)
		if err != nil {
			return err
		}
		if lookup(raw, list, "quant_method") == nil {
			if raw, err = EditConfig(raw, []KV{{"quant_method", f.method}}, nil); err != nil {
				return err
			}
		}
		c.quant, c.seen[f.name] = json.RawMessage(raw), info
		return nil
	}
	return formats.Errorf(configName, "", "tensors are packed (.qweight), and neither quantization_config nor %s says how", quantFiles[0].name)
}

func (c *Checkpoint) hasPacked() bool {
	for _, t := range c.tensors {
		if strings.HasSuffix(t.Name, ".qweight") {
			return true
		}
	}
	return false
}
