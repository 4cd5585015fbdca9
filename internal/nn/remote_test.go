package nn

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"modelpress/formats/manifest"
	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/device/devicetest"
	"modelpress/internal/testmodel"
)

// ample is device memory for everything that tests of this package keep there.
const ample = 1 << 32

// TestRemoteGradients: on a device whose memory the host cannot address, the way forth and back gives the bits that it gives elsewhere:
// with states and activations there or not, windows alone and together, with gates, and where memory is short.
func TestRemoteGradients(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for i, c := range gradModels() {
		t.Run(c.Name, func(t *testing.T) {
			o := c.Options
			o.Context = 2 * ffnRows
			src := testmodel.New(o)
			here := describe(t, src, cpu.New(2))
			long := 150
			if i%4 == 1 {
				long = ffnRows + 5 // in two parts
			}
			windows := append(testmodel.Windows(1, long, o.V, 5), testmodel.Windows(3, 5, o.V, 6)...)
			var gates []Gates
			for _, a := range newGateSet(here.Arch, rng).gateLayers() {
				gates = append(gates, *a)
			}
			for _, opt := range []BackOptions{{}, {Together: 12}, {Keep: 1 << 16, MemLimit: 3000, Dir: t.TempDir()}} {
				for _, g := range [][]Gates{nil, gates} {
					want := keptRun(t, here, windows, opt, g)
					dev := devicetest.NewRemote(cpu.New(3), ample)
					there := describe(t, src, dev)
					same(t, want, keptRun(t, there, windows, opt, g))
					peak := dev.Traffic().Peak
					there.Release()
					if used := dev.Traffic().Used; used != 0 {
						t.Errorf("%d bytes are left on the device", used)
					}
					if g != nil || opt.Keep == 0 {
						continue
					}
					least := shortest(t, peak, func(budget int64) error {
						m := describe(t, src, devicetest.NewRemote(cpu.New(2), budget))
						got, err := tryKeptRun(m, windows, opt, g)
						if err == nil {
							same(t, want, got)
						}
						return err
					})
					t.Logf("peak %d bytes, least %d", peak, least)
				}
			}
		})
	}
}

// shortest finds about the least memory with which f succeeds: it must fail for want of memory alone.
func shortest(t *testing.T, peak int64, f func(budget int64) error) int64 {
	t.Helper()
	lo, hi := int64(0), peak
	if err := f(peak); err != nil {
		t.Fatalf("what was enough is not: %v", err)
	}
	for hi-lo > peak/32 {
		mid := (lo + hi) / 2
		err := f(mid)
		switch {
		case err == nil:
			hi = mid
		case errors.Is(err, device.ErrMemory):
			lo = mid
		default:
			t.Fatalf("with %d bytes: %v", mid, err)
		}
	}
	return hi
}

// tapped runs windows with every tap and returns all that is seen.
func tapped(m *Model, windows [][]int32, mix bool) (out [][]float32, err error) {
	see := func(vs ...[]float32) {
		for _, v := range vs {
			out = append(out, slices.Clone(v))
		}
	}
	opt := RunOptions{Output: func(_, _ int, x []float32) error { see(x); return nil }, Pass: func(l, _ int) *Pass {
		p := &Pass{ColumnSums: true, Tap: func(_ Site, x []float32, _, _ int) { see(x) },
			TapBuf: func(_ Site, x device.Buf, rows, cols int) {
				v := make([]float32, rows*cols)
				m.Dev.Download(v, x, 0)
				see(v)
			},
			TapHeads: func(q, k, v []float32, _ int) bool { see(q, k, v); return false },
			TapAttn: func(a *AttnState) {
				a.Read(LSE | ColumnSums)
				a.Read(AllHeads | Outputs)
				see(a.Q, a.K, a.V, a.Out, a.LSE, a.ColumnSums)
			}}
		if a := m.Arch.Layers[l]; mix && a.HasAttention() {
			p.Mix = &Mix{Masks: slices.Repeat([]device.Mask{{Sink: 1, Recent: 4}}, a.G), Alpha: slices.Repeat([]float32{0.25}, a.G)}
		}
		return p
	}}
	err = m.Run(context.Background(), windows, opt, func(_ int, h []float32) error {
		see(h)
		return m.Head(h, len(h)/m.Arch.D, 7, func(_, _ int, l []float32) error { see(l); return nil })
	})
	return out, err
}

// TestRemoteTaps: what is seen of a pass, its states and logits are the same, for every family; also for blocks that are run one by one on
// states of the host.
func TestRemoteTaps(t *testing.T) {
	for _, c := range testmodel.Cases() {
		src := testmodel.New(c.Options)
		dev := devicetest.NewRemote(cpu.New(3), ample)
		here, there := describe(t, src, cpu.New(2)), describe(t, src, dev)
		var windows [][]int32
		for i, n := range []int{21, 21, 5} {
			windows = append(windows, testmodel.Windows(1, n, here.Arch.V, uint64(i))[0])
		}
		for _, mix := range []bool{false, true} {
			want, err := tapped(here, windows, mix)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tapped(there, windows, mix)
			if err != nil {
				t.Fatal(err)
			}
			same(t, want, got)
		}
		same(t, halves(t, here, windows[0]), halves(t, there, windows[0]))
		there.Release()
		if used := dev.Traffic().Used; used != 0 {
			t.Errorf("%s: %d bytes are left on the device", c.Name, used)
		}
	}
}

// halves runs the halves of the first block on states of the host, with a weight replaced and its input projected again.
func halves(t *testing.T, m *Model, ids []int32) (out [][]float32) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	x := make([]float32, len(ids)*m.Arch.D)
	check(m.Embed(x, ids))
	b, err := m.LoadBlock(0)
	check(err)
	defer b.Free()
	var in []float32
	before := slices.Clone(x)
	check(b.Attend(x, len(ids), &Pass{HasStop: true, StopAfter: SiteO, Tap: func(s Site, v []float32, _, _ int) {
		if s == SiteO {
			in = slices.Clone(v)
		}
	}}))
	if !slices.Equal(x, before) {
		t.Error("a pass that stops before it is done changes the states")
	}
	check(b.Project(x, b.Arch().Roles()[3], in, len(ids)))
	out = append(out, slices.Clone(x))
	check(b.FeedForward(x, len(ids), nil))
	dy := slices.Clone(x)
	check(b.Backward(x, dy, len(ids), nil))
	check(m.FinalNorm(x, x, len(ids)))
	check(m.FinalNormBack(dy, x, len(ids)))
	return append(out, x, dy)
}

// TestRemoteServe: serving under policies of every kind gives the same states and counts.
func TestRemoteServe(t *testing.T) {
	src := testmodel.Named("llama-gqa")
	here, there := describe(t, src, cpu.New(2)), describe(t, src, devicetest.NewRemote(cpu.New(2), ample))
	windows := testmodel.Windows(2, 45, here.Arch.V, 3)
	for name, p := range servedPolicies() {
		prefill := p
		if p.Kind == manifest.KindTokenTopK {
			prefill = manifest.Full()
		}
		var out [2][][]float32
		var stats [2]*ServeStats
		for i, m := range []*Model{here, there} {
			opt := ServeOptions{Plan: uniform(m, prefill, p), Prompt: func(int) int { return 30 }, Chunk: 12}
			var err error
			stats[i], err = m.Serve(t.Context(), windows, opt, func(_ int, h []float32) error { out[i] = append(out[i], slices.Clone(h)); return nil })
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		same(t, out[0], out[1])
		for w := range stats[0].Windows {
			if !slices.Equal(stats[0].Windows[w].Layers[0].KVTokens, stats[1].Windows[w].Layers[0].KVTokens) {
				t.Errorf("%s: other counts", name)
			}
		}
	}
}

// TestRemoteTraffic: a pass over windows takes the weights of each layer to the device once, the rows of the tokens that there are, and
// nothing back; with states on the host it takes them both ways.
func TestRemoteTraffic(t *testing.T) {
	src := testmodel.Named("llama-gqa")
	dev := devicetest.NewRemote(cpu.New(2), ample)
	m := describe(t, src, dev)
	windows := testmodel.Windows(4, 33, m.Arch.V, 3)
	weights, rows := int64(0), int64(0)
	for l := range m.Arch.Layers {
		weights += m.blockBytes(l)
	}
	for _, w := range windows {
		ids, _ := distinct(w)
		rows += m.weightBytes(m.Arch.Embed, len(ids)*m.Arch.D)
	}
	seen := 0
	run := func(opt RunOptions) devicetest.Traffic {
		t.Helper()
		dev.Reset()
		opt.Final = func(_ int, h device.Buf) error { seen++; return nil }
		if err := m.Run(t.Context(), windows, opt, nil); err != nil {
			t.Fatal(err)
		}
		return dev.Traffic()
	}
	run(RunOptions{}) // tables
	for _, opt := range []RunOptions{{}, {Together: 1}, {Pass: func(int, int) *Pass { return &Pass{TapAttn: func(*AttnState) {}} }}} {
		got := run(opt)
		// What a norm has besides its gain is counted and not there.
		if got.Up > weights+rows || got.Up < (weights+rows)*9/10 || got.Down != 0 {
			t.Errorf("%+v: %d bytes up, %d are weights, %d embeddings; %d down", opt.Together, got.Up, weights, rows, got.Down)
		}
		if most := int64(len(windows) * 33 * 4); got.Tables > most {
			t.Errorf("%d bytes of tables, want at most the ids, %d", got.Tables, most)
		}
	}
	if seen != 16 {
		t.Errorf("%d windows were seen", seen)
	}
	m.Release()
	dev = devicetest.NewRemote(cpu.New(2), m.Reserve(33, false)) // no room for states beside what else there must be
	m = describe(t, src, dev)
	state := int64(len(windows) * 33 * m.Arch.D * 4)
	run(RunOptions{Together: 1})
	if got := run(RunOptions{Together: 1}); got.Down < state || got.Up < weights+state {
		t.Errorf("%d bytes up and %d down with states of %d on the host", got.Up, got.Down, state)
	}
}

// TestRemoteAhead: the next block arrives while a block computes. The first layer waits for it.
func TestRemoteAhead(t *testing.T) {
	src := testmodel.Named("llama-gqa")
	dev := devicetest.NewRemote(cpu.New(2), ample)
	m := describe(t, src, dev)
	windows := testmodel.Windows(1, 9, m.Arch.V, 3)
	var up atomic.Int64
	arrived := make(chan struct{})
	calls := int64(0)
	for l := range 2 {
		a := &m.Arch.Layers[l]
		calls += int64(len(a.Roles())) + 2
	}
	waited := false
	dev.Fail = func(op string) error {
		switch op {
		case "UploadRaw", "Upload":
			if up.Add(1) == calls+1 { // and that of the embedding
				close(arrived)
			}
		case "Attention":
			if waited {
				break
			}
			waited = true
			select {
			case <-arrived:
			case <-time.After(20 * time.Second):
				return errors.New("the next block does not arrive")
			}
		}
		return nil
	}
	if err := m.Run(t.Context(), windows, RunOptions{}, nil); err != nil {
		t.Fatal(err)
	}
}

// TestRemoteShort: with ever less memory, states go to the host, windows go alone, the FFN takes fewer rows, and blocks are not loaded
// ahead, until a pass does not fit; the bits stay.
func TestRemoteShort(t *testing.T) {
	src := testmodel.New(testmodel.Options{Layers: 3, D: 16, H: 4, G: 2, F: 256, V: 40, Context: 400, Seed: 5})
	here := describe(t, src, cpu.New(2))
	windows := append(testmodel.Windows(24, 33, 40, 5), testmodel.Windows(2, 400, 40, 6)...)
	states := func(m *Model) (out [][]float32, err error) {
		err = m.Run(t.Context(), windows, RunOptions{}, func(_ int, h []float32) error { out = append(out, slices.Clone(h)); return nil })
		return out, err
	}
	want, err := states(here)
	if err != nil {
		t.Fatal(err)
	}
	dev := devicetest.NewRemote(cpu.New(2), ample)
	got, err := states(describe(t, src, dev))
	if err != nil {
		t.Fatal(err)
	}
	same(t, want, got)
	peak := dev.Traffic().Peak
	least := shortest(t, peak, func(budget int64) error {
		got, err := states(describe(t, src, devicetest.NewRemote(cpu.New(2), budget)))
		if err == nil {
			same(t, want, got)
		}
		return err
	})
	m := describe(t, src, cpu.New(1))
	a := m.Arch.Layers[0]
	// One block, attention over the longest window with its states, and leastRows of the FFN.
	floor := m.blockBytes(0) + 4*int64(400*(2*m.Arch.D+2*a.H*a.K+2*a.G*a.K+a.H)+2*leastRows*a.F)
	if least > floor*5/4 || peak < 2*floor {
		t.Errorf("it fits into %d bytes, %d should do; %d where there is plenty", least, floor, peak)
	}
	t.Logf("peak %d, least %d, floor %d", peak, least, floor)
}

// TestStatesMove: states that come from the device of one model because another has too little memory there are what they were.
func TestStatesMove(t *testing.T) {
	src := testmodel.Named("llama-gqa")
	dev := devicetest.NewRemote(cpu.New(1), ample)
	m, other := describe(t, src, dev), describe(t, src, dev)
	lengths := []int{3, 9, 4}
	for _, limit := range []int64{0, 1, 20 * int64(m.Arch.D)} {
		s, err := NewStates(t.TempDir(), lengths, m.Arch.D, limit)
		if err != nil {
			t.Fatal(err)
		}
		s.OnDevice(m, 9, false)
		var want [][]float32
		for i, n := range lengths {
			x := make([]float32, n*m.Arch.D)
			for j := range x {
				x[j] = float32(i*1000 + j)
			}
			want = append(want, x)
			if err := s.Put(i, x); err != nil {
				t.Fatal(err)
			}
			if s.resident(i) == nil {
				t.Errorf("window %d does not lie on the device", i)
			}
		}
		compare := func() {
			t.Helper()
			for i := range lengths {
				x := make([]float32, len(want[i]))
				if err := s.Get(i, x); err != nil || !slices.Equal(x, want[i]) {
					t.Errorf("window %d: %v", i, err)
				}
				b, err := s.Buf(i)
				if err != nil {
					t.Fatal(err)
				}
				dev.Download(x, b, 0)
				v, err := s.View(i)
				if err != nil || !slices.Equal(x, want[i]) || !slices.Equal(v, want[i]) {
					t.Errorf("window %d: %v", i, err)
				}
			}
		}
		compare()
		s.unclaim()
		claimed := s.claim(1, false)
		for moved := 0; other.relieve(false); moved++ {
			if moved > 2 {
				t.Fatal("there is no end to it")
			}
		}
		if s.resident(0) != nil || s.resident(1) != claimed || s.resident(2) != nil {
			t.Error("all windows but the one in use were to go")
		}
		compare()
		s.unclaim()
		s.evict()
		compare()
		if err := s.Close(); err != nil || len(holders.of) != 0 {
			t.Errorf("%v, %d devices are remembered", err, len(holders.of))
		}
		if used := dev.Traffic().Used; used != 0 {
			t.Errorf("%d bytes are left on the device", used)
		}
	}
}
