package distill

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"testing"

	"modelpress/internal/device/cpu"
)

// topReference is what a row's k largest logits and the rest say, by a full sort in float64.
func topReference(x []float32, k int, tau float64) (ids []int32, log []float64, rest float64) {
	order := make([]int32, len(x))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(x[b], x[a]) })
	all := logSoftmax(wide(x), 1/tau)
	ids = slices.Sorted(slices.Values(order[:k]))
	for _, id := range ids {
		log = append(log, all[id])
	}
	sum := 0.0
	for _, id := range order[k:] {
		sum += math.Exp(all[id])
	}
	return ids, log, math.Log(sum)
}

// topKReference is the divergence of the k+1 outcomes in float64.
func topKReference(s []float64, ids []int32, log []float64, rest, tau float64) float64 {
	q := logSoftmax(s, 1/tau)
	kl, other := 0.0, 0.0
	for i, l := range q {
		if j, top := slices.BinarySearch(ids, int32(i)); top {
			kl += math.Exp(log[j]) * (log[j] - l)
		} else {
			other += math.Exp(l)
		}
	}
	return kl + math.Exp(rest)*(rest-math.Log(other))
}

func TestSelect(t *testing.T) {
	for k, c := range []struct {
		rows, v, top int
		tau          float64
	}{{3, 50, 5, 1}, {4, rowBlock + 100, 100, 2}, {2, 3 * rowBlock, 1, 0.5}, {2, 8, 7, 1}} {
		x := randoms(c.rows*c.v, 4, 20, uint64(k))
		for i := range x {
			if i%3 == 0 {
				x[i] = float32(math.Round(float64(x[i]))) // ties
			}
		}
		var got TopK
		if err := got.Select(x, c.rows, c.v, c.top, c.tau, nil); err != nil {
			t.Fatal(err)
		}
		for i := range c.rows {
			ids, log, rest := topReference(x[i*c.v:][:c.v], c.top, c.tau)
			if !slices.Equal(got.IDs[i*c.top:][:c.top], ids) {
				t.Fatalf("case %d: ids %v, want %v", k, got.IDs[i*c.top:][:c.top], ids)
			}
			for j, l := range log {
				if math.Abs(float64(got.Log[i*c.top+j])-l) > 2e-6*math.Max(1, -l) {
					t.Errorf("case %d: log %g, want %g", k, got.Log[i*c.top+j], l)
				}
			}
			if math.Abs(float64(got.Rest[i])-rest) > 2e-6*math.Max(1, -rest) {
				t.Errorf("case %d: rest %g, want %g", k, got.Rest[i], rest)
			}
		}
		var again TopK
		if err := again.Select(x, c.rows, c.v, c.top, c.tau, cpu.New(3).For); err != nil || !slices.Equal(again.Log, got.Log) {
			t.Errorf("case %d: threads give other bits (%v)", k, err)
		}
	}
}

// TestSelectFarRest: a rest whose share is far below the smallest f32 keeps its logarithm; without any it is -Inf.
func TestSelectFarRest(t *testing.T) {
	inf := float32(math.Inf(-1))
	var got TopK
	if err := got.Select([]float32{500, 0, 1, -3, 7, inf, inf, 6.5, inf, inf}, 2, 5, 2, 1, nil); err != nil {
		t.Fatal(err)
	}
	want := math.Log(math.Exp(0)+math.Exp(1)+math.Exp(-3)) - 500
	if got.IDs[0] != 0 || got.IDs[1] != 4 || math.Abs(float64(got.Rest[0])-want) > 1e-4 {
		t.Errorf("%+v, want a rest of %g", got, want)
	}
	if !math.IsInf(float64(got.Rest[1]), -1) {
		t.Errorf("rest %g of nothing", got.Rest[1])
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		if err := got.Select([]float32{1, 2, 3, bad, 0, 1}, 2, 3, 1, 1, nil); !errors.Is(err, ErrNotFinite) {
			t.Errorf("%g: %v", bad, err)
		}
	}
	if err := got.Select([]float32{inf, inf, inf}, 1, 3, 1, 1, nil); !errors.Is(err, ErrNotFinite) {
		t.Error(err)
	}
}

// TestTopKLoss: value and gradient against float64 and central differences, with and without cross entropy.
func TestTopKLoss(t *testing.T) {
	for k, c := range []struct {
		l            LogitLoss
		rows, v, top int
	}{
		{LogitLoss{KL: 1}, 3, 9, 2},
		{LogitLoss{KL: 0.5, Temperature: 2, CE: 0.25}, 4, rowBlock + 77, 20},
		{LogitLoss{KL: 1, Temperature: 0.5}, 2, 40, 39},
	} {
		const from = 1
		teacher := randoms((c.rows+from)*c.v, 3, 30, uint64(k))
		s := randoms(c.rows*c.v, 3, 31, uint64(k))
		targets := make([]int32, c.rows)
		for i := range targets {
			targets[i] = int32(i*i+2) % int32(c.v)
		}
		targets[0] = -1
		var top TopK
		if err := top.Select(teacher, c.rows+from, c.v, c.top, c.l.temperature(), nil); err != nil {
			t.Fatal(err)
		}
		before := wide(s)
		f := func() float64 {
			ce := c.l
			ce.KL = 0
			sum, tau := 0.0, c.l.temperature()
			for i := range c.rows {
				at := i + from
				sum += topKReference(before[i*c.v:][:c.v], top.IDs[at*c.top:][:c.top], wide(top.Log[at*c.top:][:c.top]), float64(top.Rest[at]), tau)
			}
			return c.l.KL*tau*tau*sum/float64(c.rows) + logitReference(ce, before, nil, targets, c.rows, c.v)
		}
		grad := slices.Clone(s)
		got, err := c.l.ApplyTopK(grad, &top, from, targets, c.rows, c.v, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := f(); math.Abs(got.Loss-want) > 3e-6*math.Max(1, want) {
			t.Errorf("case %d: loss %g, want %g", k, got.Loss, want)
		}
		for i := range grad {
			_, inTop := slices.BinarySearch(top.IDs[(i/c.v+from)*c.top:][:c.top], int32(i%c.v))
			if i > 40 && i%97 != 0 && !inTop {
				continue
			}
			if want := slope(f, before, i, 1e-4); math.Abs(float64(grad[i])-want) > 2e-7+2e-5*math.Abs(want) {
				t.Fatalf("case %d: gradient %d is %g, want %g", k, i, grad[i], want)
			}
		}
		again := slices.Clone(s)
		if sums, err := c.l.ApplyTopK(again, &top, from, targets, c.rows, c.v, cpu.New(3).For); err != nil || sums != got || !sameBits(again, grad) {
			t.Errorf("case %d: threads give other bits (%v)", k, err)
		}
	}
}

// TestTopKIsBelowFull: joining outcomes takes from the divergence; k = V-1 takes nothing.
func TestTopKIsBelowFull(t *testing.T) {
	const v = 300
	s, teacher := randoms(v, 3, 40), randoms(v, 3, 41)
	full, err := LogitLoss{KL: 1}.Apply(slices.Clone(s), teacher, nil, 1, v, nil)
	if err != nil {
		t.Fatal(err)
	}
	last := 0.0
	for _, k := range []int{1, 5, 20, 100, v - 1} {
		var top TopK
		if err := top.Select(teacher, 1, v, k, 1, nil); err != nil {
			t.Fatal(err)
		}
		got, err := LogitLoss{KL: 1}.ApplyTopK(slices.Clone(s), &top, 0, nil, 1, v, nil)
		if err != nil || got.KL < last || got.KL > full.KL+1e-5 {
			t.Errorf("top %d: %g after %g, in full %g (%v)", k, got.KL, last, full.KL, err)
		}
		last = got.KL
	}
	if math.Abs(last-full.KL) > 1e-5 {
		t.Errorf("top %d: %g, in full %g", v-1, last, full.KL)
	}
}

// TestTopKOfTheSame: a student that is the teacher has next to no loss and no gradient.
func TestTopKOfTheSame(t *testing.T) {
	const v = 2000
	s := randoms(v, 3, 42)
	var top TopK
	if err := top.Select(s, 1, v, 30, 1, nil); err != nil {
		t.Fatal(err)
	}
	got, err := LogitLoss{KL: 1}.ApplyTopK(s, &top, 0, nil, 1, v, nil)
	if err != nil || got.KL < 0 || got.KL > 1e-11 {
		t.Errorf("loss %g (%v)", got.KL, err)
	}
	for i, g := range s {
		if math.Abs(float64(g)) > 1e-7 {
			t.Fatalf("gradient %d is %g", i, g)
		}
	}
}

func TestTopKMisuse(t *testing.T) {
	var top TopK
	if err := top.Select([]float32{1, 2, 3}, 1, 3, 1, 2, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := (LogitLoss{KL: 1}).ApplyTopK(make([]float32, 3), &top, 0, nil, 1, 3, nil); err == nil {
		t.Error("another temperature passes")
	}
	if _, err := (LogitLoss{KL: 1, Temperature: 2}).ApplyTopK(make([]float32, 2), &top, 0, nil, 1, 2, nil); err == nil {
		t.Error("an id outside the vocabulary passes")
	}
}
