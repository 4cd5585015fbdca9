package distill

import (
	"fmt"
	"math"
	"sync"

	"modelpress/internal/num"
)

// Vectors are the vectors of all positions of one window that a relation compares, of one model: X [T, Heads*Dim]. Where Repeat is
// above 1 each head stands that many times in a row, as grouped keys do for the query heads that read them.
type Vectors struct {
	X          []float32
	Heads, Dim int
	Repeat     int       // 0 means 1
	Grad       []float32 // of the shape of X, added to; nil for a teacher
}

// width is the number of values of a position, repeated ones counted.
func (v *Vectors) width() int { return v.Heads * v.Dim * max(v.Repeat, 1) }

// column is where value c of a position, repeated ones counted, stands in a row of X.
func (v *Vectors) column(c int) int { return c/(v.Dim*max(v.Repeat, 1))*v.Dim + c%v.Dim }

// Relation compares how positions of a window relate to each other in two models: with A_i and B_j the parts of two vectors of
// positions i and j that belong to one of Heads relation heads, of width d,
//
//	R_i = softmax_{j <= i}(A_i·B_j/√d)
//	loss = 1/(Heads*Rows) * Σ_heads Σ_i KL(R_i of the teacher ‖ R_i of the student)
//
// The vectors of all heads are taken as one and split again into Heads equal parts, so that the models may differ in their numbers of
// heads and in their widths (MiniLMv2, arXiv:2012.15828, section 3.1). The causal mask stands for the padding mask of the papers,
// whose models are not causal; the window of a layer that slides has no part.
type Relation struct {
	Heads  int     // relation heads
	Weight float64 // of the loss in the gradients
	Rows   int     // positions that the mean is over where a batch comes in several calls; 0 for those of the call
}

// relationTile is the number of positions whose relations are looked at together.
const relationTile = 64

// Apply adds Weight times the gradients by the student's A and B to theirs and returns the loss without the weight. a and b may
// be the same vectors, whose gradients then get both parts. A loss that is not finite is an error with [ErrNotFinite] in its
// chain, and so is a number of relation heads that does not divide the widths.
//
// Heads are computed on their own and their parts added in order. Memory, for widths S and U of the student and the teacher and N
// heads at a time: 8*T*S + N*(8*T*(S+U)/Heads + 512*T) bytes.
func (r Relation) Apply(a, b, teacherA, teacherB *Vectors, t int, par num.Par) (float64, error) {
	if err := r.check(t, a, b, teacherA, teacherB); err != nil {
		return 0, err
	}
	ds, dt := a.width()/r.Heads, teacherA.width()/r.Heads
	da, db := make([]float32, r.Heads*t*ds), make([]float32, r.Heads*t*ds)
	parts := make([]float64, r.Heads)
	scale := r.Weight / (float64(r.Heads) * float64(orDefault(r.Rows, t)))
	each(par, r.Heads, func(h int) {
		w := relationPool.Get().(*relationScratch)
		defer relationPool.Put(w)
		w.gather(h, t, a, b, teacherA, teacherB, ds, dt)
		parts[h] = w.head(da[h*t*ds:][:t*ds], db[h*t*ds:][:t*ds], t, ds, dt, scale)
	})
	total := 0.0
	for h, p := range parts {
		if math.IsNaN(p) || math.IsInf(p, 0) {
			return 0, fmt.Errorf("distill: relations: head %d: %w", h, ErrNotFinite)
		}
		total += p
	}
	scatter(a, da, t, ds, r.Heads, par)
	scatter(b, db, t, ds, r.Heads, par)
	return total / (float64(r.Heads) * float64(orDefault(r.Rows, t))), nil
}

func (r Relation) check(t int, a, b, teacherA, teacherB *Vectors) error {
	for i, v := range []*Vectors{a, b, teacherA, teacherB} {
		if n := t * v.Heads * v.Dim; t < 0 || v.Heads < 1 || v.Dim < 1 || len(v.X) < n || i < 2 && len(v.Grad) < n {
			panic(fmt.Sprintf("distill: relations of %d positions with %d heads of %d from %d values, %d gradients",
				t, v.Heads, v.Dim, len(v.X), len(v.Grad)))
		}
		if r.Heads < 1 || v.width()%r.Heads != 0 {
			return fmt.Errorf("distill: relations: %d relation heads do not divide %d heads of width %d",
				r.Heads, v.Heads*max(v.Repeat, 1), v.Dim)
		}
	}
	if a.width() != b.width() || teacherA.width() != teacherB.width() {
		return fmt.Errorf("distill: relations: widths %d and %d, %d and %d of the teacher",
			a.width(), b.width(), teacherA.width(), teacherB.width())
	}
	return nil
}

// relationScratch holds the vectors of one head and the scores of a tile.
type relationScratch struct {
	a, b, ta, tb []float32 // [T, ds], [T, dt]
	s, t         []float32 // [relationTile, T]
	row          rowScratch
}

var relationPool = sync.Pool{New: func() any { return new(relationScratch) }}

// gather copies the parts of the vectors that belong to relation head h.
func (w *relationScratch) gather(h, t int, a, b, teacherA, teacherB *Vectors, ds, dt int) {
	for _, c := range []struct {
		dst *[]float32
		v   *Vectors
		d   int
	}{{&w.a, a, ds}, {&w.b, b, ds}, {&w.ta, teacherA, dt}, {&w.tb, teacherB, dt}} {
		*c.dst = sized(*c.dst, t*c.d)
		ld := c.v.Heads * c.v.Dim
		for j := range c.d {
			col := c.v.column(h*c.d + j)
			for i := range t {
				(*c.dst)[i*c.d+j] = c.v.X[i*ld+col]
			}
		}
	}
	w.s, w.t = sized(w.s, relationTile*t), sized(w.t, relationTile*t)
}

// head returns the sum of the divergences of the positions of one head, and overwrites da and db [t, ds] by scale times the
// gradients by the student's vectors. Tiles of positions go by in order; the keys of one are all up to its last position.
func (w *relationScratch) head(da, db []float32, t, ds, dt int, scale float64) float64 {
	sScale, tScale := 1/math.Sqrt(float64(ds)), 1/math.Sqrt(float64(dt))
	coef := float32(scale * sScale)
	clear(db)
	total := 0.0
	for lo := 0; lo < t; lo += relationTile {
		n := min(relationTile, t-lo)
		keys := lo + n
		num.GemmNT(w.s, keys, w.a[lo*ds:], ds, num.F32Weights(w.b, ds), n, keys, ds, 0, nil)
		num.GemmNT(w.t, keys, w.ta[lo*dt:], dt, num.F32Weights(w.tb, dt), n, keys, dt, 0, nil)
		for i := range n {
			seen, row := lo+i+1, w.s[i*keys:][:keys]
			total += w.row.klRow(row[:seen], w.t[i*keys:][:seen], float32(sScale), float32(tScale), coef)
			clear(row[seen:])
		}
		num.GemmNN(da[lo*ds:], ds, w.s, keys, w.b, ds, n, ds, keys, 1, 0, nil)
		num.GemmTN(db, ds, w.s, keys, w.a[lo*ds:], ds, keys, ds, n, 1, 1, nil)
	}
	return total
}

// scatter adds the gradients d [heads, t, width] of relation heads to those of the vectors, head after head in each row.
func scatter(v *Vectors, d []float32, t, width, heads int, par num.Par) {
	ld := v.Heads * v.Dim
	each(par, (t+relationTile-1)/relationTile, func(c int) {
		for i := c * relationTile; i < min(t, (c+1)*relationTile); i++ {
			row := v.Grad[i*ld:][:ld]
			for h := range heads {
				for j, g := range d[(h*t+i)*width:][:width] {
					row[v.column(h*width+j)] += g
				}
			}
		}
	})
}
