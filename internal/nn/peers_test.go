package nn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/device/devicetest"
	"modelpress/internal/testmodel"
)

// TestDeal: runs of windows follow one another, and none has more than its share and a window.
func TestDeal(t *testing.T) {
	for _, c := range []struct {
		lengths []int
		parts   int
		want    []int
	}{
		{[]int{4, 4, 4, 4}, 2, []int{0, 2, 4}},
		{[]int{4, 4, 4}, 2, []int{0, 2, 3}},
		{[]int{1, 1, 1, 9}, 2, []int{0, 3, 4}},
		{[]int{9, 1, 1, 1}, 2, []int{0, 1, 4}},
		{[]int{5}, 3, []int{0, 0, 1, 1}},
		{nil, 2, []int{0, 0, 0}},
		{[]int{2, 2, 2, 2, 2, 2, 2}, 3, []int{0, 2, 5, 7}},
	} {
		got := Deal(c.lengths, c.parts)
		if !slices.Equal(got, c.want) {
			t.Errorf("%v in %d: %v, want %v", c.lengths, c.parts, got, c.want)
		}
	}
}

// TestSpread: windows that several devices share have the states that they have on one, in their order, whether these devices have memories
// of their own or not; errors and faults of any are those of the run.
func TestSpread(t *testing.T) {
	for _, name := range []string{"llama-gqa", "gpt2", "mistral-swa"} {
		src := testmodel.Named(name)
		here := describe(t, src, cpu.New(2))
		var windows [][]int32
		for i, n := range []int{9, 9, 30, 4, 9, 12, 12} {
			windows = append(windows, testmodel.Windows(1, n, here.Arch.V, uint64(i))[0])
		}
		z := make([]float32, here.Arch.D)
		for i := range z {
			z[i] = float32(i%3) / 2
		}
		states := func(m *Model, windows [][]int32, opt RunOptions) (out [][]float32, err error) {
			last, seen := 0, 0
			opt.Progress = func(done, total int) {
				if done != last+1 || total != len(windows)*len(m.Arch.Layers) {
					err = fmt.Errorf("progress %d of %d after %d", done, total, last)
				}
				last = done
			}
			opt.EmbedGate = func(w int) []float32 {
				if w%2 == 0 {
					return nil
				}
				return z
			}
			opt.Masks = func(l int) []device.Mask {
				return slices.Repeat([]device.Mask{{Sink: l, Recent: 6}}, m.Arch.Layers[l].G)
			}
			opt.Final = func(w int, x device.Buf) error {
				v := make([]float32, len(windows[w])*m.Arch.D)
				m.Dev.Download(v, x, 0)
				if seen++; !slices.Equal(v, out[len(out)-1]) || seen != len(out) {
					return fmt.Errorf("window %d has another state on the device", w)
				}
				return nil
			}
			e := m.Run(t.Context(), windows, opt, func(w int, x []float32) error { out = append(out, slices.Clone(x)); return nil })
			return out, errors.Join(err, e)
		}
		want, err := states(here, windows, RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{2, 3, 9} {
			var devs []device.Device
			for i := range n {
				if i%2 == 0 {
					devs = append(devs, devicetest.NewRemote(cpu.New(1+i%3), ample))
				} else {
					devs = append(devs, cpu.New(2))
				}
			}
			for range 2 {
				slices.Reverse(devs)
				m := describe(t, src, devs[0])
				m.Spread(devs[1:]...)
				for _, few := range []int{len(windows), 2, 1} {
					got, err := states(m, windows[:few], RunOptions{})
					if err != nil {
						t.Fatal(err)
					}
					same(t, want[:few], got)
				}
				own, err := NewStates(t.TempDir(), mustLengths(t, windows), m.Arch.D, 3000)
				if err != nil {
					t.Fatal(err)
				}
				got, err := states(m, windows, RunOptions{States: own})
				if err := errors.Join(err, own.Close()); err != nil {
					t.Fatal(err)
				}
				same(t, want, got)
				m.Release()
				for _, d := range devs {
					if r, ok := d.(*devicetest.Remote); ok && r.Traffic().Used != 0 {
						t.Errorf("%d bytes are left on a device", r.Traffic().Used)
					}
				}
			}
		}
		spreadFails(t, src, windows)
	}
}

func mustLengths(t *testing.T, windows [][]int32) []int {
	t.Helper()
	lengths, err := lengthsOf(windows)
	if err != nil {
		t.Fatal(err)
	}
	return lengths
}

// spreadFails checks what becomes of errors on one of two devices.
func spreadFails(t *testing.T, src *testmodel.Model, windows [][]int32) {
	t.Helper()
	bad := devicetest.NewRemote(cpu.New(1), ample)
	m := describe(t, src, cpu.New(1))
	m.Spread(bad)
	own := errors.New("own")
	bad.Fail = func(op string) error {
		if op == "Alloc" {
			return own
		}
		return nil
	}
	if err := m.Run(t.Context(), windows, RunOptions{}, nil); !errors.Is(err, own) {
		t.Errorf("error %v", err)
	}
	bad.Fail = func(op string) error {
		if op == "Attention" {
			return own
		}
		return nil
	}
	func() {
		defer func() {
			if f, ok := recover().(*device.Fault); !ok || !errors.Is(f, own) {
				t.Errorf("recovered %v", f)
			}
		}()
		err := m.Run(t.Context(), windows, RunOptions{}, nil)
		t.Errorf("no fault, %v", err)
	}()
	ctx, cancel := context.WithCancel(t.Context())
	opt := RunOptions{Progress: func(done, _ int) {
		if done == 3 {
			cancel()
		}
	}}
	bad.Fail = nil
	if err := m.Run(ctx, windows, opt, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
