package awq

import (
	"encoding/json"
	"fmt"
	"strings"

	"modelpress/formats"
)

// where stands for the file in errors about tensors: a view does not know which shard of its source holds one.
const where = "awq checkpoint"

// view shows an AWQ checkpoint with its weights dequantized.
type view struct {
	*formats.Grids
	notes []string
}

// Notes says what the view found that contradicts the config. It is empty for a checkpoint that is as its config says.
func (v *view) Notes() []string { return v.notes }

// Dense returns a view of an AWQ checkpoint in which each quantized module M has one tensor M.weight in F32, [out, in], in place of the
// tensors that it is stored in. quantizationConfig is what [ParseConfig] reads. Other tensors are those of src, unchanged. A method
// Notes() []string of the view has what to tell the user.
//
// All modules are checked now: names, types and shapes against each other and the config; and all zero points are read, of which a
// hundredth part of the checkpoint consists, to see which modules are symmetric. Peak memory: that of [formats.Grids].
func Dense(src formats.Source, quantizationConfig json.RawMessage) (formats.Quantized, error) {
	s, err := ParseConfig(quantizationConfig)
	if err != nil {
		return nil, err
	}
	var list []formats.Grid
	var named []string
	for _, t := range src.Tensors() {
		name, ok := strings.CutSuffix(t.Name, suffixCodes)
		if !ok {
			if err := stray(src, t); err != nil {
				return nil, err
			}
			continue
		}
		m, err := openModule(src, s, name)
		if err != nil {
			return nil, err
		}
		list = append(list, m.grid())
		for _, part := range s.Plain {
			if strings.Contains(name, part) {
				named = append(named, name)
				break
			}
		}
	}
	grids, err := formats.NewGrids(src, where, list)
	if err != nil {
		return nil, err
	}
	v := &view{Grids: grids}
	if len(named) > 0 {
		v.notes = append(v.notes, fmt.Sprintf("%d modules (first %s): quantized, although modules_to_not_convert names them; vLLM would take them for plain",
			len(named), named[0]))
	}
	return v, nil
}

// stray refuses leftovers of the quantized form whose codes are missing.
func stray(src formats.Source, t formats.TensorInfo) error {
	name, ok := strings.CutSuffix(t.Name, suffixZeros)
	if !ok {
		return nil
	}
	if _, ok := src.Lookup(name + suffixCodes); !ok {
		return formats.Errorf(where, t.Name, "belongs to no %s", name+suffixCodes)
	}
	return nil
}
