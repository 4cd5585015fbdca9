package quantize

import (
	"modelpress/formats"
	"modelpress/internal/num"
)

// blockColumns is how many columns are finished before the later ones are brought up to date (GPTQ section 3.3, lazy batch
// updates). It is a multiple of every group size, so that a group always begins on corrected weights.
const blockColumns = 128

// solver carries the state of one matrix through the columns.
type solver struct {
	*problem
	m      *Matrix
	f      *finder
	static bool
	round  func(float32) float32
	work   []float32 // [out, n] by position: corrected weights
	errs   []float32 // [out, blockColumns]: minus the scaled errors of the block
	panel  []float32 // rows of U for the block, [blockColumns, n-i1]
	loss   []float64 // by row
	first  rowError
}

// solve runs the column loop. For each column i, with U the factor of the inverse Hessian: e = (w_i - q_i)/U_ii, and
// w_j -= e*U_ij for all later j.
func (p *problem) solve(w []float32, out int, s Scheme, store formats.DType, par Par, rep *Report) (*Matrix, error) {
	v := &solver{
		problem: p, m: newMatrix(out, p.n, s, store), f: newFinder(s, store), static: s.ActOrder, round: rounder(store),
		work: make([]float32, out*p.n), errs: make([]float32, out*blockColumns),
		panel: make([]float32, min(blockColumns, p.n)*p.n), loss: make([]float64, out),
	}
	if err := v.start(w, par); err != nil {
		return nil, err
	}
	for i1 := 0; i1 < p.n; i1 += blockColumns {
		i2 := min(i1+blockColumns, p.n)
		v.loadPanel(i1, i2)
		forRows(out, par, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				v.row(r, i1, i2)
			}
		})
		if err := v.first.err(); err != nil {
			return nil, err
		}
		if i2 < p.n {
			num.GemmNN(v.work[i2:], p.n, v.errs, blockColumns, v.panel[i2-i1:], p.n-i1, out, p.n-i2, i2-i1, 1, 1, par)
		}
	}
	for _, l := range v.loss {
		rep.Loss += l
	}
	return v.m, nil
}

// start copies the weights into the order of the columns, dead ones zeroed, and finds scales that do not depend on the
// corrections.
func (v *solver) start(w []float32, par Par) error {
	n := v.n
	if v.static {
		natural := make([]float32, len(w))
		forRows(v.m.Out, par, func(lo, hi int) {
			for i := lo * n; i < hi*n; i++ {
				if !v.dead[i%n] {
					natural[i] = w[i]
				}
			}
		})
		if err := v.m.setGrids(natural, v.diag, par); err != nil {
			return err
		}
	}
	forRows(v.m.Out, par, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			row, from := v.work[r*n:(r+1)*n], w[r*n:(r+1)*n]
			for i := range row {
				if c := v.column(i); !v.dead[c] {
					row[i] = from[c]
				}
			}
		}
	})
	return nil
}

// loadPanel rounds rows [i1, i2) of U, from column i1 on, to float32.
func (v *solver) loadPanel(i1, i2 int) {
	w := v.n - i1
	for i := i1; i < i2; i++ {
		dst, src := v.panel[(i-i1)*w:(i-i1+1)*w], v.u[i*v.n+i1:(i+1)*v.n]
		for j, x := range src {
			dst[j] = float32(x)
		}
	}
}

// row quantizes columns [i1, i2) of one output row.
func (v *solver) row(r, i1, i2 int) {
	n, width := v.n, v.m.width(v.n)
	work, errs, pw := v.work[r*n:(r+1)*n], v.errs[r*blockColumns:], n-i1
	var g grid
	for i := i1; i < i2; i++ {
		c := v.column(i)
		switch {
		case v.static:
			g = v.m.grid(r, c/width)
		case i%width == 0:
			var err error
			if g, err = v.f.find(work[i:i+width], v.diag[i:i+width]); err != nil {
				v.first.set(r, i/width, err)
				return
			}
			v.m.setGrid(r, i/width, g)
		case i == i1:
			g = v.m.grid(r, i/width)
		}
		k := g.steps(work[i])
		v.m.Codes[r*n+c] = g.code(k)
		u := v.panel[(i-i1)*pw+i-i1 : (i-i1)*pw+i2-i1]
		e := (work[i] - v.round(float32(k*g.scale))) / u[0]
		num.Axpy(work[i+1:i2], -e, u[1:])
		errs[i-i1] = -e
		v.loss[r] += float64(float64(e) * float64(e))
	}
}
