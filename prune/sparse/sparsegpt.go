package sparse

import (
	"fmt"
	"math"

	"modelpress/calib"
	"modelpress/formats"
)

// SparseGPT returns w [out, in] with zeros in s.Pattern, and with the weights that stay changed so that the outputs for the inputs
// behind the Hessian h [in, in] change least (arXiv:2301.00774, algorithm 1): columns are gone through in order, and what is lost
// in each one is made good in all the later ones. Which weights go is chosen for s.Block columns at a time, or for each group of an n:m
// pattern, by w_ij²/[H_F⁻¹]_jj on the weights as corrected until then, F the columns from j on: what the outputs lose by it.
//
// h is symmetric, Σ x xᵀ times any positive factor, of which the half on and below the diagonal is read; what lies above it is
// overwritten. w and the half that is read are not changed. Weights are rounded to store (BF16, F16 or F32) as they are reached, so
// that the later ones make that good too; a pattern that prunes nothing returns w bit for bit where store holds it.
//
// Weights or Hessian entries that are not finite are errors, and so are patterns that do not fit. A Hessian that cannot be factored
// even with 10,000 times the damping asked for falls back to Wanda over the whole matrix, and says so in the report.
//
// Memory beside the result: 4*out*(in+2*Block) bytes, 4*Block*in of the factor, and 12*16*MaxBlock for each thread.
func SparseGPT(w []float32, out, in int, h []float64, s Scheme, store formats.DType, par Par) ([]float32, Report, error) {
	if err := check(w, out, in, s, store); err != nil {
		return nil, Report{}, err
	}
	if err := checkBlock(s); err != nil {
		return nil, Report{}, err
	}
	if err := calib.CheckHessian(h, in, par); err != nil {
		return nil, Report{}, fmt.Errorf("sparse: %w", err)
	}
	f := calib.FactorHessian(h, in, s.Damp, false, par)
	rep, reason := Report{Damp: f.Damp, Retries: f.Retries, DeadColumns: f.DeadColumns}, f.Reason
	if reason == "" {
		q := solve(f, w, out, s, store, par, &rep)
		f.Restore()
		if !math.IsNaN(rep.Loss) && !math.IsInf(rep.Loss, 0) {
			return q, rep, nil
		}
		reason = overflowed
	}
	return instead(w, out, f, s, store, reason, par)
}

const overflowed = "the corrected weights overflowed"

// checkBlock reports blocks that do not fit.
func checkBlock(s Scheme) error {
	if s.Block < 1 || s.Block > MaxBlock || s.M > 0 && s.Block%s.M != 0 {
		return fmt.Errorf("sparse: blocks of %d columns; 1 to %d in whole groups of the pattern are needed", s.Block, MaxBlock)
	}
	return nil
}

// instead is what is done where the factor cannot be used.
func instead(w []float32, out int, f *calib.Factor, s Scheme, store formats.DType, reason string, par Par) ([]float32, Report, error) {
	s.PerRow = false // as many zeros as were asked for
	q, plain, err := Wanda(w, out, f.N, f.Diag, s, store, par)
	if err != nil {
		return nil, Report{}, err
	}
	if plain.FellBack {
		reason = plain.Reason
	}
	return q, Report{DeadColumns: f.DeadColumns, Retries: f.Retries, FellBack: true, Reason: reason}, nil
}
