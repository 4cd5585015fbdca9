package formats

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// memSource is a Source of one tensor in memory that fails reads from failAt on.
type memSource struct {
	info   TensorInfo
	data   []byte
	failAt int64
}

var errBroken = errors.New("broken")

func (m *memSource) Tensors() []TensorInfo { return []TensorInfo{m.info} }

func (m *memSource) Lookup(name string) (TensorInfo, bool) {
	return m.info, name == m.info.Name
}

func (m *memSource) ReadAt(name string, p []byte, off int64) error {
	if m.failAt > 0 && off >= m.failAt {
		return errBroken
	}
	copy(p, m.data[off:])
	return nil
}

func TestBulkEqualsScalar(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{0, 1, 3, 4, 5, 7, 8, 9, 31, 32, 33, 1000} {
		v := make([]float32, n)
		for i := range v {
			v[i] = math.Float32frombits(rng.Uint32())
		}
		for _, dt := range []DType{F8E4M3, F8E5M2, F16, BF16, F32, F64} {
			raw := bytes.Repeat([]byte{0xee}, n*dt.Size()+8)
			p := raw[4 : 4+n*dt.Size()]
			if err := Encode(p, v, dt); err != nil {
				t.Fatal(err)
			}
			if raw[3] != 0xee || raw[4+len(p)] != 0xee {
				t.Fatalf("%s: wrote outside its slice", dt)
			}
			back := make([]float32, n)
			if err := Decode(back, p, dt); err != nil {
				t.Fatal(err)
			}
			for i, f := range v {
				want := f
				switch dt {
				case F8E4M3:
					want = E4M3ToF32(E4M3FromF32(f))
				case F8E5M2:
					want = E5M2ToF32(E5M2FromF32(f))
				case F16:
					want = F16ToF32(F16FromF32(f))
				case BF16:
					want = BF16ToF32(BF16FromF32(f))
				}
				if math.Float32bits(back[i]) != math.Float32bits(want) && !(want != want && back[i] != back[i]) {
					t.Fatalf("%s[%d] of %v = %v, want %v", dt, i, f, back[i], want)
				}
			}
		}
	}
}

func TestConversionErrors(t *testing.T) {
	for _, dt := range []DType{Invalid, Bool, U8, I8, F8E8M0, I16, U16, I32, U32, C64, I64, U64, 200} {
		if err := Decode(nil, nil, dt); err == nil {
			t.Errorf("Decode accepts %s", dt)
		}
		if err := Encode(nil, nil, dt); err == nil {
			t.Errorf("Encode accepts %s", dt)
		}
	}
	for _, n := range []int{0, 3, 5, 8} {
		if err := Decode(make([]float32, 1), make([]byte, n), F32); err == nil {
			t.Errorf("Decode of one F32 accepts %d bytes", n)
		}
		if err := Encode(make([]byte, n), make([]float32, 1), F32); err == nil {
			t.Errorf("Encode of one F32 accepts %d bytes", n)
		}
	}
}

func TestReadF32(t *testing.T) {
	const n = 3*chunkBytes/2 + 11 // more than one chunk of every type
	for _, dt := range []DType{F16, BF16, F32, F64} {
		want := make([]float32, n)
		for i := range want {
			want[i] = float32(i % 251)
		}
		src := &memSource{info: TensorInfo{Name: "w", DType: dt, Shape: []int64{n}}, data: make([]byte, n*dt.Size())}
		if err := Encode(src.data, want, dt); err != nil {
			t.Fatal(err)
		}
		for _, r := range [][2]int{{0, n}, {1, n - 1}, {n, 0}, {n - 1, 1}, {70000, 5}} {
			got := make([]float32, r[1])
			if err := ReadF32(src, "w", got, int64(r[0])); err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if got[i] != want[r[0]+i] {
					t.Fatalf("%s %v: [%d] = %v, want %v", dt, r, i, got[i], want[r[0]+i])
				}
			}
		}
		for _, r := range [][2]int{{0, n + 1}, {n, 1}, {-1, 1}, {n + 1, 0}} {
			if err := ReadF32(src, "w", make([]float32, r[1]), int64(r[0])); err == nil {
				t.Errorf("%s: read of %v accepted", dt, r)
			}
		}
		src.failAt = 1
		if err := ReadF32(src, "w", make([]float32, n), 0); !errors.Is(err, errBroken) {
			t.Errorf("error of the source lost: %v", err)
		}
	}
	src := &memSource{info: TensorInfo{Name: "w", DType: I32, Shape: []int64{1}}, data: make([]byte, 4)}
	for name, cause := range map[string]string{"w": "dtype I32", "x": "no such tensor"} {
		var e *Error
		if err := ReadF32(src, name, make([]float32, 1), 0); !errors.As(err, &e) || !strings.Contains(err.Error(), cause) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckFinite(t *testing.T) {
	inf := float32(math.Inf(1))
	v := make([]float32, 5000)
	for i := range v {
		v[i] = math.MaxFloat32
	}
	v[7], v[8] = -math.MaxFloat32, math.SmallestNonzeroFloat32
	if err := CheckFinite("f", "w", v, 0); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []float32{inf, -inf, float32(math.NaN()), math.Float32frombits(0x7f800001)} {
		for _, at := range []int{0, 1023, 1024, 4999} {
			old := v[at]
			v[at] = bad
			err := CheckFinite("f", "w", v, 100)
			want := Errorf("f", "w", "value %v at index %d is not finite", bad, 100+at)
			if err == nil || err.Error() != want.Error() {
				t.Fatalf("%v at %d: %v", bad, at, err)
			}
			v[at] = old
		}
	}
}

func TestCheckFiniteTensor(t *testing.T) {
	const n = 150_000 // more than two chunks
	src := &memSource{info: TensorInfo{Name: "w", DType: BF16, Shape: []int64{3, n / 3}}, data: make([]byte, 2*n)}
	if err := CheckFiniteTensor(src, "w"); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 65535, 65536, n - 1} {
		src.data[2*at+1], src.data[2*at] = 0xff, 0x80
		err := CheckFiniteTensor(src, "w")
		if want := Errorf("", "w", "value -Inf at index %d is not finite", at); err == nil || err.Error() != want.Error() {
			t.Errorf("at %d: %v", at, err)
		}
		src.data[2*at+1], src.data[2*at] = 0, 0
	}
	if err := CheckFiniteTensor(src, "x"); err == nil {
		t.Error("missing tensor accepted")
	}
}

func TestCheckRange(t *testing.T) {
	for _, c := range []struct {
		dt DType
		v  float32
		ok bool
	}{
		{F16, 65519.996, true}, {F16, 65520, false}, {F16, -65520, false}, {F16, 1e-30, true},
		{BF16, math.Float32frombits(0x7f7f7fff), true}, {BF16, math.Float32frombits(0x7f7f8000), false},
		{F32, math.MaxFloat32, true}, {F16, float32(math.Inf(1)), true},
		{F8E5M2, 61439.996, true}, {F8E5M2, 61440, false}, {F8E5M2, -61440, false},
		{F8E4M3, 464, true}, {F8E4M3, math.Nextafter32(464, 500), false}, {F8E4M3, -1e9, false},
	} {
		err := CheckRange("f", "w", []float32{0, c.v}, c.dt, 0)
		if (err == nil) != c.ok {
			t.Errorf("%s %v: %v", c.dt, c.v, err)
		}
		p := make([]byte, 8)
		if err := Encode(p[:c.dt.Size()], []float32{c.v}, c.dt); err != nil {
			t.Fatal(err)
		}
		back := make([]float32, 1)
		if err := Decode(back, p[:c.dt.Size()], c.dt); err != nil {
			t.Fatal(err)
		}
		if c.dt == F8E4M3 {
			if math.Abs(float64(back[0])) != E4M3Max {
				t.Errorf("%s stores %v as %v", c.dt, c.v, back[0])
			}
			continue
		}
		if c.ok == math.IsInf(float64(back[0]), 0) && !math.IsInf(float64(c.v), 0) {
			t.Errorf("%s stores %v as %v", c.dt, c.v, back[0])
		}
	}
}

func TestErrorText(t *testing.T) {
	for want, e := range map[string]*Error{
		"a (tensor \"w\"): c": Errorf("a", "w", "c"),
		"a: c":                Errorf("a", "", "c"),
		"tensor \"w\": c":     Errorf("", "w", "c"),
		"c":                   Errorf("", "", "c"),
	} {
		if e.Error() != want {
			t.Errorf("got %q, want %q", e, want)
		}
	}
}

func benchmarkConversion(b *testing.B, dt DType, f func(v []float32, p []byte) error) {
	v := make([]float32, 1<<16)
	for i := range v {
		v[i] = float32(i) * 0.01
	}
	p := make([]byte, len(v)*dt.Size())
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if err := f(v, p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkConvert(b *testing.B) {
	for _, dt := range []DType{F16, BF16, F32} {
		b.Run("Decode"+dt.String(), func(b *testing.B) {
			benchmarkConversion(b, dt, func(v []float32, p []byte) error { return Decode(v, p, dt) })
		})
		b.Run("Encode"+dt.String(), func(b *testing.B) {
			benchmarkConversion(b, dt, func(v []float32, p []byte) error { return Encode(p, v, dt) })
		})
	}
	b.Run("CheckFinite", func(b *testing.B) {
		benchmarkConversion(b, F32, func(v []float32, p []byte) error { return CheckFinite("", "", v, 0) })
	})
}
