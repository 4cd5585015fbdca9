package formats

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// tensorMap is a Source of tensors in memory.
type tensorMap map[string]Tensor

func (m tensorMap) Tensors() []TensorInfo {
	var list []TensorInfo
	for _, t := range m {
		list = append(list, t.TensorInfo)
	}
	slices.SortFunc(list, func(a, b TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (m tensorMap) Lookup(name string) (TensorInfo, bool) {
	t, ok := m[name]
	return t.TensorInfo, ok
}

func (m tensorMap) ReadAt(name string, p []byte, off int64) error {
	t, ok := m[name]
	if !ok || off < 0 || off+int64(len(p)) > int64(len(t.Data)) {
		return errBroken
	}
	copy(p, t.Data[off:])
	return nil
}

// affine draws a weight.
func affine(r *rand.Rand, out, in, group int, zeros, ordered bool) *Affine {
	m := &Affine{Out: out, In: in, Bits: 4, Group: group, Scale: F16, Codes: make([]int8, out*in)}
	for i := range m.Codes {
		m.Codes[i] = int8(r.Uint32()%16) - 8
	}
	g := m.Groups()
	for range out * g {
		m.Scales = append(m.Scales, F16ToF32(F16FromF32(float32(r.NormFloat64()))))
		if zeros {
			m.Zeros = append(m.Zeros, int8(r.Uint32()%16)-8)
		}
	}
	if ordered {
		for i := range in {
			m.GIdx = append(m.GIdx, int32(i%g))
		}
	}
	return m
}

// part returns rows of a weight as a weight of their own.
func part(m *Affine, first, n int) *Affine {
	p, g := *m, m.Groups()
	p.Out = n
	p.Codes = m.Codes[first*m.In : (first+n)*m.In]
	p.Scales = m.Scales[first*g : (first+n)*g]
	if m.Zeros != nil {
		p.Zeros = m.Zeros[first*g : (first+n)*g]
	}
	return &p
}

// grid describes a weight to a view and counts how often its rows are read.
func grid(name string, m *Affine, transposed bool, reads *atomic.Int64) Grid {
	return Grid{
		Name: name, Out: m.Out, In: m.In, Transposed: transposed,
		Storage: Storage{Format: "test", Group: m.Group, Grid: true, Tensors: []string{name + ".stored"}},
		Rows: func(first, n int) (*Affine, error) {
			if first%32 != 0 || n%32 != 0 && first+n != m.Out {
				return nil, errBroken
			}
			reads.Add(1)
			return part(m, first, n), nil
		},
	}
}

// values are those of a weight by the plain definition, as it is shown.
func values(m *Affine, transposed bool) []float32 {
	v, g := make([]float32, m.Out*m.In), m.Groups()
	for o := range m.Out {
		for i := range m.In {
			k := i / (m.In / g)
			if m.GIdx != nil {
				k = int(m.GIdx[i])
			}
			z := 0.0
			if m.Zeros != nil {
				z = float64(m.Zeros[o*g+k])
			}
			at := o*m.In + i
			if transposed {
				at = i*m.Out + o
			}
			v[at] = float32((float64(m.Codes[o*m.In+i]) - z) * float64(m.Scales[o*g+k]))
		}
	}
	return v
}

func rawF32(v []float32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

func TestGridsShowValues(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	src := tensorMap{"b": {TensorInfo{"b", F32, []int64{2}}, rawF32([]float32{3, 4})}, "w.stored": {TensorInfo{"w.stored", I32, []int64{1}}, make([]byte, 4)}}
	for _, c := range []struct{ zeros, ordered, transposed bool }{{}, {zeros: true}, {zeros: true, ordered: true}, {transposed: true}, {true, true, true}} {
		m := affine(r, 70, 48, 16, c.zeros, c.ordered)
		var reads atomic.Int64
		v, err := NewGrids(src, "test", []Grid{grid("w", m, c.transposed, &reads)})
		if err != nil {
			t.Fatal(err)
		}
		if list := v.Tensors(); len(list) != 2 || list[0].Name != "b" || list[1].Name != "w" || list[1].DType != F32 ||
			!slices.Equal(list[1].Shape, map[bool][]int64{false: {70, 48}, true: {48, 70}}[c.transposed]) {
			t.Fatalf("tensors %v", list)
		}
		if _, ok := v.Lookup("w.stored"); ok {
			t.Error("what a weight is stored in is shown")
		}
		want := rawF32(values(m, c.transposed))
		for range 200 {
			from := r.IntN(len(want))
			p := make([]byte, r.IntN(len(want)-from+1))
			if err := v.ReadAt("w", p, int64(from)); err != nil || !bytes.Equal(p, want[from:from+len(p)]) {
				t.Fatalf("%+v: bytes [%d, +%d) differ: %v", c, from, len(p), err)
			}
		}
		p := make([]byte, 8)
		if err := v.ReadAt("b", p, 0); err != nil || !bytes.Equal(p, src["b"].Data) {
			t.Errorf("plain tensor: %v, %v", p, err)
		}
		got, err := v.Affine("w")
		if err != nil || got.Out != 70 || !slices.Equal(got.Codes, m.Codes) {
			t.Errorf("affine: %v", err)
		}
		if n := reads.Load(); n != 2 {
			t.Errorf("rows were read %d times", n)
		}
	}
}

func TestGridsRefuse(t *testing.T) {
	var reads atomic.Int64
	m := affine(rand.New(rand.NewPCG(1, 2)), 32, 32, -1, false, false)
	good := grid("w", m, false, &reads)
	v, err := NewGrids(tensorMap{}, "test", []Grid{good})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		n    int
		off  int64
	}{{"w", 2, 4*32*32 - 1}, {"w", 0, 4*32*32 + 1}, {"w", 1, -1}, {"w", 1, math.MaxInt64}, {"x", 1, 0}, {"w.stored", 1, 0}} {
		var e *Error
		if err := v.ReadAt(c.name, make([]byte, c.n), c.off); !errors.As(err, &e) || e.Tensor != c.name {
			t.Errorf("%s [%d, +%d): error %v", c.name, c.off, c.n, err)
		}
	}
	if _, err := v.Affine("x"); err == nil {
		t.Error("a weight that is not there")
	}
	if _, ok := v.Storage("x"); ok {
		t.Error("storage of a weight that is not there")
	}
	if _, err := NewGrids(tensorMap{}, "test", []Grid{good, good}); err == nil {
		t.Error("one weight twice")
	}
	beside := tensorMap{"w": {TensorInfo{"w", F32, []int64{1}}, nil}}
	if _, err := NewGrids(beside, "test", []Grid{good}); err == nil {
		t.Error("a plain weight beside a quantized one")
	}
	for _, size := range [][2]int{{0, 32}, {32, 0}, {-32, 32}, {1 << 21, 1 << 21}} {
		bad := good
		bad.Out, bad.In = size[0], size[1]
		if _, err := NewGrids(tensorMap{}, "test", []Grid{bad}); err == nil {
			t.Errorf("size %v", size)
		}
	}
}

// Reading a weight row after row reads what is stored once, and what is kept stays within its bound.
func TestGridsReadOnce(t *testing.T) {
	m := affine(rand.New(rand.NewPCG(3, 4)), 160, 1<<16, -1, false, false)
	var reads atomic.Int64
	v, err := NewGrids(tensorMap{}, "test", []Grid{grid("w", m, false, &reads)})
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4*m.In)
	for o := range m.Out {
		if err := v.ReadAt("w", p, int64(o)*int64(len(p))); err != nil {
			t.Fatal(err)
		}
	}
	if n := reads.Load(); n != 3 {
		t.Errorf("rows were read %d times for 3 bands", n)
	}
}

func TestGridsForget(t *testing.T) {
	m := affine(rand.New(rand.NewPCG(3, 4)), 32, 1<<17, -1, false, false)
	var reads atomic.Int64
	var list []Grid
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}
	for _, name := range names {
		list = append(list, grid(name, m, false, &reads))
	}
	v, err := NewGrids(tensorMap{}, "test", list)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, "i", "h", "d", "a", "d") { // of 9 times 4 MiB and scales, 7 are kept
		if err := v.ReadAt(name, make([]byte, 4), 0); err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, b := range v.cache.list {
			total += b.size
		}
		if total > cacheBytes {
			t.Errorf("%d bytes are kept", total)
		}
	}
	if n := reads.Load(); n != 10 {
		t.Errorf("rows were read %d times", n)
	}
}

func TestGridsTryAgain(t *testing.T) {
	var reads atomic.Int64
	g := grid("w", affine(rand.New(rand.NewPCG(1, 2)), 32, 32, -1, false, false), false, &reads)
	rows, broken := g.Rows, true
	g.Rows = func(first, n int) (*Affine, error) {
		if broken {
			return nil, errBroken
		}
		return rows(first, n)
	}
	v, err := NewGrids(tensorMap{}, "test", []Grid{g})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.ReadAt("w", make([]byte, 4), 0); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
	broken = false
	if err := v.ReadAt("w", make([]byte, 4), 0); err != nil {
		t.Errorf("second read: %v", err)
	}
}

// Readers of several weights at once see the same values, and of a band that several want only one reads.
func TestGridsConcurrently(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var reads atomic.Int64
	var list []Grid
	want := map[string][]byte{}
	names := []string{"a", "b", "c", "d"}
	for i, name := range names {
		m := affine(r, 96, 64, 32, true, i%2 == 0)
		list = append(list, grid(name, m, i == 3, &reads))
		want[name] = rawF32(values(m, i == 3))
	}
	v, err := NewGrids(tensorMap{}, "test", list)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(k)))
			for range 100 {
				name := names[r.IntN(len(names))]
				from := r.IntN(len(want[name]))
				p := make([]byte, r.IntN(len(want[name])-from+1))
				if err := v.ReadAt(name, p, int64(from)); err != nil || !bytes.Equal(p, want[name][from:from+len(p)]) {
					t.Errorf("%s: bytes [%d, +%d) differ: %v", name, from, len(p), err)
				}
			}
		})
	}
	wg.Wait()
	if n := reads.Load(); n != 4 {
		t.Errorf("rows were read %d times for 4 bands", n)
	}
}

// prefetched records what is asked for.
type prefetched struct {
	tensorMap
	names []string
}

func (p *prefetched) Prefetch(names []string) { p.names = append(p.names, names...) }

func TestGridsPrefetch(t *testing.T) {
	var reads atomic.Int64
	src := &prefetched{}
	v, err := NewGrids(src, "test", []Grid{grid("w", affine(rand.New(rand.NewPCG(1, 2)), 32, 32, -1, false, false), false, &reads)})
	if err != nil {
		t.Fatal(err)
	}
	Prefetch(v, []string{"x", "w"})
	if !slices.Equal(src.names, []string{"x", "w.stored"}) {
		t.Errorf("asked for %v", src.names)
	}
}

func TestReadColumns(t *testing.T) {
	const rows, width = 700, 600
	data := make([]byte, 4*rows*width)
	for i := range rows * width {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(float32(i)))
	}
	src := tensorMap{"w": {TensorInfo{"w", F32, []int64{rows, width}}, data}}
	for _, c := range [][2]int{{0, width}, {0, 1}, {17, 200}, {width - 1, 1}} {
		dst := make([]float32, c[1]*rows)
		if err := ReadColumnsF32(src, "test", "w", dst, c[0], c[1]); err != nil {
			t.Fatal(err)
		}
		for i := range c[1] {
			for r := range rows {
				if dst[i*rows+r] != float32(r*width+c[0]+i) {
					t.Fatalf("columns %v: value [%d, %d] is %v", c, i, r, dst[i*rows+r])
				}
			}
		}
	}
	for _, c := range [][2]int{{0, width + 1}, {-1, 2}, {0, 0}, {1, math.MaxInt}} {
		if err := ReadColumns(src, "w", c[0], c[1], func(int, []byte) {}); err == nil {
			t.Errorf("columns %v were read", c)
		}
	}
	if err := ReadColumns(src, "x", 0, 1, func(int, []byte) {}); err == nil {
		t.Error("a tensor that is not there")
	}
	copy(data[4*(5*width+9):], []byte{0, 0, 0x80, 0x7f})
	err := ReadColumnsF32(src, "test", "w", make([]float32, rows*4), 7, 4)
	if err == nil || !strings.Contains(err.Error(), "index 3009") {
		t.Errorf("an infinity: %v", err)
	}
	src["w"] = Tensor{src["w"].TensorInfo, data[:len(data)-4]}
	if err := ReadColumns(src, "w", 0, width, func(int, []byte) {}); !errors.Is(err, errBroken) {
		t.Errorf("short data: %v", err)
	}
}
