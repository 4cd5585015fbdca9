package prune

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// Any range of bytes is that of the whole, for any number of readers at once; ranges outside are errors.
func TestViewRanges(t *testing.T) {
	for name, o := range map[string]testmodel.Options{"llama": {G: 4, Bias: true, DType: formats.BF16, Seed: 51}, "gpt2": {Family: "gpt2", Seed: 52}} {
		src := spiced(o)
		m := describe(t, src.Config, src)
		for seed := range uint64(2) {
			v, n, err := View(src, m, randomCut(m, 5, seed == 1))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range n.Parameters() {
				checkRanges(t, v, p.Name)
			}
		}
		if e := new(formats.Error); !errors.As(src.ReadAt("x", nil, 0), &e) {
			t.Errorf("%s: no error", name)
		}
	}
	src := wideModel()
	m := describe(t, src.Config, src)
	cut := randomCut(m, 5, true)
	v, _, err := View(src, m, cut)
	if err != nil {
		t.Fatal(err)
	}
	checkRanges(t, v, m.Layers[0].Linears[arch.Down].Weight)
	if err := v.ReadAt("model.layers.1.mlp.up_proj.weight", make([]byte, 1), 0); err == nil {
		t.Error("a tensor that is not there is read")
	}
}

func checkRanges(t *testing.T, v formats.Source, name string) {
	t.Helper()
	whole := bytesOf(t, v, name)
	size := int64(len(whole))
	var wg sync.WaitGroup
	for _, step := range []int64{max(1, size/5), 1001, size/2 + 3} {
		wg.Go(func() {
			for off := int64(0); off < size; off += step {
				p := make([]byte, min(step, size-off))
				if err := v.ReadAt(name, p, off); err != nil || !bytes.Equal(p, whole[off:off+int64(len(p))]) {
					t.Errorf("%s: %d bytes at %d differ (%v)", name, len(p), off, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, r := range [][2]int64{{5, 3}, {size - 9, 9}, {size, 0}, {7, 1}, {0, 0}, {size - 1, 1}, {4, 8}, {3, 11}} {
		p := make([]byte, r[1])
		if err := v.ReadAt(name, p, r[0]); err != nil || !bytes.Equal(p, whole[r[0]:r[0]+r[1]]) {
			t.Errorf("%s: %d bytes at %d differ (%v)", name, r[1], r[0], err)
		}
	}
	for _, r := range [][2]int64{{size, 1}, {-1, 1}, {1, size}, {size + 1, 0}, {math.MaxInt64, 1}} {
		var e *formats.Error
		if err := v.ReadAt(name, make([]byte, r[1]), r[0]); !errors.As(err, &e) || e.Tensor != name {
			t.Errorf("%s: %d bytes at %d: %v", name, r[1], r[0], err)
		}
	}
}

// A slice is read once: as little of the source as its rows span.
func TestViewReadsLittle(t *testing.T) {
	src := &counter{Model: testmodel.New(testmodel.Options{D: 512, H: 8, F: 1024, V: 16, Layers: 1, Seed: 53})}
	m := describe(t, src.Config, src)
	cut := randomCut(m, 5, true)
	v, n, err := View(src, m, cut)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range n.LayerParameters(0) {
		src.bytes, src.reads = 0, 0
		info, _ := v.Lookup(p.Name)
		values := make([]float32, 64<<10)
		count, _ := info.Elements()
		for at := int64(0); at < count; at += int64(len(values)) {
			if err := formats.ReadF32(v, p.Name, values[:min(int64(len(values)), count-at)], at); err != nil {
				t.Fatal(err)
			}
		}
		stored, _ := src.Lookup(p.Name)
		most, _ := stored.Bytes()
		if len(p.Shape) == 2 {
			most = p.Shape[0] * stored.Shape[1] * 4
		}
		if src.bytes > most {
			t.Errorf("%s: %d bytes read where %d are enough", p.Name, src.bytes, most)
		}
	}
}

type counter struct {
	*testmodel.Model
	bytes, reads int64
	asked        []string
	fail         string
}

func (c *counter) ReadAt(name string, p []byte, off int64) error {
	if name == c.fail {
		return formats.Errorf("", name, "the disk is gone")
	}
	c.bytes += int64(len(p))
	c.reads++
	return c.Model.ReadAt(name, p, off)
}

func (c *counter) Prefetch(names []string) { c.asked = append(c.asked, names...) }

func TestViewPrefetch(t *testing.T) {
	src := &counter{Model: testmodel.New(testmodel.Options{Layers: 3, Seed: 54})}
	m := describe(t, src.Config, src)
	v, n, err := View(src, m, &Cut{Layers: []CutLayer{{Drop: true}, {}, {}}})
	if err != nil {
		t.Fatal(err)
	}
	formats.Prefetch(v, append(n.LayerTensors(1), "nothing"))
	if !slices.Equal(src.asked, m.LayerTensors(2)) {
		t.Errorf("prefetched %q", src.asked)
	}
	for _, name := range []string{m.Layers[1].Linears[arch.O].Weight, m.Layers[1].AttnNorm.Weight} {
		src.fail = name
		for _, scaled := range []bool{false, true} {
			cut := &Cut{Hidden: Units{Keep: []int{1, 5}}, Layers: []CutLayer{{Drop: true}, {}, {}}}
			if scaled {
				cut.Layers[1].Scale = 3
			}
			v, _, err := View(src, m, cut)
			if err != nil {
				t.Fatal(err)
			}
			shown := m.Renumbered(name, 0)
			size := int64(len(bytesOf(t, v, m.Renumbered(name, 1))))
			if err := v.ReadAt(shown, make([]byte, size), 0); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
				t.Errorf("%s: %v", shown, err)
			}
		}
	}
}

// Values are those of the product in float64, from every type.
func TestViewScales(t *testing.T) {
	for _, dt := range []formats.DType{formats.F32, formats.BF16, formats.F16, formats.F64} {
		small := testmodel.New(testmodel.Options{DType: formats.BF16, Layers: 1, Seed: 55})
		var src formats.Source = newTable(t, small)
		if dt != formats.F64 {
			o := small.Options
			o.DType = dt
			src = testmodel.New(o)
		} else {
			src = listed{src.(*table)}
		}
		m := describe(t, small.Config, src)
		c := randomCut(m, 1, true)
		c.Layers[0].Scale = -1.7
		v, _, err := View(src, m, c)
		if err != nil {
			t.Fatal(err)
		}
		down, cl := m.Layers[0].Linears[arch.Down], &c.Layers[0]
		info, _ := src.Lookup(down.Weight)
		w := values64(t, src, info)
		raw := bytesOf(t, v, down.Weight)
		for i, o := range c.Hidden.Keep {
			for j, f := range cl.FFN.Keep {
				want := w[o*m.Layers[0].F+f] * (float64(cl.Scale) * float64(c.Hidden.Scale[i]) * float64(cl.FFN.Scale[j]))
				if got := math.Float64frombits(binary.LittleEndian.Uint64(raw[8*(i*len(cl.FFN.Keep)+j):])); got != want {
					t.Fatalf("%s: value %d, %d is %g, want %g", dt, i, j, got, want)
				}
			}
		}
	}
}

// listed describes the tensors of a table as they are.
type listed struct{ *table }

func (l listed) Tensors() []formats.TensorInfo {
	var out []formats.TensorInfo
	for _, info := range l.Source.Tensors() {
		info, _ = l.Lookup(info.Name)
		out = append(out, info)
	}
	return out
}

// Values that no weight can have once scaled are refused where they stand.
func TestViewRefusesValues(t *testing.T) {
	for _, c := range []struct {
		value float32
		scale float32
		tied  bool
	}{{float32(math.NaN()), 2, false}, {float32(math.Inf(1)), 2, false}, {3e38, 4, false}, {3e38, -1e38, false}, {1, 1e-42, true}} {
		src := testmodel.New(testmodel.Options{Layers: 1, Tied: c.tied, Seed: 56})
		m := describe(t, src.Config, src)
		cut := &Cut{Hidden: Units{Scale: slices.Repeat([]float32{1}, m.D)}, Layers: make([]CutLayer, 1)}
		cut.Hidden.Scale[3] = c.scale
		name, at := m.Embed, 3+2*m.D
		if c.tied {
			name, at = m.FinalNorm.Weight, 3
		}
		w, err := src.Values(name)
		if err != nil {
			t.Fatal(err)
		}
		w[at] = c.value
		src.Set(name, w)
		v, _, err := View(src, m, cut)
		if err != nil {
			t.Fatal(err)
		}
		var e *formats.Error
		err = v.ReadAt(name, make([]byte, 8*len(w)), 0)
		if !errors.As(err, &e) || e.Tensor != name || !strings.Contains(err.Error(), "index "+map[bool]string{false: "131", true: "3"}[c.tied]) {
			t.Errorf("%g times %g: %v", c.value, c.scale, err)
		}
		if err := v.ReadAt(name, make([]byte, 24), 0); err != nil {
			t.Errorf("the values before it: %v", err)
		}
	}
}

func TestViewRefusesSources(t *testing.T) {
	src := testmodel.Named("llama-bias")
	m := describe(t, src.Config, src)
	cut := randomCut(m, 1, false)
	q, down := m.Layers[1].Linears[arch.Q], m.Layers[1].Linears[arch.Down]
	for name, change := range map[string]func() (formats.Source, *arch.Model){
		q.Bias: func() (formats.Source, *arch.Model) { return src.Without(q.Bias), m },
		m.Embed: func() (formats.Source, *arch.Model) {
			n := m.Clone()
			n.V++
			return src, n
		},
		q.Weight: func() (formats.Source, *arch.Model) {
			n := m.Clone()
			n.Layers[1].K++
			return src, n
		},
		m.Layers[0].Linears[arch.Down].Weight: func() (formats.Source, *arch.Model) { // it now belongs to nothing
			n := m.Clone()
			n.Layers[0].Linears[arch.Down].Weight = down.Weight
			return src, n
		},
	} {
		s, n := change()
		_, _, err := View(s, n, cut)
		var e *formats.Error
		if !errors.As(err, &e) || e.Tensor != name {
			t.Errorf("%v, want %s to blame", err, name)
		}
		if _, err := Changed(s, n, cut); !errors.As(err, &e) {
			t.Errorf("Changed: %v", err)
		}
	}
}

// Plain loops say what an axis does.
func TestAxis(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	for range 200 {
		n, block := 1+rnd.IntN(20), 1+rnd.IntN(4)
		u := randomUnits(rnd, n, 1+rnd.IntN(n), true)
		a := newAxis(&u, n, block)
		places := u.positions(n, block)
		if a.kept != len(places) || a.size != n*block || a.whole() != (len(u.Keep) == n) {
			t.Fatalf("%d of %d", a.kept, a.size)
		}
		for i, p := range places {
			from, m := a.at(i)
			if from != p || places[min(len(places)-1, i+m-1)] != p+m-1 || i+m < len(places) && places[i+m] == p+m {
				t.Fatalf("position %d is %d, with %d neighbours", i, from, m)
			}
			limit, most := i+1+rnd.IntN(len(places)-i), 1+rnd.IntN(10)
			lo, hi, end := a.reach(i, limit, most)
			want := i + 1
			for want < limit && places[want]-p < most {
				want++
			}
			if lo != p || end != want || hi != places[end-1]+1 {
				t.Fatalf("%v: from %d to %d within %d: [%d, %d) to %d", places, i, limit, most, lo, hi, end)
			}
		}
		j := joined(a.plain(), a.plain())
		for i := range 2 * len(places) {
			if from, _ := j.at(i); from != places[i%len(places)]+i/len(places)*a.size {
				t.Fatalf("joined: position %d is %d", i, from)
			}
		}
	}
}
