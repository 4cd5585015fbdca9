package quantize

import (
	"math"
	"slices"
	"sync"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/internal/num"
)

const (
	// blockColumns is how many columns are finished before the next ones are brought up to date by one product. It is a
	// multiple of every group size, so that a group always begins on corrected weights.
	blockColumns = 256
	// lanes is how many rows are carried through a block side by side.
	lanes = 16
)

// solver carries the state of one matrix through the columns. Beside its arguments it holds 4*out*(n+256) bytes of
// weights and 4*256*n of the factor.
type solver struct {
	*calib.Factor
	m      *Matrix
	f      *finder
	diag   []float32 // by column: diagonal of the Hessian, relative to its largest entry
	static bool      // all grids are known beforehand
	work   []float32 // [n, out] by position: weights, and once a column is finished its errors w - q
	now    []float32 // [blockColumns, out]: corrected weights of the block
	panel  []float32 // columns of A for the block, [i2, i2-i1]
	loss   []float64 // by row, as Report has it
	moved  []float64 // by row: Σ (w - q)²
	first  rowError
}

// solve rounds the columns in order, a block at a time.
func solve(p *calib.Factor, w []float32, out int, s Scheme, store formats.DType, par Par, rep *Report) (*Matrix, error) {
	v := &solver{
		Factor: p, m: newMatrix(out, p.N, s, store), f: newFinder(s, store), diag: relative(p.Diag), static: s.ActOrder || s.Group == -1,
		work: make([]float32, out*p.N), now: make([]float32, min(blockColumns, p.N)*out),
		panel: make([]float32, min(blockColumns, p.N)*p.N), loss: make([]float64, out), moved: make([]float64, out),
	}
	if v.static {
		if err := v.m.setGrids(w, v.Dead, v.diag, par); err != nil {
			return nil, err
		}
	}
	v.start(w, par)
	for i1 := 0; i1 < p.N; i1 += blockColumns {
		i2 := min(i1+blockColumns, p.N)
		p.Panel(v.panel, i1, i2, par)
		copy(v.now, v.work[i1*out:i2*out])
		num.GemmTN(v.now, out, v.panel, i2-i1, v.work, out, i2-i1, out, i1, 1, 1, par)
		each((out+lanes-1)/lanes, par, func(t int) { v.rows(t*lanes, min(lanes, out-t*lanes), i1, i2) })
		if err := v.first.err(); err != nil {
			return nil, err
		}
	}
	var moved float64
	for r, l := range v.loss {
		rep.Loss += l
		moved += v.moved[r]
	}
	rep.OutputError = max(0, rep.Loss-rep.Damp*moved)
	return v.m, nil
}

// relative returns values over the largest of them.
func relative(diag []float64) []float32 {
	most := slices.Max(diag)
	out := make([]float32, len(diag))
	for i, d := range diag {
		out[i] = float32(d / most)
	}
	return out
}

// start copies the weights into the order of the columns, columns one after the other, dead ones left at zero.
func (v *solver) start(w []float32, par Par) {
	const tile = 32 // rows of w whose lines are read for a few positions at a time
	n, out := v.N, v.m.Out
	each((n+tile-1)/tile, par, func(t int) {
		lo, hi := t*tile, min(n, (t+1)*tile)
		for r0 := 0; r0 < out; r0 += tile {
			for i := lo; i < hi; i++ {
				c := v.Column(i)
				if v.Dead[c] {
					continue
				}
				row := v.work[i*out:][:out]
				for r := r0; r < min(out, r0+tile); r++ {
					row[r] = w[r*n+c]
				}
			}
		}
	})
}

// strip is some rows of a block while they are rounded: values of one column stand side by side.
type strip struct {
	y     [blockColumns * lanes]float32
	codes [lanes][blockColumns]int8
	grids num.RoundingLanes
	zero  [lanes]int
	group [blockColumns]float32
	ahead [blockColumns * lanes]float32

	loss, moved [lanes]float64 // of this block
}

// set sets the grid of a lane.
func (s *strip) set(r int, g grid) {
	s.grids.Set(r, &g.RoundingGrid)
	s.zero[r] = g.zero
}

var stripPool = sync.Pool{New: func() any { return new(strip) }}

// rows rounds columns [i1, i2) of count rows from r0 on, and corrects the columns after each one.
func (v *solver) rows(r0, count, i1, i2 int) {
	s := stripPool.Get().(*strip)
	defer stripPool.Put(s)
	s.loss, s.moved = [lanes]float64{}, [lanes]float64{}
	out, width := v.m.Out, v.m.width(v.N)
	for k := range i2 - i1 {
		copy(s.y[k*lanes:][:lanes], v.now[k*out+r0:][:count])
	}
	for i := i1; i < i2; i++ {
		if v.static || i%width == 0 {
			if !v.choose(s, r0, count, i1, i) {
				return
			}
		}
		e := v.column16(s, r0, count, i1, i)
		next := i + 1 - i1
		num.AddOuter16(s.y[next*lanes:], v.panel[i*(i2-i1):][next:i2-i1], &e)
	}
	for r := range count {
		row := v.m.Codes[(r0+r)*v.N:][:v.N]
		for k, c := range s.codes[r][:i2-i1] {
			row[v.Column(i1+k)] = c
		}
		v.loss[r0+r] += s.loss[r]
		v.moved[r0+r] += s.moved[r]
	}
}

// choose sets the grids for the column at position i, and finds them where a group begins. It reports false after an error.
func (v *solver) choose(s *strip, r0, count, i1, i int) bool {
	width := v.m.width(v.N)
	if !v.static {
		v.foresee(s, r0, count, i1, i, width)
	}
	for r := range count {
		if v.static {
			s.set(r, v.m.grid(r0+r, v.Column(i)/width))
			continue
		}
		group := s.group[:width]
		for k := range group {
			group[k] = s.ahead[k*lanes+r]
		}
		g, err := v.f.find(group, v.diag[i:i+width])
		if err != nil {
			v.first.set(r0+r, i/width, err)
			return false
		}
		v.m.setGrid(r0+r, i/width, g)
		s.set(r, g)
	}
	return true
}

// foresee sets ahead to what the weights of the group at position i would best be, now that the columns before it are
// rounded and all others still free, which is what its grid is to fit. With e the errors so far, z = e·R over the columns of
// the group and R_gg the factor's block of the group, that is w + z·R_gg⁻¹, since the inverse of a triangle begins with the
// inverse of its first block. y holds w + z·diag(R_gg)⁻¹ there, so that x = z·R_gg⁻¹ is x_k = y_k - w_k - Σ_{j<k} x_j*A[j,k].
func (v *solver) foresee(s *strip, r0, count, i1, i, width int) {
	out, at := v.m.Out, i-i1
	for k := range width {
		w := v.work[(i+k)*out+r0:][:count]
		for r, from := range w {
			s.ahead[k*lanes+r] = s.y[(at+k)*lanes+r] - from
		}
	}
	pw := min(blockColumns, v.N-i1) // width of the panel
	for j := range width {
		var x [lanes]float32
		for r := range x {
			x[r] = -s.ahead[j*lanes+r]
		}
		num.AddOuter16(s.ahead[(j+1)*lanes:], v.panel[(i+j)*pw+at:][j+1:width], &x)
	}
	for k := range width {
		w := v.work[(i+k)*out+r0:][:count]
		for r, from := range w {
			s.ahead[k*lanes+r] += from
		}
	}
}

// column16 rounds the column at position i and returns the errors of its rows, which it also leaves in work.
func (v *solver) column16(s *strip, r0, count, i1, i int) (e [lanes]float32) {
	y, w, d := (*[lanes]float32)(s.y[(i-i1)*lanes:]), v.work[i*v.m.Out+r0:][:count], v.H[i*v.N+i]
	var k, q [lanes]float32
	num.RoundLanes(&k, &q, y, &s.grids)
	roundLanes(&q, v.m.Store)
	for r, from := range w {
		s.codes[r][i-i1] = int8(int(k[r]) + s.zero[r])
		left := float64(float64(y[r]-q[r]) * d)
		s.loss[r] += float64(left * left)
		e[r] = from - q[r]
		w[r] = e[r]
		s.moved[r] += float64(float64(e[r]) * float64(e[r]))
	}
	return e
}

// roundLanes rounds finite values to a stored type, as rounder does.
func roundLanes(q *[lanes]float32, dt formats.DType) {
	switch dt {
	case formats.BF16:
		for r, v := range q {
			b := math.Float32bits(v)
			q[r] = math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff)
		}
	case formats.F16:
		for r, v := range q {
			q[r] = formats.F16ToF32(formats.F16FromF32(v))
		}
	}
}
