//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/device/devicetest"
)

// statsCall is a call of AttnStatistics that asks for everything.
type statsCall struct {
	s     device.AttnShape
	masks []device.Mask
	st    *device.AttnStats
	sums  []float32 // of AttnColumnSums
}

func newStatsCall(t, h, g, k, width int) *statsCall {
	n := device.AttnBands(t, width)
	f := func(n int) []float64 { return make([]float64, h*n) }
	rows := []int{t - 1, 3, t / 2}
	return &statsCall{
		s:     device.AttnShape{T: t, H: h, G: g, K: k, Scale: float32(1 / math.Sqrt(float64(k)))},
		masks: slices.Repeat([]device.Mask{{Sink: 5, Recent: 70}}, g),
		st: &device.AttnStats{Width: width, ColumnSums: f(t), Blocks: f(n * n), Bands: f(n), Rows: rows, ArgMax: make([]int, h*len(rows)),
			Peak: make([]float32, h*len(rows)), Sink: 3, Influence: f(n), Drop: f(n), DropAbs: f(n)},
	}
}

// run computes them on a device, with no more than spare bytes of scratch where spare is not 0.
func (c *statsCall) run(t *testing.T, d *Device, spare int64) []float64 {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 8))
	buffer := func(n int) device.Buf {
		b, err := d.Alloc(device.F32, n)
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		d.Upload(b, 0, x)
		t.Cleanup(b.Free)
		return b
	}
	hq, hk := c.s.T*c.s.H*c.s.K, c.s.T*c.s.G*c.s.K
	q, k, v, dout, out, lse, sums := buffer(hq), buffer(hk), buffer(hk), buffer(hq), buffer(hq), buffer(c.s.H*c.s.T), buffer(c.s.H*c.s.T)
	d.Attention(out, lse, q, k, v, c.s, c.masks)
	if spare > 0 {
		fill(t, d, spare)
	}
	d.AttnStatistics(c.st, q, k, v, out, dout, lse, c.s, c.masks)
	d.AttnColumnSums(sums, q, k, lse, c.s, c.masks)
	c.sums = make([]float32, c.s.H*c.s.T)
	d.Download(c.sums, sums, 0)
	all := slices.Concat(c.st.ColumnSums, c.st.Blocks, c.st.Bands, c.st.Influence, c.st.Drop, c.st.DropAbs)
	for i, j := range c.st.ArgMax {
		all = append(all, float64(j), float64(c.st.Peak[i]))
	}
	for _, x := range c.sums {
		all = append(all, float64(x))
	}
	return all
}

// fill takes all memory but spare bytes in one piece.
func fill(t *testing.T, d *Device, spare int64) {
	hole, err := d.Alloc(device.BF16, int(spare/2))
	if err != nil {
		t.Fatal(err)
	}
	for n := d.Room(); n >= blockBytes; n = min(n, d.Room()) {
		b, err := d.Alloc(device.BF16, int(n/2))
		if err != nil {
			n /= 2
			continue
		}
		t.Cleanup(b.Free)
	}
	hole.Free()
}

// The kernels of devices with less shared memory, and pieces of a call where there is little room, give the same bits.
func TestStatisticsPieces(t *testing.T) {
	for _, k := range []int{40, 130} {
		for _, bf16 := range []bool{false, true} {
			t.Run(fmt.Sprint(k, bf16), func(t *testing.T) { statisticsPieces(t, k, Options{BF16: bf16, MaxMemory: 256 << 20}) })
		}
	}
}

func statisticsPieces(t *testing.T, k int, o Options) {
	d := open(t, o)
	call := func() *statsCall { return newStatsCall(80, 4, 2, k, 24) }
	want := call().run(t, d, 0)
	for _, shared := range []int{163 << 10, 99 << 10} {
		d.shared = shared
		sameBits(t, call().run(t, d, 0), want)
	}
	one := call()
	h := d.begin("test")
	planes := h.heads(one.s, one.masks).planeBytes()
	h.end()
	sameBits(t, one.run(t, d, 2*int64(one.s.H/one.s.G+1)*planes+100<<10), want)
}

// However many lanes share the tiles of a head, sums are the same but for the order of float64.
func TestStatisticsLanes(t *testing.T) {
	for _, bf16 := range []bool{false, true} {
		d := open(t, Options{BF16: bf16})
		want := newStatsCall(300, 2, 1, 8, 24).run(t, d, 0)
		for _, spread := range []int{2, 4, 6} {
			d.blocks = spread
			for i, x := range newStatsCall(300, 2, 1, 8, 24).run(t, d, 0) {
				if !(math.Abs(x-want[i]) <= 1e-9*max(1, math.Abs(want[i]))) {
					t.Fatalf("%d blocks: value %d is %v, want %v", spread, i, x, want[i])
				}
			}
		}
	}
}

func sameBits(t *testing.T, got, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	for i, x := range got {
		if math.Float64bits(x) != math.Float64bits(want[i]) {
			t.Fatalf("value %d is %v, want %v", i, x, want[i])
		}
	}
}

// Statistics of some hundred positions, on a real device.
func TestLongStatistics(t *testing.T) {
	d := open(t, Options{})
	if strings.HasPrefix(d.info.Name, "Emulated") {
		t.Skip("takes minutes on an emulated device")
	}
	devicetest.LongStatistics(t, d)
	devicetest.LongStatistics(t, open(t, Options{BF16: true}))
}

// The memory of statistics grows with the number of positions, not with its square.
func TestStatisticsMemory(t *testing.T) {
	var peaks []int64
	for _, n := range []int{128, 256, 512} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c, d := newStatsCall(n, 1, 1, 8, 64), open(t, Options{BF16: true})
			c.st.Blocks = nil
			c.run(t, d, 0)
			peaks = append(peaks, d.Peak())
		})
	}
	if len(peaks) < 3 {
		t.Skip("no device")
	}
	a, b, c := peaks[0], peaks[1], peaks[2]
	if first, second := b-a, c-b; second > 2*first+64<<10 {
		t.Errorf("%d bytes for 128 positions, %d for 256, %d for 512", a, b, c)
	}
}
