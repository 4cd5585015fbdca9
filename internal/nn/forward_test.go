package nn

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// describe returns a model over a random checkpoint.
func describe(t testing.TB, src *testmodel.Model, dev device.Device) *Model {
	t.Helper()
	a, err := arch.Describe(src.Config, src)
	if err != nil {
		t.Fatal(err)
	}
	return New(dev, src, a)
}

func logits(t testing.TB, m *Model, ids []int32) []float32 {
	t.Helper()
	got, err := m.Logits(ids)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestOracle compares every family and every rotary scaling with float64 loops, in every stored type.
func TestOracle(t *testing.T) {
	for _, c := range testmodel.Cases() {
		for _, dt := range []formats.DType{formats.F32, formats.BF16, formats.F16} {
			t.Run(c.Name+"/"+dt.String(), func(t *testing.T) {
				opt := c.Options
				opt.DType = dt
				src := testmodel.New(opt)
				m := describe(t, src, cpu.New(2))
				ids := testmodel.Windows(1, 21, m.Arch.V, 5)[0]
				o := &oracle{t: t, src: src, m: m.Arch}
				if d := far(t, logits(t, m, ids), o.logits(ids)); d > 2e-5 {
					t.Errorf("logits differ by up to %g", d)
				}
			})
		}
	}
}

// TestLongerThanTrained: "dynamic" changes its frequencies with the length, also when a shorter window comes after.
func TestLongerThanTrained(t *testing.T) {
	src := testmodel.New(testmodel.Options{Context: 32, G: 2, Scaling: &testmodel.Scaling{Type: "dynamic", Factor: 2}})
	m := describe(t, src, cpu.New(1))
	o := &oracle{t: t, src: src, m: m.Arch}
	for _, n := range []int{60, 20, 45, 32, 33} {
		ids := testmodel.Windows(1, n, m.Arch.V, 6)[0]
		if d := far(t, logits(t, m, ids), o.logits(ids)); d > 2e-5 {
			t.Errorf("%d tokens: logits differ by up to %g", n, d)
		}
	}
}

// TestTapsAndMasks: taps see the oracle's values, under masks per KV head, on devices with and without host memory.
func TestTapsAndMasks(t *testing.T) {
	src := testmodel.Named("llama-gqa")
	masks := func(int) []device.Mask { return []device.Mask{{Sink: 2, Recent: 5}, {}} }
	for _, dev := range []device.Device{cpu.New(2), remote{cpu.New(2)}} {
		m := describe(t, src, dev)
		ids := testmodel.Windows(1, 37, m.Arch.V, 7)[0]
		o := &oracle{t: t, src: src, m: m.Arch, masks: masks}
		want := o.logits(ids)
		got := make([]float32, 37*m.Arch.V)
		seen := 0
		opt := RunOptions{Masks: masks, Pass: func(l, _ int) *Pass {
			return &Pass{ColumnSums: true,
				Tap: func(s Site, x []float32, rows, cols int) {
					seen++
					if cols != m.Arch.Layers[l].Width(s) || rows != 37 {
						t.Errorf("%s: [%d, %d]", s, rows, cols)
					}
					if d := far(t, x, o.sites[[2]int{l, int(s)}]); d > 2e-5 {
						t.Errorf("layer %d, %s: differs by up to %g", l, s, d)
					}
				},
				TapAttn: func(a *AttnState) { seen++; checkAttention(t, l, a, o) },
			}
		}}
		err := m.Run(t.Context(), [][]int32{ids}, opt, func(_ int, hidden []float32) error {
			return m.Head(hidden, 37, 10, func(row, rows int, l []float32) error {
				copy(got[row*m.Arch.V:], l)
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if d := far(t, got, want); d > 2e-5 || seen != 10 {
			t.Errorf("logits differ by up to %g, %d taps", d, seen)
		}
	}
}

func checkAttention(t *testing.T, l int, a *AttnState, o *oracle) {
	a.Read(Outputs | ColumnSums)
	if d := far(t, a.ColumnSums, o.sums[l]); d > 2e-5 {
		t.Errorf("layer %d: column sums differ by up to %g", l, d)
	}
	if d := far(t, a.Out, o.sites[[2]int{l, int(SiteO)}]); d > 2e-5 {
		t.Errorf("layer %d: attention differs by up to %g", l, d)
	}
	row := make([]float32, a.Shape.H*a.Shape.T)
	lastRow(row, a)
	for h := range a.Shape.H {
		total := 0.0
		for _, p := range row[h*a.Shape.T : (h+1)*a.Shape.T] {
			total += float64(p)
		}
		if a.Masks[h/(a.Shape.H/a.Shape.G)].Full() && math.Abs(total-1) > 1e-5 {
			t.Errorf("layer %d, head %d: the last row sums to %g", l, h, total)
		}
	}
	buf := make([]float32, len(a.Q))
	a.Dev.Download(buf, a.DevQ, 0)
	if !slices.Equal(buf, a.Q) {
		t.Errorf("layer %d: DevQ is not Q", l)
	}
}

// remote is a device whose memory the host cannot address.
type remote struct{ device.Device }

func (remote) Host(device.Buf) []float32 { return nil }

// TestStop: a pass ends after the tap it names.
func TestStop(t *testing.T) {
	m := describe(t, testmodel.Named("qwen3"), cpu.New(1))
	ids := testmodel.Windows(1, 9, m.Arch.V, 8)[0]
	b, err := m.LoadBlock(1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Free()
	for _, stop := range []Site{SiteQKV, SiteO, SiteGateUp, SiteDown} {
		x := make([]float32, len(ids)*m.Arch.D)
		if err := m.Embed(x, ids); err != nil {
			t.Fatal(err)
		}
		var last Site
		n := 0
		p := &Pass{HasStop: true, StopAfter: stop, Tap: func(s Site, _ []float32, _, _ int) { last = s; n++ }}
		if err := b.Forward(x, len(ids), p); err != nil || last != stop || n != int(stop)+1 {
			t.Errorf("stop after %s: %d taps, last %s, %v", stop, n, last, err)
		}
	}
}

// TestFFNRows: windows longer than one part of the FFN give the bits of one part, and threads change none.
func TestFFNRows(t *testing.T) {
	src := testmodel.New(testmodel.Options{Layers: 1, D: 32, H: 4, F: 64, V: 64, DType: formats.BF16})
	ids := testmodel.Windows(1, 2*ffnRows+77, 64, 9)[0]
	var first []float32
	for _, threads := range []int{1, 2, 3} {
		for _, whole := range []bool{false, true} {
			m := describe(t, src, cpu.New(threads))
			x := make([]float32, len(ids)*m.Arch.D)
			if err := m.Embed(x, ids); err != nil {
				t.Fatal(err)
			}
			b, err := m.LoadBlock(0)
			if err != nil {
				t.Fatal(err)
			}
			p := &Pass{}
			if whole {
				p.Tap = func(Site, []float32, int, int) {}
			}
			if err := b.Forward(x, len(ids), p); err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = x
			}
			if d := maxDiff(t, x, first); d != 0 {
				t.Errorf("%d threads, whole %t: differs by %g", threads, whole, d)
			}
		}
	}
}

// counted is a device that counts the buffers it gives out.
type counted struct {
	device.Device
	allocs int
}

func (c *counted) Alloc(kind device.Kind, n int) (device.Buf, error) {
	c.allocs++
	return c.Device.Alloc(kind, n)
}

// TestSteadyMemory: passes of a size seen before, or smaller, take no buffer from the device and make no table.
func TestSteadyMemory(t *testing.T) {
	dev := &counted{Device: cpu.New(2)}
	m := describe(t, testmodel.Named("qwen3"), dev)
	b, err := m.LoadBlock(0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Free()
	x := make([]float32, 64*m.Arch.D)
	p := &Pass{ColumnSums: true, TapAttn: func(*AttnState) {}}
	first := 0
	for i, n := range []int{64, 64, 10, 64} {
		if err := b.Forward(x[:n*m.Arch.D], n, p); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = dev.allocs
		}
	}
	if dev.allocs != first || len(m.tables) != 1 || m.tables[0].t != 64 {
		t.Errorf("%d buffers after the first pass, %d at the end", first, dev.allocs)
	}
	m.Release()
	if err := b.Forward(x, 64, nil); err != nil || dev.allocs <= first {
		t.Errorf("after Release: %d buffers, %v", dev.allocs, err)
	}
}

// TestWeights: weights come out as they are stored, logical [Out, In], and setting them changes no bit of the output.
func TestWeights(t *testing.T) {
	for _, name := range []string{"gpt2", "llama-bias"} {
		src := testmodel.Named(name)
		m := describe(t, src, cpu.New(1))
		x := make([]float32, 5*m.Arch.D)
		for i := range x {
			x[i] = float32(i%7) - 3
		}
		want := slices.Clone(x)
		b, err := m.LoadBlock(1)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Forward(want, 5, nil); err != nil {
			t.Fatal(err)
		}
		for _, r := range b.Arch().Roles() {
			l := b.Arch().Linears[r]
			w, err := b.Weight(r)
			if err != nil {
				t.Fatal(err)
			}
			stored, err := src.Values(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range [][2]int{{0, 0}, {l.Out - 1, l.In - 1}, {3, 5}} {
				i := (l.Row+at[0])*l.In + at[1]
				if l.Transposed {
					i = at[1]*l.StoredOut + l.Row + at[0]
				}
				if w[at[0]*l.In+at[1]] != stored[i] {
					t.Errorf("%s %s: %v differs", name, r, at)
				}
			}
			if err := b.SetWeight(r, w, formats.F32); err != nil {
				t.Fatal(err)
			}
			if len(b.Bias(r)) != l.Out {
				t.Errorf("%s %s: bias of %d", name, r, len(b.Bias(r)))
			}
		}
		if err := b.Forward(x, 5, nil); err != nil || maxDiff(t, x, want) != 0 {
			t.Errorf("%s: weights set to themselves change the output, %v", name, err)
		}
		b.Free()
	}
	b, err := describe(t, testmodel.Named("gpt2"), cpu.New(1)).LoadBlock(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Weight(arch.Gate); err == nil || b.SetWeight(arch.Gate, nil, formats.F32) == nil {
		t.Error("gpt2 has a gate")
	}
}

// TestSixteenBitWeights: replacing 16-bit weights by their f32 values changes no bit.
func TestSixteenBitWeights(t *testing.T) {
	for _, dt := range []formats.DType{formats.BF16, formats.F16} {
		m := describe(t, testmodel.New(testmodel.Options{DType: dt}), cpu.New(2))
		b, err := m.LoadBlock(0)
		if err != nil {
			t.Fatal(err)
		}
		out := [2][]float32{}
		for i := range out {
			out[i] = make([]float32, 50*m.Arch.D)
			for j := range out[i] {
				out[i][j] = float32(math.Sin(float64(j)))
			}
			if err := b.Forward(out[i], 50, nil); err != nil {
				t.Fatal(err)
			}
			for _, r := range b.Arch().Roles() {
				w, err := b.Weight(r)
				if err != nil {
					t.Fatal(err)
				}
				if err := b.SetWeight(r, w, formats.F32); err != nil {
					t.Fatal(err)
				}
			}
		}
		if d := maxDiff(t, out[0], out[1]); d != 0 {
			t.Errorf("%s: differs by %g", dt, d)
		}
	}
}

func TestBadWeightsAndTokens(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for _, dt := range []formats.DType{formats.F32, formats.BF16, formats.F16} {
			for _, name := range []string{"model.layers.0.mlp.up_proj.weight", "model.layers.0.input_layernorm.weight"} {
				src := testmodel.New(testmodel.Options{DType: dt})
				w, err := src.Values(name)
				if err != nil {
					t.Fatal(err)
				}
				w[len(w)-2] = float32(v)
				src.Set(name, w)
				m := describe(t, src, cpu.New(1))
				if _, err := m.LoadBlock(0); err == nil {
					t.Errorf("%s %s with %v is accepted", dt, name, v)
				}
			}
		}
	}
	for i := range 11 { // at every place of the four that are looked at together
		for _, dt := range []formats.DType{formats.BF16, formats.F16} {
			p := make([]byte, 22)
			if err := formats.Encode(p, []float32{1, -2, 3e4, 0, 1e-7, -1, 1, 1, -65504, 1, 1}, dt); err != nil {
				t.Fatal(err)
			}
			if got := nonFinite16(p, dt); got != -1 {
				t.Errorf("%s: value %d of finite ones", dt, got)
			}
			if err := formats.Encode(p[2*i:2*i+2], []float32{float32(math.Inf(-1))}, dt); err != nil {
				t.Fatal(err)
			}
			if got := nonFinite16(p, dt); got != i {
				t.Errorf("%s: infinity at %d found at %d", dt, i, got)
			}
		}
	}
	m := describe(t, testmodel.Named("gpt2"), cpu.New(1))
	for _, ids := range [][]int32{{-1}, {0, 256}, make([]int32, 257), {}} {
		if _, err := m.Logits(ids); err == nil {
			t.Errorf("%d ids starting with %v are accepted", len(ids), fmt.Sprint(ids[:min(2, len(ids))]))
		}
	}
}

// lastRow writes the attention of the last query of each head, [H, T].
func lastRow(dst []float32, a *AttnState) {
	a.Read(AllHeads | LSE)
	s := a.Shape
	i := s.T - 1
	for h := range s.H {
		q := a.Q[(i*s.H+h)*s.K : (i*s.H+h+1)*s.K]
		for j := range s.T {
			g := h / (s.H / s.G)
			k := a.K[(j*s.G+g)*s.K : (j*s.G+g+1)*s.K]
			dot := 0.0
			for c := range q {
				dot += float64(q[c]) * float64(k[c])
			}
			dst[h*s.T+j] = float32(math.Exp(dot*float64(s.Scale) - float64(a.LSE[h*s.T+i])))
		}
	}
}

// TestHalves: a block in its two halves, and from the inputs of the projections that end them, gives the bits of Forward.
func TestHalves(t *testing.T) {
	for _, c := range testmodel.Cases() {
		m := describe(t, testmodel.New(c.Options), cpu.New(2))
		for l := range m.Arch.Layers {
			b, err := m.LoadBlock(l)
			if err != nil {
				t.Fatal(err)
			}
			const n = 37
			x := make([]float32, n*m.Arch.D)
			for i := range x {
				x[i] = float32(math.Sin(float64(i)))
			}
			inputs := map[Site][]float32{}
			want, halves, ends := slices.Clone(x), slices.Clone(x), slices.Clone(x)
			err = b.Forward(want, n, &Pass{Tap: func(s Site, in []float32, rows, cols int) { inputs[s] = slices.Clone(in) }})
			if err == nil {
				err = b.Attend(halves, n, nil)
			}
			if err == nil {
				err = b.FeedForward(halves, n, nil)
			}
			for _, end := range []struct {
				role arch.Role
				site Site
			}{{arch.O, SiteO}, {arch.Down, SiteDown}} {
				if in := inputs[end.site]; in != nil && err == nil {
					err = b.Project(ends, end.role, in, n)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if maxDiff(t, halves, want) != 0 || maxDiff(t, ends, want) != 0 {
				t.Errorf("%s, layer %d: halves differ by %g, ends by %g", c.Name, l, maxDiff(t, halves, want), maxDiff(t, ends, want))
			}
			b.Free()
		}
	}
}
