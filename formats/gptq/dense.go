package gptq

import (
	"encoding/json"
	"strings"

	"modelpress/formats"
)

// where stands for the file in errors about tensors: a view does not know which shard of its source holds one.
const where = "gptq checkpoint"

// view shows a GPTQ checkpoint with its weights dequantized.
type view struct {
	*formats.Grids
	notes []string
}

// Notes says what the view found that contradicts the config, or that programs read in different ways: zero points of the other version,
// a column order without desc_act. It is empty for a checkpoint that all of them read alike.
func (v *view) Notes() []string { return v.notes }

// Dense returns a view of a GPTQ checkpoint in which each quantized module M has one tensor M.weight in F32, [out, in], in place of the
// tensors that it is stored in. quantizationConfig is what [ParseConfig] reads. Other tensors are those of src, unchanged.
//
// Where the config says that a module is symmetric and all its stored zero points are those of a symmetric weight in one version of the
// format, the module is of that version, whatever checkpoint_format says: zero points of version 2 under the label of version 1 are the
// usual fault of such files. [formats.Storage.Format] has the version found, and a method Notes() []string of the view what to tell the user.
//
// All modules are checked now: names, types and shapes against each other and the config, column orders and zero points, of which a
// hundredth part of the checkpoint consists. Peak memory: that of [formats.Grids], and 4 bytes per column of modules that have an order of
// their own.
func Dense(src formats.Source, quantizationConfig json.RawMessage) (formats.Quantized, error) {
	return DenseConv1D(src, quantizationConfig, func(string) bool { return false })
}

// DenseConv1D is [Dense] for checkpoints of which some modules are of the class Conv1D, as all of GPT-2 are: their weights are stored as
// those of linear modules, but belong into the dense checkpoint as [in, out]. conv1D says of a module's name whether it is one; nothing in
// the file does. [formats.Quantized.Affine] returns the weights of these, too, as [out, in].
func DenseConv1D(src formats.Source, quantizationConfig json.RawMessage, conv1D func(module string) bool) (formats.Quantized, error) {
	s, err := ParseConfig(quantizationConfig)
	if err != nil {
		return nil, err
	}
	var list []formats.Grid
	var f findings
	for _, t := range src.Tensors() {
		name, ok := strings.CutSuffix(t.Name, suffixCodes)
		if !ok {
			if err := stray(src, t); err != nil {
				return nil, err
			}
			continue
		}
		m, err := openModule(src, s, name, &f)
		if err != nil {
			return nil, err
		}
		list = append(list, m.grid(conv1D(name)))
	}
	grids, err := formats.NewGrids(src, where, list)
	if err != nil {
		return nil, err
	}
	return &view{grids, f.notes()}, nil
}

// stray refuses leftovers of the quantized form whose codes are missing.
func stray(src formats.Source, t formats.TensorInfo) error {
	for _, s := range []string{suffixZeros, suffixGIdx} {
		name, ok := strings.CutSuffix(t.Name, s)
		if !ok {
			continue
		}
		if _, ok := src.Lookup(name + suffixCodes); !ok {
			return formats.Errorf(where, t.Name, "belongs to no %s", name+suffixCodes)
		}
	}
	return nil
}
