package convert

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"modelpress/internal/pipeline"
)

// The gates of a comparison.
const (
	GateEqual    = "equal"     // every value has the same bits
	GateMaxError = "max_error" // no relative error of a tensor is above a bound
)

// Gate is a bound that a comparison had to keep.
type Gate struct {
	Gate   string   `json:"gate"`
	Bound  *float64 `json:"bound,omitempty"` // of max_error
	Passed bool     `json:"passed"`
	Broken []string `json:"broken"` // the tensors that break it
}

// gates judges the tensors. A tensor that could not be compared, because one side does not have it or has it in another shape, breaks
// every gate.
func (d *Difference) gates(o *DiffOptions) {
	if o.Equal {
		d.gate(Gate{Gate: GateEqual}, func(t *TensorDifference) bool { return t.Status == Equal })
	}
	if bound := o.MaxError; bound != nil {
		d.gate(Gate{Gate: GateMaxError, Bound: bound}, func(t *TensorDifference) bool { return t.within(*bound) })
	}
}

func (d *Difference) gate(g Gate, keeps func(t *TensorDifference) bool) {
	g.Broken = []string{}
	for i := range d.Tensors {
		if !keeps(&d.Tensors[i]) {
			g.Broken = append(g.Broken, d.Tensors[i].Tensor)
		}
	}
	g.Passed = len(g.Broken) == 0
	d.Gates = append(d.Gates, g)
}

// within reports whether a tensor was compared, its relative error is at most a bound, and no value changed that is in no error.
func (t *TensorDifference) within(bound float64) bool {
	return (t.Status == Equal || t.Status == Changed) && t.NotFinite == 0 && t.RelativeError != nil && *t.RelativeError <= bound
}

// Failed returns an error of kind KindGate that names the gates which do not hold and what breaks them, nil where all hold.
func (d *Difference) Failed() error {
	var faults []error
	for _, g := range d.Gates {
		if g.Passed {
			continue
		}
		what := "not equal"
		if g.Bound != nil {
			what = "not within a relative error of " + strconv.FormatFloat(*g.Bound, 'g', -1, 64)
		}
		faults = append(faults, fmt.Errorf("%d of %d tensors are %s: %s", len(g.Broken), len(d.Tensors), what, d.breakers(g.Broken)))
	}
	if len(faults) == 0 {
		return nil
	}
	return &pipeline.Error{Kind: pipeline.KindGate, Err: errors.Join(faults...)}
}

// breakers writes the first ten tensors of a list with what is wrong with each.
func (d *Difference) breakers(names []string) string {
	const most = 10
	why := map[string]string{}
	for i := range d.Tensors {
		why[d.Tensors[i].Tensor] = d.Tensors[i].why()
	}
	var list []string
	for _, name := range names[:min(most, len(names))] {
		list = append(list, fmt.Sprintf("%s (%s)", name, why[name]))
	}
	if n := len(names) - most; n > 0 {
		list = append(list, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(list, ", ")
}

// why says in a few words how a tensor differs.
func (t *TensorDifference) why() string {
	switch t.Status {
	case OnlyInA:
		return "only in A"
	case OnlyInB:
		return "only in B"
	case OtherShape:
		return fmt.Sprintf("%v, %v", t.A.Shape, t.B.Shape)
	case OtherType:
		return t.A.Type + ", " + t.B.Type
	}
	if t.NotFinite > 0 {
		return fmt.Sprintf("%d values that are not finite differ", t.NotFinite)
	}
	if t.RelativeError == nil {
		return "A is all 0"
	}
	return fmt.Sprintf("relative error %.3g", *t.RelativeError)
}
