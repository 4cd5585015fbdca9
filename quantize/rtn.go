package quantize

import (
	"fmt"
	"sync"

	"modelpress/formats"
)

// RTN rounds each weight of w [out, in] to the nearest value of its group's grid. Scales are stored in type store (BF16,
// F16 or F32). w is not changed. Weights that are not finite and schemes that do not fit are errors.
func RTN(w []float32, out, in int, s Scheme, store formats.DType, par Par) (*Matrix, error) {
	if err := check(w, out, in, s, store); err != nil {
		return nil, err
	}
	m := newMatrix(out, in, s, store)
	if err := m.setGrids(w, nil, nil, par); err != nil {
		return nil, err
	}
	groups, width := s.Groups(in), s.width(in)
	forRows(out, par, func(lo, hi int) {
		for k := lo * groups; k < hi*groups; k++ {
			g := m.grid(k/groups, k%groups)
			at := k/groups*in + k%groups*width
			for i, v := range w[at : at+width] {
				m.Codes[at+i] = g.code(g.Steps(v))
			}
		}
	})
	return m, nil
}

// setGrids finds the grid of every group from w, where dead columns count as 0; h [In] weights the columns. Both may be nil.
func (m *Matrix) setGrids(w []float32, dead []bool, h []float32, par Par) error {
	f := newFinder(m.Scheme, m.Store)
	groups, width := m.Groups(m.In), m.width(m.In)
	var first rowError
	forRows(m.Out, par, func(lo, hi int) {
		copied := make([]float32, len(dead))
		for r := lo; r < hi; r++ {
			row := w[r*m.In:][:m.In]
			if dead != nil {
				copy(copied, row)
				for c, d := range dead {
					if d {
						copied[c] = 0
					}
				}
				row = copied
			}
			for k := range groups {
				var part []float32
				if h != nil {
					part = h[k*width : (k+1)*width]
				}
				g, err := f.find(row[k*width:(k+1)*width], part)
				if err != nil {
					first.set(r, k, err)
					return
				}
				m.setGrid(r, k, g)
			}
		}
	})
	return first.err()
}

// rowError keeps the error of the lowest row, whichever thread comes first.
type rowError struct {
	mu         sync.Mutex
	row, group int
	cause      error
}

func (e *rowError) set(row, group int, cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cause == nil || row < e.row {
		e.row, e.group, e.cause = row, group, cause
	}
}

func (e *rowError) err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cause == nil {
		return nil
	}
	return fmt.Errorf("quantize: row %d, group %d: %w", e.row, e.group, e.cause)
}
