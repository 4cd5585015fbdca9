//go:build reference

package nn

import (
	"encoding/binary"
	"flag"
	"math"
	"path/filepath"
	"testing"
)

// reference names a directory with ref.safetensors (ids, logits, hidden states, last rows of attention) and val_ids.npy
// of the trained model. They hold text that is not ours to distribute, so this test is built only where someone has them:
//
//	go test -tags reference ./internal/nn -run TestReference -v -reference DIR
var reference = flag.String("reference", "", "directory with reference outputs of the trained model")

func TestReference(t *testing.T) {
	if *reference == "" {
		t.Fatal("give the directory of the reference files: -reference DIR")
	}
	ref := openTensors(t, filepath.Join(*reference, "ref.safetensors"))
	raw := readAll(t, ref, "ids")
	windows := make([][]int32, 2)
	for w := range windows {
		for i := range window {
			windows[w] = append(windows[w], int32(binary.LittleEndian.Uint64(raw[8*(w*window+i):])))
		}
	}
	m := openModel(t, trainedModel)
	t.Run("logits", func(t *testing.T) { referenceLogits(t, m, windows, readTensor(t, ref, "logits")) })
	t.Run("states", func(t *testing.T) {
		d := m.Arch.D
		hidden := map[int][]float32{0: readTensor(t, ref, "hidden_after_layer0"), 3: readTensor(t, ref, "hidden_after_layer3")}
		rows := map[int][]float32{4: readTensor(t, ref, "attn_layer4_lastrow"), 5: readTensor(t, ref, "attn_layer5_lastrow")}
		x := make([]float32, window*d)
		for w, ids := range windows {
			if err := m.Embed(x, ids); err != nil {
				t.Fatal(err)
			}
			for l := range m.Arch.Layers {
				attn := make([]float32, m.Arch.Layers[l].H*window)
				forwardLayer(t, m, l, x, &Pass{TapAttn: func(a *AttnState) { lastRow(attn, a) }})
				if want := hidden[l]; want != nil {
					report(t, "hidden states", l, maxDiff(t, x, want[w*window*d:(w+1)*window*d]))
				}
				if want := rows[l]; want != nil {
					report(t, "last row of attention", l, maxDiff(t, attn, want[w*len(attn):(w+1)*len(attn)]))
				}
			}
		}
	})
	t.Run("perplexity", func(t *testing.T) { referencePerplexity(t, m) })
}

func report(t *testing.T, what string, l int, diff float64) {
	t.Logf("layer %d: %s differ by up to %.3g", l, what, diff)
	if diff > 2e-3 {
		t.Errorf("layer %d: %s differ by up to %g", l, what, diff)
	}
}

func forwardLayer(t *testing.T, m *Model, l int, x []float32, p *Pass) {
	b, err := m.LoadBlock(l)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Free()
	if err := b.Forward(x, window, p); err != nil {
		t.Fatal(err)
	}
}

func referenceLogits(t *testing.T, m *Model, windows [][]int32, want []float32) {
	for w, ids := range windows {
		got, err := m.Logits(ids)
		if err != nil {
			t.Fatal(err)
		}
		n := window * m.Arch.V
		diff := maxDiff(t, got, want[w*n:(w+1)*n])
		t.Logf("window %d: logits differ by up to %.3g", w, diff)
		if diff > 2e-3 {
			t.Errorf("window %d: logits differ by up to %g", w, diff)
		}
	}
	got := meanOf(windowNLL(t, m, windows, RunOptions{}))
	t.Logf("mean nll %.7f", got)
	if math.Abs(got-1.9408229) > 1e-5 {
		t.Errorf("mean nll %.7f, want 1.9408229", got)
	}
}

// referencePerplexity scores the first 256 windows of 512 ids, the first id of each replaced by 0.
func referencePerplexity(t *testing.T, m *Model) {
	raw := npyData(t, filepath.Join(*reference, "val_ids.npy"), "<u2")
	windows := uint16Windows(raw[:256*2*window])
	for _, w := range windows {
		w[0] = 0
	}
	got := meanOf(windowNLL(t, m, windows, RunOptions{}))
	t.Logf("256 windows: nll %.6f, perplexity %.4f", got, math.Exp(got))
	if math.Abs(math.Exp(got)/6.2220-1) > 1e-3 {
		t.Errorf("perplexity %.4f, want 6.2220", math.Exp(got))
	}
}

// windowNLL returns the mean negative log-likelihood of each window's tokens after the first.
func windowNLL(t testing.TB, m *Model, windows [][]int32, opt RunOptions) []float64 {
	t.Helper()
	out := make([]float64, len(windows))
	err := m.Run(t.Context(), windows, opt, func(i int, hidden []float32) error {
		ids := windows[i]
		return m.Head(hidden, len(ids)-1, 128, func(row, rows int, logits []float32) error {
			for r := range rows {
				out[i] += nll(logits[r*m.Arch.V:(r+1)*m.Arch.V], ids[row+r+1]) / float64(len(ids)-1)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func meanOf(v []float64) float64 {
	s := 0.0
	for _, x := range v {
		s += x
	}
	return s / float64(len(v))
}
