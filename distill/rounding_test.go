package distill

import (
	"math"
	"testing"

	"modelpress/formats"
)

// TestRoundingKeepsExact: bfloat16 values stay, infinities and NaN too.
func TestRoundingKeepsExact(t *testing.T) {
	src, dst := make([]float32, 1<<16), make([]uint16, 1<<16)
	for i := range src {
		src[i] = formats.BF16ToF32(uint16(i))
	}
	for step := range int64(3) {
		NewRounding(7, step, 2).Store(dst, src, 5)
		for i, h := range dst {
			if src[i] != src[i] {
				if f := formats.BF16ToF32(h); f == f {
					t.Fatalf("NaN %#x became %v", i, f)
				}
				continue
			}
			if h != uint16(i) {
				t.Fatalf("step %d: %#x became %#x", step, i, h)
			}
		}
	}
}

// TestRoundingIsUnbiased: each value goes to one of its neighbours, and the mean over many draws is the value.
func TestRoundingIsUnbiased(t *testing.T) {
	const n = 1 << 15
	for _, v := range []float32{1.001, -1.001, 1 + 1.0/256, 3.14159e-20, -2.5e20, 1e-40} {
		lo := math.Float32frombits(math.Float32bits(v) &^ 0xffff)
		hi := math.Float32frombits((math.Float32bits(v) &^ 0xffff) + 0x10000)
		share := (float64(v) - float64(lo)) / (float64(hi) - float64(lo))
		src, dst := make([]float32, n), make([]uint16, n)
		for i := range src {
			src[i] = v
		}
		NewRounding(3, 11, 0).Store(dst, src, 0)
		ups := 0
		for _, h := range dst {
			switch f := formats.BF16ToF32(h); f {
			case hi:
				ups++
			case lo:
			default:
				t.Fatalf("%v became %v, between %v and %v", v, f, lo, hi)
			}
		}
		if got, dev := float64(ups)/n, math.Sqrt(share*(1-share)/n); math.Abs(got-share) > 4*dev {
			t.Errorf("%v: %g of draws go up, want %g ± %g", v, got, share, dev)
		}
	}
}

// TestRoundingIsAFunctionOfTheIndex: pieces give the values of the whole; other seeds, steps and tensors give others.
func TestRoundingIsAFunctionOfTheIndex(t *testing.T) {
	const n = 1003
	src := make([]float32, n)
	for i := range src {
		src[i] = 1 + float32(i)/n/64
	}
	all := make([]uint16, n)
	r := NewRounding(1, 2, 3)
	r.Store(all, src, 0)
	for from, size := 0, 1; from < n; size = size*5%97 + 1 {
		part := make([]uint16, min(size, n-from))
		r.Store(part, src[from:][:len(part)], from)
		for i, h := range part {
			if h != all[from+i] {
				t.Fatalf("value %d differs in a piece", from+i)
			}
		}
		from += len(part)
	}
	for _, o := range []Rounding{NewRounding(0, 2, 3), NewRounding(1, 3, 3), NewRounding(1, 2, 4), NewRounding(2, 1, 3)} {
		other := make([]uint16, n)
		o.Store(other, src, 0)
		same := 0
		for i, h := range other {
			if h == all[i] {
				same++
			}
		}
		if same > n*9/10 {
			t.Errorf("%d of %d values agree with those of another key", same, n)
		}
	}
}

// TestRoundingStaysFinite: the largest values go to the largest bfloat16.
func TestRoundingStaysFinite(t *testing.T) {
	for _, v := range []float32{math.MaxFloat32, -math.MaxFloat32} {
		for draw := range uint32(1 << 16) {
			if h := roundBF16(v, draw); h&0x7fff != 0x7f7f || (h>>15 == 1) != (v < 0) {
				t.Fatalf("%v with %#x gave %#x", v, draw, h)
			}
		}
	}
}

func TestBelow(t *testing.T) {
	s, i := newStream(9), uint64(0)
	for _, n := range []uint64{1, 2, 3, 7, 1 << 40, 1<<63 + 1} {
		sum := 0.0
		const draws = 4000
		for range draws {
			v := s.below(n, &i)
			if v >= n {
				t.Fatalf("%d is not below %d", v, n)
			}
			sum += float64(v)
		}
		mean, dev := (float64(n)-1)/2, float64(n)/math.Sqrt(12*draws)
		if math.Abs(sum/draws-mean) > 4*dev {
			t.Errorf("mean below %d is %g, want %g ± %g", n, sum/draws, mean, dev)
		}
	}
	if i < 6*4000 {
		t.Errorf("%d numbers for %d draws", i, 6*4000)
	}
}
