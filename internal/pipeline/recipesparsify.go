package pipeline

import (
	"math"

	"modelpress/prune/sparse"
)

// Sparsify sets weights to zero and leaves them dense.
type Sparsify struct {
	Method  string   `yaml:"method" json:"method"`   // sparsegpt, wanda, magnitude
	Pattern string   `yaml:"pattern" json:"pattern"` // unstructured, or n:m: of every m inputs n stay
	Ratio   *float64 `yaml:"ratio" json:"ratio"`     // share of weights that become 0
	// Per says whose weights are compared with each other by wanda and magnitude in an unstructured pattern: those of a matrix, or of
	// a row.
	Per    string   `yaml:"per" json:"per,omitempty"`
	Block  int      `yaml:"block" json:"block"` // sparsegpt: columns whose zeros are chosen at once
	Damp   float64  `yaml:"damp" json:"damp"`   // sparsegpt
	Ignore []string `yaml:"ignore" json:"ignore"`
}

const (
	methodSparseGPT = "sparsegpt"
	methodWanda     = "wanda"
	methodMagnitude = "magnitude"

	perMatrix = "matrix"
	perRow    = "row"
)

func defaultSparsify() *Sparsify {
	return &Sparsify{Method: methodSparseGPT, Pattern: sparse.Unstructured, Block: 128, Damp: 0.01}
}

func (s *Sparsify) fillDefaults() {
	if s.Ratio == nil {
		ratio := 0.5
		if p, err := sparse.ParsePattern(s.Pattern, ratio); err == nil {
			ratio = p.Share()
		}
		s.Ratio = &ratio
	}
	if s.Per == "" && s.Pattern == sparse.Unstructured {
		switch s.Method {
		case methodWanda:
			s.Per = perRow
		case methodMagnitude:
			s.Per = perMatrix
		}
	}
	if s.Ignore == nil {
		s.Ignore = []string{headModule}
	}
}

func (s *Sparsify) check(f *faults, r *Recipe) {
	f.add(r.Quantize != nil, "sparsify and quantize do not go into one recipe: plan with sparsify, then quantize its result in a second run")
	f.add(!oneOf(s.Method, methodSparseGPT, methodWanda, methodMagnitude), "sparsify.method %q: known are sparsegpt, wanda, magnitude", s.Method)
	f.add(!(s.Damp > 0 && s.Damp < 10), "sparsify.damp %v: want more than 0 and less than 10", s.Damp)
	f.add(s.Block < 1 || s.Block > sparse.MaxBlock, "sparsify.block %d: want 1 to %d", s.Block, sparse.MaxBlock)
	ratio := orNaN(s.Ratio)
	p, err := sparse.ParsePattern(s.Pattern, ratio)
	switch {
	case err != nil:
		f.add(true, "sparsify.pattern %q: want unstructured, or n:m as in 2:4, where n of every m inputs stay and m is at most %d", s.Pattern, sparse.MaxBlock)
	case p.M == 0:
		f.add(!(ratio > 0 && ratio < 1), "sparsify.ratio %v: want more than 0 and less than 1", ratio)
		f.add(s.Per != "" && s.Method == methodSparseGPT, "sparsify.per has no effect with method sparsegpt")
		f.add(s.Method != methodSparseGPT && !oneOf(s.Per, perMatrix, perRow), "sparsify.per %q: want %s or %s", s.Per, perMatrix, perRow)
	default:
		f.add(!(math.Abs(ratio-p.Share()) < 1e-6), "sparsify.ratio %v: pattern %s leaves out %v", ratio, s.Pattern, p.Share())
		f.add(s.Per != "", "sparsify.per has no effect with pattern %s", s.Pattern)
		f.add(s.Method == methodSparseGPT && s.Block%p.M != 0, "sparsify.block %d: want a multiple of %d, the width of a group of pattern %s", s.Block, p.M, s.Pattern)
	}
	checkIgnore(f, "sparsify", s.Ignore)
}
