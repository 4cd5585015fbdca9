package distill

import (
	"fmt"
	"math"

	"modelpress/internal/num"
)

// Distance is how two rows are compared.
type Distance uint8

// The distances of rows y and t of width D.
const (
	CosineDistance  Distance = iota // 1 - y·t/(|y|*|t|); 1, with no gradient, where either is zero
	SquaredDistance                 // |y-t|²/D
)

// String returns the name in lower case.
func (d Distance) String() string { return [...]string{"cosine", "mse"}[d] }

// hiddenRows is how many rows are looked at together.
const hiddenRows = 128

// Map is a learnt linear map from the student's width to the teacher's, y = W·x.
type Map struct {
	W    *Param    // [teacher, student], in f32
	Grad []float32 // of the shape of W, added to
}

// NewMap returns a map with values drawn uniformly from [-1/√student, 1/√student), a pure function of seed and name.
func NewMap(name string, student, teacher int, seed uint64) *Map {
	w := &Param{Name: name, Part: Adapter, Layer: HeadLayer, Rows: teacher, Cols: student, Matrix: true}
	w.alloc(false)
	fillUniform(w.Values, 1/math.Sqrt(float64(student)), seed, name)
	return &Map{W: w, Grad: make([]float32, w.Len())}
}

// fillUniform draws values from [-bound, bound).
func fillUniform(dst []float32, bound float64, seed uint64, name string) {
	key := []uint64{seed}
	for _, c := range []byte(name) {
		key = append(key, uint64(c))
	}
	s := newStream(key...)
	for i := range dst {
		dst[i] = float32(bound * (2*s.uniform(uint64(i)) - 1))
	}
}

// Hidden compares rows of hidden states of the student with those of the teacher: the mean over rows of their distance. Minitron
// (arXiv:2407.14679) takes it by the cosine, after the norm of a late layer and with a map where the widths differ.
type Hidden struct {
	Distance         Distance
	Student, Teacher int     // widths
	Map              *Map    // nil where the widths are the same and the rows are compared as they are
	Weight           float64 // of the loss in the gradients
	Rows             int     // what the mean is over where a batch comes in several calls; 0 for the rows of the call
}

// Apply adds Weight times the gradient by the student's rows [rows, Student] to grad, of the same shape, and that by the map to its
// own, and returns the loss without the weight. Losses that are not finite are an error with [ErrNotFinite] in its chain.
//
// Rows go by in groups of 128, in order; within one, rows are computed on their own. Memory: 512 bytes for each channel of the
// teacher.
func (h Hidden) Apply(student, teacher []float32, rows int, grad []float32, par num.Par) (float64, error) {
	ds, dt := h.Student, h.Teacher
	if rows < 0 || len(student) < rows*ds || len(teacher) < rows*dt || len(grad) < rows*ds {
		panic(fmt.Sprintf("distill: hidden states of %d, %d and gradients of %d values for %d rows",
			len(student), len(teacher), len(grad), rows))
	}
	switch {
	case h.Map == nil && ds != dt:
		return 0, fmt.Errorf("distill: hidden states: widths %d and %d differ and there is no map", ds, dt)
	case h.Map != nil && (h.Map.W.Rows != dt || h.Map.W.Cols != ds):
		return 0, fmt.Errorf("distill: hidden states: a map [%d, %d] from width %d to %d", h.Map.W.Rows, h.Map.W.Cols, ds, dt)
	}
	total := 0.0
	y, dist := make([]float32, min(rows, hiddenRows)*dt), make([]float64, min(rows, hiddenRows))
	for lo := 0; lo < rows; lo += hiddenRows {
		n := min(hiddenRows, rows-lo)
		x, dx := student[lo*ds:][:n*ds], grad[lo*ds:][:n*ds]
		if h.Map != nil {
			num.GemmNT(y, dt, x, ds, num.F32Weights(h.Map.W.Values, ds), n, dt, ds, 0, par)
		} else {
			copy(y, x)
		}
		weight := h.Weight / float64(orDefault(h.Rows, rows))
		each(par, n, func(i int) {
			dist[i] = h.row(y[i*dt:][:dt], teacher[(lo+i)*dt:][:dt], weight)
		})
		for i, d := range dist[:n] {
			if math.IsNaN(d) || math.IsInf(d, 0) {
				return 0, fmt.Errorf("distill: hidden states: row %d: %w", lo+i, ErrNotFinite)
			}
			total += d
		}
		if h.Map == nil {
			num.Add(dx, y[:n*dt])
			continue
		}
		num.GemmNN(dx, ds, y, dt, h.Map.W.Values, ds, n, ds, dt, 1, 1, par)
		num.GemmTN(h.Map.Grad, ds, y, dt, x, ds, dt, ds, n, 1, 1, par)
	}
	return total / float64(orDefault(h.Rows, rows)), nil
}

// row returns the distance of y and t and overwrites y by weight times the gradient by it. Sums are in float64, ascending.
func (h Hidden) row(y, t []float32, weight float64) float64 {
	if h.Distance == SquaredDistance {
		sum, scale := 0.0, 2*weight/float64(len(y))
		for i, v := range t {
			d := float64(y[i]) - float64(v)
			sum += float64(d * d)
			y[i] = float32(scale * d)
		}
		return sum / float64(len(y))
	}
	var dot, yy, tt float64
	for i, v := range t {
		a, b := float64(y[i]), float64(v)
		dot, yy, tt = dot+a*b, yy+a*a, tt+b*b // exact products
	}
	norm := math.Sqrt(yy) * math.Sqrt(tt)
	if norm == 0 {
		clear(y)
		return 1
	}
	cos := dot / norm
	byT, byY := -weight/norm, weight*cos/yy
	for i, v := range t {
		y[i] = float32(float64(byT*float64(v)) + float64(byY*float64(y[i])))
	}
	return 1 - cos
}
