package distill

import (
	"errors"
	"math"
	"slices"
	"testing"

	"modelpress/internal/device/cpu"
)

// hiddenReference is the loss of Hidden in float64; w is nil without a map.
func hiddenReference(h Hidden, student, teacher, w []float64, rows int) float64 {
	total := 0.0
	for i := range rows {
		x, t := student[i*h.Student:][:h.Student], teacher[i*h.Teacher:][:h.Teacher]
		y := slices.Clone(x)
		if w != nil {
			y = make([]float64, h.Teacher)
			for o := range y {
				for j, v := range x {
					y[o] += w[o*h.Student+j] * v
				}
			}
		}
		var dot, yy, tt, square float64
		for j := range y {
			dot, yy, tt, square = dot+y[j]*t[j], yy+y[j]*y[j], tt+t[j]*t[j], square+(y[j]-t[j])*(y[j]-t[j])
		}
		if h.Distance == SquaredDistance {
			total += square / float64(h.Teacher)
		} else {
			total += 1 - dot/math.Sqrt(yy*tt)
		}
	}
	return total / float64(orDefault(h.Rows, rows))
}

// TestHidden: value, gradient by states and by the map against float64 and central differences, over more rows than a group;
// gradients are added to what is there; the same bits for any number of threads.
func TestHidden(t *testing.T) {
	for k, c := range []struct {
		h    Hidden
		rows int
	}{
		{Hidden{Distance: CosineDistance, Student: 9, Teacher: 9, Weight: 1}, 5},
		{Hidden{Distance: SquaredDistance, Student: 9, Teacher: 9, Weight: 0.5}, 4},
		{Hidden{Distance: CosineDistance, Student: 6, Teacher: 11, Weight: 2}, hiddenRows + 3},
		{Hidden{Distance: SquaredDistance, Student: 12, Teacher: 5, Weight: 1, Rows: 300}, 2*hiddenRows + 1},
		{Hidden{Distance: CosineDistance, Student: 7, Teacher: 7, Weight: 1}, 3},
	} {
		h, ds, dt := c.h, c.h.Student, c.h.Teacher
		var w []float64
		if ds != dt || k == 4 {
			h.Map = NewMap("map", ds, dt, 5)
			w = wide(h.Map.W.Values)
		}
		x, teacher := randoms(c.rows*ds, 1, 60, uint64(k)), randoms(c.rows*dt, 1, 61, uint64(k))
		in := wide(x)
		f := func() float64 { return h.Weight * hiddenReference(h, in, wide(teacher), w, c.rows) }
		start := randoms(len(x), 0.01, 62)
		run := func(threads int) (loss float64, grad, mapGrad []float32) {
			grad = slices.Clone(start)
			if h.Map != nil {
				h.Map.Grad = randoms(ds*dt, 0.01, 63)
			}
			loss, err := h.Apply(x, teacher, c.rows, grad, cpu.New(threads).For)
			if err != nil {
				t.Fatal(err)
			}
			if h.Map != nil {
				mapGrad = h.Map.Grad
			}
			return loss, grad, mapGrad
		}
		loss, grad, mapGrad := run(1)
		if want := f(); math.Abs(h.Weight*loss-want) > 1e-6*math.Max(1, want) {
			t.Errorf("case %d: loss %g, want %g", k, h.Weight*loss, want)
		}
		for i := 0; i < len(in); i += 1 + len(in)/60 {
			if want := slope(f, in, i, 1e-5) + float64(start[i]); math.Abs(float64(grad[i])-want) > 1e-7+1e-5*math.Abs(want) {
				t.Fatalf("case %d: gradient %d is %g, want %g", k, i, grad[i], want)
			}
		}
		for i := range w {
			if want := slope(f, w, i, 1e-5) + float64(randoms(ds*dt, 0.01, 63)[i]); math.Abs(float64(mapGrad[i])-want) > 2e-7+1e-5*math.Abs(want) {
				t.Fatalf("case %d: gradient %d of the map is %g, want %g", k, i, mapGrad[i], want)
			}
		}
		for threads := 2; threads < 5; threads++ {
			l, g, m := run(threads)
			if l != loss || !sameBits(g, grad) || !sameBits(m, mapGrad) {
				t.Errorf("case %d: %d threads give other bits", k, threads)
			}
		}
	}
}

// TestHiddenOfTheSame: equal states are no distance apart; a zero row is 1 away and pulls nowhere.
func TestHiddenOfTheSame(t *testing.T) {
	x := randoms(3*8, 1, 70)
	clear(x[8:16])
	for _, d := range []Distance{CosineDistance, SquaredDistance} {
		grad := make([]float32, len(x))
		loss, err := Hidden{Distance: d, Student: 8, Teacher: 8, Weight: 1}.Apply(x, slices.Clone(x), 3, grad, nil)
		want := map[Distance]float64{CosineDistance: 1.0 / 3}[d]
		if err != nil || math.Abs(loss-want) > 1e-15 {
			t.Errorf("%s: %g, want %g (%v)", d, loss, want, err)
		}
		for i, g := range grad {
			if math.Abs(float64(g)) > 1e-8 {
				t.Errorf("%s: gradient %d is %g", d, i, g)
			}
		}
	}
}

func TestHiddenRefuses(t *testing.T) {
	x := []float32{1, float32(math.NaN()), 2, 3}
	for _, d := range []Distance{CosineDistance, SquaredDistance} {
		if _, err := (Hidden{Distance: d, Student: 2, Teacher: 2}).Apply(x, make([]float32, 4), 2, make([]float32, 4), nil); !errors.Is(err, ErrNotFinite) {
			t.Errorf("%s: %v", d, err)
		}
		if _, err := (Hidden{Distance: d, Student: 2, Teacher: 2}).Apply([]float32{1, 2, 3, 4}, x, 2, make([]float32, 4), nil); !errors.Is(err, ErrNotFinite) {
			t.Errorf("%s: %v", d, err)
		}
	}
	for _, h := range []Hidden{{Student: 2, Teacher: 4}, {Student: 2, Teacher: 4, Map: NewMap("m", 4, 2, 0)}} {
		if _, err := h.Apply(make([]float32, 4), make([]float32, 8), 2, make([]float32, 4), nil); err == nil {
			t.Errorf("%+v passes", h)
		}
	}
}

// TestNewMap: values fill the bound, and seeds and names give others.
func TestNewMap(t *testing.T) {
	m, bound := NewMap("a", 100, 40, 1), 0.1
	most, sum := 0.0, 0.0
	for _, v := range m.W.Values {
		most, sum = math.Max(most, math.Abs(float64(v))), sum+float64(v)
	}
	if most > bound || most < 0.99*bound || math.Abs(sum)/4000 > 5*bound/math.Sqrt(3*4000) {
		t.Errorf("values up to %g with mean %g", most, sum/4000)
	}
	if sameBits(m.W.Values, NewMap("b", 100, 40, 1).W.Values) || sameBits(m.W.Values, NewMap("a", 100, 40, 2).W.Values) {
		t.Error("another name or seed gives the same map")
	}
	if !sameBits(m.W.Values, NewMap("a", 100, 40, 1).W.Values) {
		t.Error("the same seed and name give another map")
	}
}
