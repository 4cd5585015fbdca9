//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// The sizes of blocks are those that the sources of the kernels give to their macros, and their shared memory fits every processor from
// compute capability 8.0 on: 99 KiB.
func TestAttentionTiles(t *testing.T) {
	macro := regexp.MustCompile(`(?m)^(ATTENTION|ATTNBACK_KEYS|ATTNBACK_QUERIES)\((.*)\)$`)
	found := 0
	for _, name := range []string{"attention", "attnback"} {
		for _, kp := range []int{64, 128, 256} {
			text, err := os.ReadFile(fmt.Sprintf("kernels/%s_%d.cu", name, kp))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range macro.FindAllStringSubmatch(string(text), -1) {
				var w width
				var tile tiling
				read := []any{&w.kp, &w.terms, &tile.blocks, &tile.warps, &tile.split, &tile.cols, &tile.stages}
				if m[1] == "ATTENTION" {
					tile.split, tile.stages = 1, 1
					read = []any{&w.kp, &w.terms, &tile.blocks, &tile.warps, &tile.cols}
				}
				if n, err := fmt.Sscan(strings.ReplaceAll(m[2], ",", " "), read...); err != nil || n != len(read) || w.kp != kp {
					t.Fatalf("%s: %v", m[0], err)
				}
				tiles := map[string]map[width]tiling{"ATTENTION": attentionTiles, "ATTNBACK_KEYS": keyTiles, "ATTNBACK_QUERIES": queryTiles}[m[1]]
				if tiles[w] != tile {
					t.Errorf("%s: launched as %v", m[0], tiles[w])
				}
				h := &heads{kp: w.kp, terms: w.terms}
				shared := h.backShared(tile)
				if m[1] == "ATTENTION" {
					shared = h.shared(tile)
				}
				if shared > 99<<10 {
					t.Errorf("%s: %d bytes of shared memory", m[0], shared)
				}
				found++
			}
		}
	}
	if found != 18 {
		t.Errorf("%d kernels", found)
	}
}

// attnInputs are queries, keys, values and a gradient by the output. The further a key is, the more it is like all queries where steep is
// set: maxima move, by much and by little.
func attnInputs(s device.AttnShape, steep bool) [4][]float32 {
	rng := rand.New(rand.NewPCG(uint64(s.T), uint64(s.K)))
	n := s.Sequences() * s.T
	var in [4][]float32
	for i, size := range []int{n * s.H * s.K, n * s.G * s.K, n * s.G * s.K, n * s.H * s.K} {
		in[i] = make([]float32, size)
		for j := range in[i] {
			in[i][j] = float32(rng.NormFloat64())
		}
	}
	for i := range in[0] {
		if steep && i%s.K == 0 {
			in[0][i] = 3
		}
	}
	for i := range in[1] {
		if steep && i%s.K == 0 {
			in[1][i] = float32(i/s.K/s.G%s.T) / 4
		}
	}
	return in
}

// attnBuffers are those of one call of Attention and AttentionBack: q, k, v and dout, then out, lse, dq, dk and dv.
type attnBuffers struct {
	s   device.AttnShape
	in  [4]device.Buf
	out [5]device.Buf
}

// attnBuffersOf uploads inputs. All buffers start off elements after where memory is aligned.
func attnBuffersOf(t *testing.T, d *Device, in [4][]float32, s device.AttnShape, off int) *attnBuffers {
	t.Helper()
	buf := func(n int, v []float32) device.Buf {
		whole, err := d.Alloc(device.F32, n+off)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(whole.Free)
		b := d.Slice(whole, off, n)
		d.Upload(b, 0, v)
		return b
	}
	b := &attnBuffers{s: s}
	for i, v := range in {
		b.in[i] = buf(len(v), v)
	}
	for i, n := range []int{len(in[0]), s.Sequences() * s.H * s.T, len(in[0]), len(in[1]), len(in[1])} {
		b.out[i] = buf(n, nil)
	}
	return b
}

// run computes the results.
func (b *attnBuffers) run(d *Device, masks []device.Mask) [5][]float32 {
	in, out := b.in, b.out
	for _, o := range out {
		d.Zero(o, 0, o.Len())
	}
	d.Attention(out[0], out[1], in[0], in[1], in[2], b.s, masks)
	d.AttentionBack(out[2], out[3], out[4], in[3], in[0], in[1], in[2], out[0], out[1], b.s, masks)
	var got [5][]float32
	for i, o := range out {
		got[i] = make([]float32, o.Len())
		d.Download(got[i], o, 0)
	}
	return got
}

// attnReference is run in float64, for one sequence.
func attnReference(in [4][]float32, s device.AttnShape, masks []device.Mask) [5][]float64 {
	f := func(n int) []float64 { return make([]float64, n) }
	want := [5][]float64{f(len(in[0])), f(s.H * s.T), f(len(in[0])), f(len(in[1])), f(len(in[1]))}
	for h := range s.H {
		g := h / (s.H / s.G)
		head := num.AttnHead{Q: in[0][h*s.K:], K: in[1][g*s.K:], V: in[2][g*s.K:], LDQ: s.H * s.K, LDK: s.G * s.K, LDV: s.G * s.K, T: s.T, Dim: s.K, Scale: s.Scale}
		if masks != nil {
			head.Sink, head.Recent = masks[g].Sink, masks[g].Recent
		}
		out, dq, dk, dv := f(s.T*s.K), f(s.T*s.K), f(s.T*s.K), f(s.T*s.K)
		num.AttentionReference(out, want[1][h*s.T:(h+1)*s.T], nil, head)
		num.AttentionBackReference(dq, dk, dv, head, num.AttnGrad{DOut: in[3][h*s.K:], LDO: s.H * s.K}, nil)
		for i := range s.T {
			for c := range s.K {
				want[0][(i*s.H+h)*s.K+c], want[2][(i*s.H+h)*s.K+c] = out[i*s.K+c], dq[i*s.K+c]
				want[3][(i*s.G+g)*s.K+c] += dk[i*s.K+c]
				want[4][(i*s.G+g)*s.K+c] += dv[i*s.K+c]
			}
		}
	}
	return want
}

// Scores that rise along the keys, fall, or are all the same: scales of both signs, and 0.
func TestAttentionScales(t *testing.T) {
	d := open(t, Options{})
	for _, scale := range []float32{0.25, -0.25, 0} {
		s := device.AttnShape{T: 150, H: 2, G: 1, K: 16, Scale: scale}
		masks := []device.Mask{{Sink: 2, Recent: 70}}
		in := attnInputs(s, true)
		got, want := attnBuffersOf(t, d, in, s, 0).run(d, masks), attnReference(in, s, masks)
		for i, what := range []string{"out", "lse", "dq", "dk", "dv"} {
			for j, w := range want[i] {
				if diff := math.Abs(float64(got[i][j]) - w); !(diff <= 4e-5*max(1, math.Abs(w))) {
					t.Fatalf("scale %v: %s[%d] = %v, want %v", scale, what, j, got[i][j], w)
				}
			}
		}
	}
}

// Where there is no room for all planes at once the same bits come in pieces, down to one KV head.
func TestAttentionPieces(t *testing.T) {
	s := device.AttnShape{T: 70, H: 10, G: 5, K: 8, Scale: 0.3, Batch: 3}
	masks := []device.Mask{{}, {Recent: 9}, {Sink: 3, Recent: 20}, {}, {Sink: 65, Recent: 2}}
	d := open(t, Options{MaxMemory: 36 << 20})
	b := attnBuffersOf(t, d, attnInputs(s, false), s, 0)
	want := b.run(d, masks)
	count := func() (forward, back int) {
		c := d.begin("test")
		defer c.end()
		h := c.heads(s, masks)
		return len(h.pieces(h.unitBytes())), len(h.pieces(h.backUnitBytes()))
	}
	if forward, back := count(); forward != 1 || back != 1 {
		t.Fatalf("%d and %d pieces with room", forward, back)
	}
	held := fillUp(t, d, 300<<10)
	for i, n := range []int{7, 3, 1} {
		for _, b := range held[:n] {
			b.Free()
		}
		held = held[n:]
		forward, back := count()
		if least := []int{3, 6, 15}[i]; back < least || forward < 2 {
			t.Errorf("room for %d: %d and %d pieces", n, forward, back)
		}
		for i, got := range b.run(d, masks) {
			if !slices.Equal(got, want[i]) {
				t.Errorf("room for %d: result %d differs", n, i)
			}
		}
		held = append(held, fillUp(t, d, 300<<10)...)
	}
}

// fillUp takes all memory in pieces.
func fillUp(t *testing.T, d *Device, bytes int) (held []device.Buf) {
	for {
		b, err := d.Alloc(device.F32, bytes/4)
		if err != nil {
			return held
		}
		t.Cleanup(b.Free)
		held = append(held, b)
	}
}

// Rows need not be aligned, and results are the same bits under any order of threads and blocks.
func TestAttentionOrder(t *testing.T) {
	for _, bf16 := range []bool{false, true} {
		d := open(t, Options{BF16: bf16})
		for _, s := range []device.AttnShape{{T: 131, H: 2, G: 1, K: 40, Scale: 0.2}, {T: 70, H: 2, G: 2, K: 100, Scale: 0.1, Batch: 2}, {T: 66, H: 1, G: 1, K: 256, Scale: 0.06}} {
			masks := []device.Mask{{Sink: 5, Recent: 33}, {}}[:s.G]
			in := attnInputs(s, false)
			want := attnBuffersOf(t, d, in, s, 0).run(d, masks)
			for i, schedule := range []string{"down", "random:11", "random:12"} {
				t.Setenv("MODELPRESS_EMU_SCHEDULE", schedule)
				got := attnBuffersOf(t, d, in, s, i).run(d, masks)
				for i := range want {
					if !slices.Equal(got[i], want[i]) {
						t.Errorf("%v, %s: result %d differs", s, schedule, i)
					}
				}
			}
			t.Setenv("MODELPRESS_EMU_SCHEDULE", "")
		}
	}
}

// A head that the kernels cannot take is an error of the operation; shapes that make no sense are bugs.
func TestAttentionRefuses(t *testing.T) {
	d := open(t, Options{})
	b, err := d.Alloc(device.F32, 2*257)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Free()
	try := func(s device.AttnShape, masks []device.Mask) (got any) {
		defer func() { got = recover() }()
		d.Attention(b, nil, b, b, b, s, masks)
		return nil
	}
	err, _ = try(device.AttnShape{T: 2, H: 1, G: 1, K: 257, Scale: 1}, nil).(error)
	var fault *device.Fault
	if !errors.As(err, &fault) || fault.Op != "Attention" || !strings.Contains(err.Error(), "257") {
		t.Errorf("head dim 257: %v", err)
	}
	for _, s := range []device.AttnShape{{T: 1, H: 3, G: 2, K: 2}, {T: 1, H: 2, G: 0, K: 2}, {T: 1000, H: 1, G: 1, K: 2}} {
		if text, ok := try(s, nil).(string); !ok || !strings.HasPrefix(text, "cuda: Attention: ") {
			t.Errorf("%v: %v", s, text)
		}
	}
	if text, ok := try(device.AttnShape{T: 1, H: 2, G: 2, K: 2}, make([]device.Mask, 1)).(string); !ok {
		t.Errorf("one mask for two heads: %v", text)
	}
	if got := try(device.AttnShape{H: 2, G: 2, K: 2}, nil); got != nil {
		t.Errorf("no positions: %v", got)
	}
}

// Where the cache has less than all keys and values, blocks come in bands of KV heads, the last of which may be smaller.
func TestAttentionBands(t *testing.T) {
	d := open(t, Options{BF16: true})
	s := device.AttnShape{T: 130, H: 10, G: 5, K: 8, Scale: 0.3}
	masks := []device.Mask{{}, {Recent: 9}, {Sink: 3, Recent: 20}, {}, {Sink: 65, Recent: 2}}
	b := attnBuffersOf(t, d, attnInputs(s, false), s, 0)
	want := b.run(d, masks)
	defer func(n int64) { cacheBytes = n }(cacheBytes)
	for _, units := range []int64{0, 1, 2, 3} {
		cacheBytes = units * 4 * 2 * 64 * 192 // planes of two query heads for two tensors
		for i, got := range b.run(d, masks) {
			if !slices.Equal(got, want[i]) {
				t.Errorf("cache for %d heads: result %d differs", units, i)
			}
		}
	}
}
