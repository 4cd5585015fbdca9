package sparse

import (
	"slices"
	"sync"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/internal/num"
)

// lanes is how many rows are carried through a block side by side.
const lanes = 16

// solver carries the state of one matrix through the columns, in the form of calib.Factor: the errors e = w - q of the columns
// that are finished are kept, and a column is pruned from y_k = w_k + Σ_{j<k} e_j*A[j,k].
type solver struct {
	*calib.Factor
	s     Scheme
	out   int
	round func(float32) float32
	size  []float32 // by column: diag(R) = 1/sqrt([H_F⁻¹]_jj), relative to the largest one; 0 where the input was always 0
	work  []float32 // [n, out]: weights, and once a column is finished its errors
	now   []float32 // [Block, out]: y of the block, from the columns before it
	panel []float32 // columns of A for the block, [i2, i2-i1]
	keys  []uint32  // [out, i2-i1]: scores of the block, then marks
	q     []float32 // [out, n], the result
	loss  []float64 // by row, as Report has it
	moved []float64 // by row: Σ (w - q)²
}

// solve prunes the columns in order, a block at a time.
func solve(f *calib.Factor, w []float32, out int, s Scheme, store formats.DType, par Par, rep *Report) []float32 {
	n, block := f.N, min(s.Block, f.N)
	v := &solver{
		Factor: f, s: s, out: out, round: rounder(store), size: sizes(f), work: make([]float32, out*n), now: make([]float32, block*out),
		panel: make([]float32, block*n), keys: make([]uint32, block*out), q: make([]float32, out*n), loss: make([]float64, out), moved: make([]float64, out),
	}
	v.start(w, par)
	strips := func(body func(r0, count int)) {
		each((out+lanes-1)/lanes, par, func(t int) { body(t*lanes, min(lanes, out-t*lanes)) })
	}
	for i1 := 0; i1 < n; i1 += block {
		i2 := min(i1+block, n)
		f.Panel(v.panel, i1, i2, par)
		copy(v.now, v.work[i1*out:i2*out])
		num.GemmTN(v.now, out, v.panel, i2-i1, v.work, out, i2-i1, out, i1, 1, 1, par)
		if s.M == 0 {
			strips(func(r0, count int) { v.rate(r0, count, i1, i2) })
			markLeast(v.keys[:out*(i2-i1)], s.of(out*i2)-s.of(out*i1))
		}
		strips(func(r0, count int) { v.prune(r0, count, i1, i2) })
	}
	var moved float64
	for r, l := range v.loss {
		rep.Loss += l
		moved += v.moved[r]
	}
	rep.OutputError = max(0, rep.Loss-rep.Damp*moved)
	return v.q
}

// sizes returns what |w| is multiplied by for its score.
func sizes(f *calib.Factor) []float32 {
	diag := make([]float64, f.N)
	for j := range diag {
		if !f.Dead[j] {
			diag[j] = f.H[j*f.N+j]
		}
	}
	return relative(diag, slices.Max(diag))
}

// start copies the weights, columns one after the other.
func (v *solver) start(w []float32, par Par) {
	const tile = 32
	n, out := v.N, v.out
	each((n+tile-1)/tile, par, func(t int) {
		lo, hi := t*tile, min(n, (t+1)*tile)
		for r0 := 0; r0 < out; r0 += tile {
			for i := lo; i < hi; i++ {
				row := v.work[i*out:][:out]
				for r := r0; r < min(out, r0+tile); r++ {
					row[r] = w[r*n+i]
				}
			}
		}
	})
}

// strip is some rows of a block while they are pruned: values of one column stand side by side.
type strip struct {
	y, ahead, q [MaxBlock * lanes]float32
	keys        [MaxBlock]uint32
}

var stripPool = sync.Pool{New: func() any { return new(strip) }}

// load sets y of columns [i1, i2) for count rows from r0 on.
func (v *solver) load(s *strip, r0, count, i1, i2 int) {
	for k := range i2 - i1 {
		clear(s.y[k*lanes:][copy(s.y[k*lanes:][:lanes], v.now[k*v.out+r0:][:count]):lanes])
	}
}

// rate sets the scores of columns [i1, i2) for count rows from r0 on.
func (v *solver) rate(r0, count, i1, i2 int) {
	s := stripPool.Get().(*strip)
	defer stripPool.Put(s)
	v.load(s, r0, count, i1, i2)
	v.foresee(s, r0, count, i1, i1, i2-i1)
	for r := range count {
		row := v.keys[(r0+r)*(i2-i1):][:i2-i1]
		for k := range row {
			row[k] = key(s.ahead[k*lanes+r] * v.size[i1+k])
		}
	}
}

// foresee sets ahead to what width weights from column i on would best be, now that the columns before it are pruned and all
// others still free: the weights that a mask is chosen by. With e the errors so far, z = e·R over these columns and R_gg the
// factor's block of them, that is w + z·R_gg⁻¹, since the inverse of a triangle begins with the inverse of its first block. y
// holds w + z·diag(R_gg)⁻¹ there, so that x = z·R_gg⁻¹ is x_k = y_k - w_k - Σ_{j<k} x_j*A[j,k].
func (v *solver) foresee(s *strip, r0, count, i1, i, width int) {
	at, pw := i-i1, min(v.s.Block, v.N-i1) // pw is the width of the panel
	for k := range width {
		for r, from := range v.work[(i+k)*v.out+r0:][:count] {
			s.ahead[k*lanes+r] = s.y[(at+k)*lanes+r] - from
		}
	}
	for j := range width {
		var x [lanes]float32
		for r := range count {
			x[r] = -s.ahead[j*lanes+r]
		}
		num.AddOuter16(s.ahead[(j+1)*lanes:], v.panel[(i+j)*pw+at:][j+1:width], &x)
	}
	for k := range width {
		for r, from := range v.work[(i+k)*v.out+r0:][:count] {
			s.ahead[k*lanes+r] += from
		}
	}
}

// prune prunes columns [i1, i2) of count rows from r0 on, and corrects the columns after each one.
func (v *solver) prune(r0, count, i1, i2 int) {
	s := stripPool.Get().(*strip)
	defer stripPool.Put(s)
	v.load(s, r0, count, i1, i2)
	for i := i1; i < i2; i++ {
		if v.s.M > 0 && i%v.s.M == 0 {
			v.choose(s, r0, count, i1, i2, i)
		}
		e := v.column(s, r0, count, i1, i2, i)
		next := i + 1 - i1
		num.AddOuter16(s.y[next*lanes:], v.panel[i*(i2-i1):][next:i2-i1], &e)
	}
	for r := range count {
		row := v.q[(r0+r)*v.N:][i1:i2]
		for k := range row {
			row[k] = s.q[k*lanes+r]
		}
	}
}

// choose marks what goes of the group of an n:m pattern that begins at column i.
func (v *solver) choose(s *strip, r0, count, i1, i2, i int) {
	m := v.s.M
	v.foresee(s, r0, count, i1, i, m)
	for r := range count {
		for k := range m {
			s.keys[k] = key(s.ahead[k*lanes+r] * v.size[i+k])
		}
		markGroup(v.keys[(r0+r)*(i2-i1)+i-i1:][:m], s.keys[:m], m-v.s.N)
	}
}

// column prunes column i and returns the errors of its rows, which it also leaves in work. Weights of an input that was
// always 0 stay as they are, or go without loss.
func (v *solver) column(s *strip, r0, count, i1, i2, i int) (e [lanes]float32) {
	at, w, d := (i-i1)*lanes, v.work[i*v.out+r0:][:count], v.H[i*v.N+i]
	for r, from := range w {
		y, q := s.y[at+r], float32(0)
		if v.keys[(r0+r)*(i2-i1)+i-i1] == stays {
			if q = v.round(y); q == from {
				q = from // a zero keeps its sign
			}
		}
		s.q[at+r] = q
		if v.Dead[i] {
			w[r] = 0
			continue
		}
		e[r] = from - q
		w[r] = e[r]
		left := float64(float64(y-q) * d)
		v.loss[r0+r] += float64(left * left)
		v.moved[r0+r] += float64(float64(e[r]) * float64(e[r]))
	}
	return e
}
