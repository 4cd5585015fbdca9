package packed

import "encoding/json"

func ptr[T any](v T) *T { return &v }

// newArgs returns the fields of quantized weights or activations that most settings share: static and symmetric, with a scale for
// strategy.
func newArgs(kind string, bits int, strategy string) *args {
	return &args{
		BlockStructure: json.RawMessage("null"), Dynamic: json.RawMessage("false"), NumBits: bits, Observer: ptr("memoryless_minmax"),
		ObserverKwargs: json.RawMessage("{}"), Strategy: ptr(strategy), Symmetric: ptr(true), Type: ptr(kind),
	}
}

// onTheFly turns fields of activations into those of scales that are computed as activations come. They need no observer.
func (a *args) onTheFly() *args {
	a.Dynamic, a.Observer = json.RawMessage("true"), nil
	return a
}

// asymmetric turns fields of symmetric integers into those with zero points.
func (a *args) asymmetric() *args {
	a.Symmetric, a.ZPDType = ptr(false), ptr("torch.int8")
	return a
}

func (p PackQuantized) group() group {
	w := newArgs("int", p.Bits, StrategyChannel)
	if p.GroupSize != -1 {
		w.Strategy, w.GroupSize = ptr(strategyGroup), ptr(p.GroupSize)
	}
	if !p.Symmetric {
		w.asymmetric()
	}
	if p.ActOrder {
		w.ActOrder = ptr("group")
	}
	return group{Format: ptr(FormatPack), Weights: w}
}

func (q IntQuantized) group() group {
	w := newArgs("int", 8, StrategyChannel)
	if !q.Symmetric {
		w.asymmetric()
	}
	return group{Format: ptr(FormatInt), Weights: w, InputActivations: newArgs("int", 8, strategyToken).onTheFly()}
}

func (f Float) group() group {
	g := group{Format: ptr(f.Format)}
	switch f.Format {
	case FormatNVFP4:
		g.Weights = newArgs("float", 4, strategyLocal)
		g.Weights.GroupSize, g.Weights.ScaleDType = ptr(16), ptr("torch.float8_e4m3fn")
		return g
	case FormatMXFP4:
		g.Weights = newArgs("float", 4, strategyGroup)
		g.Weights.GroupSize, g.Weights.ScaleDType = ptr(32), ptr("torch.uint8")
		return g
	}
	g.Weights = newArgs("float", 8, f.Strategy)
	g.InputActivations = newArgs("float", 8, strategyToken).onTheFly()
	if f.Strategy == StrategyBlock {
		g.Weights.BlockStructure = json.RawMessage("[128,128]")
		g.InputActivations.Strategy, g.InputActivations.GroupSize = ptr(strategyGroup), ptr(blockSide)
	}
	return g
}
