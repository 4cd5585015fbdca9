package nn

import (
	"context"
	"errors"
	"math"
	"os"
	"slices"
	"testing"

	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// TestRunStates: states in memory, in a file and half-half give the same bits, in the order of the windows.
func TestRunStates(t *testing.T) {
	m := describe(t, testmodel.Named("mistral-swa"), cpu.New(2))
	var windows [][]int32
	var lengths []int
	for i, n := range []int{5, 40, 1, 17} {
		windows = append(windows, testmodel.Windows(1, n, m.Arch.V, uint64(i))[0])
		lengths = append(lengths, n)
	}
	var want [][]float32
	for _, limit := range []int64{0, 1, 45 * 4 * int64(m.Arch.D)} {
		dir := t.TempDir()
		s, err := NewStates(dir, lengths, m.Arch.D, limit)
		if err != nil {
			t.Fatal(err)
		}
		if s.Spilled() == (limit == 0) {
			t.Errorf("limit %d: spilled %t", limit, s.Spilled())
		}
		var got [][]float32
		progress := 0
		opt := RunOptions{States: s, Progress: func(done, total int) {
			if progress++; done != progress || total != 8 {
				t.Errorf("progress %d of %d", done, total)
			}
		}}
		err = m.Run(t.Context(), windows, opt, func(i int, hidden []float32) error {
			if i != len(got) || len(hidden) != lengths[i]*m.Arch.D {
				t.Errorf("window %d with %d values", i, len(hidden))
			}
			got = append(got, slices.Clone(hidden))
			return nil
		})
		if err != nil || progress != 8 {
			t.Fatalf("%d passes, %v", progress, err)
		}
		if want == nil {
			want = got
		}
		for i := range got {
			if d := maxDiff(t, got[i], want[i]); d != 0 {
				t.Errorf("limit %d, window %d: differs by %g", limit, i, d)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("%d files left, %v", len(left), err)
		}
	}
}

// TestRunStops: Run ends with the error of the context or of the callback.
func TestRunStops(t *testing.T) {
	m := describe(t, testmodel.Named("llama-mha"), cpu.New(1))
	windows := testmodel.Windows(3, 8, m.Arch.V, 1)
	ctx, cancel := context.WithCancel(t.Context())
	passes := 0
	opt := RunOptions{Progress: func(done, _ int) {
		if passes = done; done == 4 {
			cancel()
		}
	}}
	if err := m.Run(ctx, windows, opt, nil); !errors.Is(err, context.Canceled) || passes != 4 {
		t.Errorf("after %d passes: %v", passes, err)
	}
	own := errors.New("own")
	if err := m.Run(t.Context(), windows, RunOptions{}, func(int, []float32) error { return own }); err != own {
		t.Errorf("error %v", err)
	}
	if err := m.Run(t.Context(), [][]int32{{1}, {}}, RunOptions{}, nil); err == nil {
		t.Error("an empty window is accepted")
	}
	if err := m.Run(t.Context(), nil, RunOptions{}, nil); err != nil {
		t.Errorf("no windows: %v", err)
	}
	if _, err := NewStates("/nonexistent-directory", []int{4}, 4, 1); err == nil {
		t.Error("a missing directory is accepted")
	}
}

// TestHeadChunks: the number of rows a chunk changes no bit of the logits.
func TestHeadChunks(t *testing.T) {
	m := describe(t, testmodel.Named("qwen2-tied"), cpu.New(2))
	const n = 23
	x := make([]float32, n*m.Arch.D)
	for i := range x {
		x[i] = float32(math.Cos(float64(i)))
	}
	var want []float32
	for _, chunk := range []int{n, 100, 1, 7} {
		var got []float32
		err := m.Head(x, n, chunk, func(row, rows int, l []float32) error {
			if row*m.Arch.V != len(got) || len(l) != rows*m.Arch.V {
				t.Errorf("row %d, %d rows, %d logits", row, rows, len(l))
			}
			got = append(got, l...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		if d := maxDiff(t, got, want); d != 0 {
			t.Errorf("chunks of %d: differs by %g", chunk, d)
		}
	}
	m.Release()
	if err := m.Head(x, 0, 1, nil); err != nil {
		t.Errorf("no rows: %v", err)
	}
}

// TestRunOutput: what Run shows of each layer are the inputs that the way back starts from.
func TestRunOutput(t *testing.T) {
	m := describe(t, testmodel.Named("llama-mha"), cpu.New(2))
	windows := testmodel.Windows(2, 7, m.Arch.V, 3)
	got := map[[2]int][]float32{}
	opt := RunOptions{Output: func(l, w int, x []float32) error { got[[2]int{l, w}] = slices.Clone(x); return nil }}
	err := m.Run(t.Context(), windows, opt, func(w int, x []float32) error {
		if !slices.Equal(x, got[[2]int{len(m.Arch.Layers) - 1, w}]) {
			t.Errorf("window %d: the last output is not the final state", w)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	back := BackOptions{Output: func(l, w int, x, _ []float32) error {
		seen++
		if !slices.Equal(x, got[[2]int{l, w}]) {
			t.Errorf("layer %d, window %d differs", l, w)
		}
		return nil
	}}
	if err := m.Back(t.Context(), windows, back, func(int, []float32, []float32) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if seen != 2*len(m.Arch.Layers) || len(got) != seen+2 {
		t.Errorf("%d and %d outputs", seen, len(got))
	}
	own := errors.New("own")
	opt.Output = func(l, _ int, _ []float32) error {
		if l == 0 {
			return own
		}
		return nil
	}
	if err := m.Run(t.Context(), windows, opt, nil); !errors.Is(err, own) {
		t.Errorf("error %v", err)
	}
}
