package importance

import (
	"fmt"
	"math"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/internal/nn"
	"modelpress/prune"
)

// Options says how a model is run for a measure. The zero value keeps all hidden states in memory.
type Options struct {
	Dir      string                // where hidden states go once they pass MemLimit; "" for the system's temporary directory
	MemLimit int64                 // bytes of hidden states kept in memory; 0 for no limit
	Progress func(done, total int) // may be nil
}

// windowsName stands for the file in errors about windows.
const windowsName = "calibration data"

// checkWindows refuses windows of fewer than least tokens, and none at all.
func checkWindows(w calib.Windows, least int) error {
	if len(w.IDs) == 0 {
		return formats.Errorf(windowsName, "", "holds no windows")
	}
	for i, ids := range w.IDs {
		if len(ids) < least {
			return formats.Errorf(windowsName, "", "window %d has %d tokens, and %d are needed", i, len(ids), least)
		}
	}
	return nil
}

// lengthsOf returns the number of tokens of each window.
func lengthsOf(windows [][]int32) []int {
	out := make([]int, len(windows))
	for i, ids := range windows {
		out[i] = len(ids)
	}
	return out
}

// headRows is the number of rows whose logits are made at a time: 64 MiB of them at most.
func headRows(m *nn.Model) int { return min(max(16<<20/m.Arch.V, 1), 1024) }

// empty returns zeros for every unit of a model; nil for sub-layers that a layer lacks.
func empty(m *nn.Model) *prune.Scores {
	s := &prune.Scores{Hidden: make([]float64, m.Arch.D), Layers: make([]prune.LayerScores, len(m.Arch.Layers))}
	for l := range s.Layers {
		if a := &m.Arch.Layers[l]; a.HasAttention() {
			s.Layers[l].Heads = make([]float64, a.G)
		}
		if a := &m.Arch.Layers[l]; a.HasFFN() {
			s.Layers[l].FFN = make([]float64, a.F)
		}
	}
	return s
}

// finite refuses scores that are not finite numbers, which cannot be compared.
func finite(s *prune.Scores) error {
	check := func(what string, l int, v ...float64) error {
		for i, x := range v {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return fmt.Errorf("importance: layer %d: score of %s %d: %w", l, what, i, calib.ErrNotFinite)
			}
		}
		return nil
	}
	err := check("channel", -1, s.Hidden...)
	for l := range s.Layers {
		for _, e := range []error{check("KV head", l, s.Layers[l].Heads...), check("FFN channel", l, s.Layers[l].FFN...),
			check("the layer,", l, s.Layers[l].Layer)} {
			if err == nil {
				err = e
			}
		}
	}
	return err
}
