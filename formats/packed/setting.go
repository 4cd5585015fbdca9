package packed

import (
	"encoding/json"
	"errors"
	"fmt"

	"modelpress/formats"
)

// stored checks a group against what this package reads. top is the format of the whole checkpoint, which groups without a format have.
func (g *group) stored(top string) (stored, error) {
	format := top
	if g.Format != nil {
		format = *g.Format
	}
	w := g.Weights
	if w == nil {
		return stored{}, errors.New("weights is missing")
	}
	if format == formatNaive {
		format = FormatInt
		if w.kind() == "float" {
			format = FormatFloat
		}
	}
	switch {
	case g.OutputActivations != nil:
		return stored{}, errors.New("quantized output activations are not supported")
	case w.Dynamic != nil && string(w.Dynamic) != "false":
		return stored{}, errors.New("dynamically quantized weights are not supported")
	}
	static, err := g.staticInputs(format)
	if err != nil {
		return stored{}, err
	}
	s := stored{format: format, static: static}
	switch format {
	case FormatPack, FormatInt:
		err = w.ints(&s)
	case FormatFloat, FormatNVFP4, FormatMXFP4, FormatMXFP8:
		s.float, err = w.floats(format)
	default:
		err = fmt.Errorf("format %.40q; supported: %s, %s, %s, %s, %s, %s", format,
			FormatPack, FormatInt, FormatFloat, FormatNVFP4, FormatMXFP4, FormatMXFP8)
	}
	return s, err
}

// staticInputs reports whether the file holds scales of activations, which are no part of the weights: a config that asks for them
// where the format has none is refused.
func (g *group) staticInputs(format string) (bool, error) {
	if g.InputActivations == nil {
		return false, nil
	}
	switch dynamic := string(g.InputActivations.Dynamic); {
	case dynamic == "true":
		return false, nil
	case format == FormatNVFP4 && dynamic == `"local"`:
	case dynamic != "" && dynamic != "false" || format != FormatInt && format != FormatFloat && format != FormatNVFP4:
		return false, errors.New("statically quantized input activations are not supported")
	}
	return true, nil
}

// kind returns the type of the codes.
func (a *args) kind() string {
	if a.Type == nil {
		return "int"
	}
	return *a.Type
}

// ints reads the setting of integer codes.
func (a *args) ints(s *stored) error {
	s.Scheme = Scheme{Bits: a.NumBits, GroupSize: -1, Symmetric: a.symmetric()}
	if a.kind() != "int" {
		return fmt.Errorf("%s with weights of type %.40q; supported: int", s.format, a.kind())
	}
	if s.format == FormatInt && a.NumBits != 8 {
		return fmt.Errorf("%s with %d bits; supported: 8", s.format, a.NumBits)
	}
	strategy, size, err := a.strategy()
	switch {
	case err != nil:
		return err
	case strategy == StrategyChannel:
	case strategy == strategyGroup:
		s.GroupSize = size
	default:
		return fmt.Errorf("%s with strategy %.40q; supported: group, channel", s.format, strategy)
	}
	if a.ActOrder != nil {
		switch *a.ActOrder {
		case "group", "dynamic":
			s.ordered = true
		case "weight", "static":
		default:
			return fmt.Errorf("actorder %.40q is unknown", *a.ActOrder)
		}
	}
	return s.Scheme.Check(1, int64(max(1, s.GroupSize)))
}

// floats reads the setting of codes that are floats.
func (a *args) floats(format string) (*layout, error) {
	bits := 4
	if format == FormatFloat || format == FormatMXFP8 {
		bits = 8
	}
	strategy, size, err := a.strategy()
	switch {
	case err != nil:
		return nil, err
	case a.kind() != "float" || a.NumBits != bits:
		return nil, fmt.Errorf("%s with %d bits of type %.40q; supported: %d of type float", format, a.NumBits, a.kind(), bits)
	case !a.symmetric():
		return nil, fmt.Errorf("%s with zero points is not supported", format)
	case a.ActOrder != nil && *a.ActOrder != "weight" && *a.ActOrder != "static":
		return nil, fmt.Errorf("%s with actorder %.40q is not supported", format, *a.ActOrder)
	}
	var l layout
	switch {
	case format == FormatNVFP4 && strategy == strategyLocal && size == 16:
		l = nvfp4()
	case format == FormatMXFP4 && strategy == strategyGroup && size == 32:
		l = mxfp4()
	case format == FormatMXFP8 && strategy == strategyGroup && size == 32:
		l = layout{code: formats.F8E4M3, rows: 1, columns: 32, scale: formats.U8, show: formats.BF16}
	case format == FormatFloat && strategy == StrategyTensor:
		l = layout{code: formats.F8E4M3}
	case format == FormatFloat && strategy == StrategyChannel:
		l = layout{code: formats.F8E4M3, rows: 1}
	case format == FormatFloat && strategy == strategyGroup:
		l = layout{code: formats.F8E4M3, rows: 1, columns: int64(size)}
	case format == FormatFloat && strategy == StrategyBlock:
		l = layout{code: formats.F8E4M3, cut: true}
		if l.rows, l.columns, err = a.block(); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%s with strategy %.40q and groups of %d is not supported", format, strategy, size)
	}
	return &l, nil
}

func (a *args) symmetric() bool { return a.Symmetric == nil || *a.Symmetric }

// strategy returns what shares a scale, and the size of groups where it is a group. One that is missing follows from the size, as
// QuantizationArgs of compressed-tensors has it.
func (a *args) strategy() (string, int, error) {
	size := 0
	if a.GroupSize != nil {
		size = *a.GroupSize
	}
	strategy := ""
	switch {
	case a.Strategy != nil:
		strategy = *a.Strategy
	case a.GroupSize == nil:
		strategy = StrategyTensor
	case size == -1:
		strategy = StrategyChannel
	default:
		strategy = strategyGroup
	}
	grouped := strategy == strategyGroup || strategy == strategyLocal
	if grouped != (size > 0) || size < -1 || size == 0 && a.GroupSize != nil || size > maxGroup {
		return "", 0, fmt.Errorf("strategy %.40q with group_size %d", strategy, size)
	}
	return strategy, size, nil
}

// maxGroup bounds group and block sizes, so that their products do not overflow. No weight is wider.
const maxGroup = 1<<31 - 1

// block reads block_structure: two sizes in a list, or in the text that old releases wrote, "128x128".
func (a *args) block() (rows, columns int64, err error) {
	var list []int64
	if json.Unmarshal(a.BlockStructure, &list) != nil {
		var text string
		var r, c int64
		if json.Unmarshal(a.BlockStructure, &text) == nil {
			if n, err := fmt.Sscanf(text, "%dx%d", &r, &c); n == 2 && err == nil {
				list = []int64{r, c}
			}
		}
	}
	if len(list) != 2 || list[0] < 1 || list[1] < 1 || list[0] > maxGroup || list[1] > maxGroup {
		return 0, 0, fmt.Errorf("block_structure %.40q; two positive sizes are needed", a.BlockStructure)
	}
	return list[0], list[1], nil
}
