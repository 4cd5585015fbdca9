package convert

import (
	"encoding/json"
	"fmt"
	"slices"

	"modelpress/formats"
	"modelpress/formats/awq"
	"modelpress/formats/gptq"
	"modelpress/formats/hf"
	"modelpress/formats/packed"
	"modelpress/internal/arch"
)

// setting is how a format stores the weights of some modules.
type setting struct {
	grid  formats.AffineFormat // nil where the weights are on no integer grid
	float *packed.Float        // nil where they are
	store packed.Setting       // the same for compressed-tensors, nil elsewhere
	name  string               // "gptq int4 g128 symmetric"

	bits, size         int // of a grid: of a code, and columns of a group
	symmetric, ordered bool
	scales             formats.DType
}

// gridName writes a grid for people.
func gridName(format string, bits, group int, symmetric, ordered bool) string {
	s := fmt.Sprintf("%s int%d g%d", format, bits, group)
	if group == -1 {
		s = fmt.Sprintf("%s int%d per row", format, bits)
	}
	if !symmetric {
		s += " asymmetric"
	}
	if ordered {
		s += " ordered"
	}
	return s
}

// grids makes the setting of a grid in a format. scales is the type that a format with a choice stores scales in.
func grids(format string, bits, group int, symmetric, ordered bool, scales formats.DType) (*setting, error) {
	s := &setting{bits: bits, size: group, symmetric: symmetric, ordered: ordered, scales: formats.F16, name: gridName(format, bits, group, symmetric, ordered)}
	switch format {
	case GPTQ, GPTQv2:
		s.grid = gptq.Format{Bits: bits, Group: group, V2: format == GPTQv2, ActOrder: ordered, Symmetric: symmetric}
	case AWQ:
		if bits != 4 || ordered {
			return nil, fmt.Errorf("AWQ has codes of 4 bits with groups in the order of columns")
		}
		s.grid = awq.Format{Group: group, Symmetric: symmetric}
	default:
		p := packed.PackQuantized{Scheme: packed.Scheme{Bits: bits, GroupSize: group, Symmetric: symmetric}, Scales: scales, ActOrder: ordered}
		s.grid, s.store, s.scales = p, p, scales
	}
	return s, nil
}

// quantizationConfig returns what config.json says of a result: used are the settings in it with their modules in the order of layers,
// plain the linear modules that are not quantized. The second value is a file beside config.json, "" for none.
func quantizationConfig(format string, used []moduleSetting, plain []string) (config json.RawMessage, file string, err error) {
	if len(used) == 0 {
		return nil, "", nil
	}
	first := used[0].set
	switch format {
	case GPTQ, GPTQv2:
		for _, u := range used {
			if u.set.name != first.name {
				return nil, "", fmt.Errorf("modules %q and %q are on different grids (%s, %s), and GPTQ has one for all", used[0].module, u.module, first.name, u.set.name)
			}
		}
		var names []string
		for _, u := range used {
			names = append(names, u.module)
		}
		return first.grid.(gptq.Format).Config(names, plain), "quantize_config.json", nil
	case AWQ:
		for _, u := range used {
			if u.set.name != first.name {
				return nil, "", fmt.Errorf("modules %q and %q are on different grids (%s, %s), and AWQ has one for all", used[0].module, u.module, first.name, u.set.name)
			}
		}
		var names []string
		for _, u := range used {
			names = append(names, u.module)
		}
		config, err = first.grid.(awq.Format).Config(names, plain)
		return config, "", err
	}
	return packed.Config(groupsOf(used), plain), "", nil
}

// groupsOf returns one group for each setting: of class Linear where there is one only, else with its modules by name.
func groupsOf(used []moduleSetting) []packed.GroupConfig {
	var groups []packed.GroupConfig
	var names []string
	for _, u := range used {
		i := slices.Index(names, u.set.name)
		if i < 0 {
			i = len(names)
			names = append(names, u.set.name)
			groups = append(groups, packed.GroupConfig{Setting: u.set.store})
		}
		groups[i].Targets = append(groups[i].Targets, u.module)
	}
	if len(groups) == 1 {
		groups[0].Targets = nil
	}
	return groups
}

// moduleSetting is a module and how it is stored.
type moduleSetting struct {
	module string
	set    *setting
	lin    arch.Linear
}

// configEdits are the keys of config.json that a conversion changes.
func configEdits(quant json.RawMessage, tied *bool) (set []hf.KV, remove []string) {
	if quant != nil {
		set = append(set, hf.KV{Key: "quantization_config", Value: quant})
		remove = append(remove, "compression_config")
	} else {
		remove = append(remove, "quantization_config", "compression_config")
	}
	if tied != nil {
		set = append(set, hf.KV{Key: "tie_word_embeddings", Value: *tied})
	}
	return set, remove
}
