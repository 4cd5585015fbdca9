package quantize

import (
	"fmt"
	"math"

	"modelpress/calib"
	"modelpress/formats"
)

// Report says how a GPTQ run went.
type Report struct {
	// Loss is the Hessian-weighted squared error tr((W-Q)·(H+damping)·(W-Q)ᵀ), in the units of the Hessian given.
	Loss float64
	// OutputError is Loss without the damping: tr((W-Q)·H·(W-Q)ᵀ). It is not known where FellBack is set.
	OutputError float64
	// Damp is what was added to the diagonal, in the units of the Hessian, after Retries failed attempts with less.
	Damp    float64
	Retries int
	// DeadColumns counts inputs that were always 0; their weights become 0.
	DeadColumns int
	// FellBack is set where the Hessian could not be used and the weights were rounded to nearest instead.
	FellBack bool
	Reason   string
}

// GPTQ quantizes w [out, in] so that the outputs for the inputs behind the Hessian h [in, in] change least: columns in
// order, the error of each one corrected in all the later ones (arXiv:2210.17323, algorithm 1). h is symmetric, Σ x xᵀ
// times any positive factor, of which the half on and below the diagonal is read; what lies above it is overwritten. w and
// the half that is read are not changed.
//
// Scales are found on the corrected weights when a group begins or, with ActOrder, beforehand on the original ones
// (static groups), so that no column order has to be stored. They are rounded to store before they are used.
//
// Weights or Hessian entries that are not finite are errors. A Hessian that cannot be factored even with 10,000 times the
// damping asked for falls back to RTN and says so in the report.
func GPTQ(w []float32, out, in int, h []float64, s Scheme, store formats.DType, par Par) (*Matrix, Report, error) {
	if err := check(w, out, in, s, store); err != nil {
		return nil, Report{}, err
	}
	if err := calib.CheckHessian(h, in, par); err != nil {
		return nil, Report{}, fmt.Errorf("quantize: %w", err)
	}
	f := calib.FactorHessian(h, in, s.Damp, s.ActOrder, par)
	rep, reason := Report{Damp: f.Damp, Retries: f.Retries, DeadColumns: f.DeadColumns}, f.Reason
	if reason == "" {
		m, err := solve(f, w, out, s, store, par, &rep)
		f.Restore()
		if err != nil {
			return nil, Report{}, err
		}
		if finite(rep.Loss) {
			return m, rep, nil
		}
		reason = overflowed
	}
	m, err := RTN(w, out, in, s, store, par)
	return m, Report{DeadColumns: rep.DeadColumns, Retries: rep.Retries, FellBack: true, Reason: reason}, err
}

const overflowed = "the corrected weights overflowed"

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
