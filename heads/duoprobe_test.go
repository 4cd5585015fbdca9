package heads

import (
	"math"
	"reflect"
	"testing"

	"modelpress/calib"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// TestDuoProbeFindsPlantedHeads: the planted heads have the largest slopes.
func TestDuoProbeFindsPlantedHeads(t *testing.T) {
	p, m := duoModel(t, 2)
	s, err := DuoProbe(t.Context(), m, duoPrompts(p, 6), StreamingOptions{Sink: 4, Recent: 16})
	if err != nil {
		t.Fatal(err)
	}
	if best := SelectCount(s.KV, 2); !reflect.DeepEqual(best.Full, p.Retrieval) {
		t.Errorf("selected %v of %v", best.Full, s.KV)
	}
}

// TestDuoProbeIsTheSlope: the score of a head is the slope of the answer's NLL where that head alone goes from full to
// streaming a little.
func TestDuoProbeIsTheSlope(t *testing.T) {
	const sink, recent = 1, 5
	m := open(t, testmodel.Named("qwen3"))
	ids := testmodel.Windows(1, 30, m.Arch.V, 2)[0]
	prompt := calib.Prompt{IDs: ids[:25], Answer: ids[25:], NeedleLo: 1, NeedleHi: 5}
	s, err := DuoProbe(t.Context(), m, []calib.Prompt{prompt}, StreamingOptions{Sink: sink, Recent: recent})
	if err != nil {
		t.Fatal(err)
	}
	nll := func(layer, head int, alpha float32) float64 {
		pass := func(l, _ int) *nn.Pass {
			if l != layer {
				return nil
			}
			mix := &nn.Mix{Masks: make([]device.Mask, 2), Alpha: []float32{1, 1}}
			for g := range mix.Masks {
				mix.Masks[g] = device.Mask{Sink: sink, Recent: recent}
			}
			mix.Alpha[head] = alpha
			return &nn.Pass{Mix: mix}
		}
		var loss float64
		err := m.Run(t.Context(), [][]int32{prompt.Sequence()}, nn.RunOptions{Pass: pass}, func(_ int, h []float32) (err error) {
			loss, err = m.HeadBack(nil, h[len(h)-5*m.Arch.D:], prompt.Answer, 5)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return loss / 5
	}
	top := 0.0
	for _, row := range s.KV {
		for _, v := range row {
			top = math.Max(top, v)
		}
	}
	for l, row := range s.KV {
		for g, v := range row {
			want := math.Abs(nll(l, g, 1+1.0/64)-nll(l, g, 1-1.0/64)) * 32
			if !near(v, want, 0.01*top) {
				t.Errorf("head %d.%d: slope %g, difference %g", l, g, v, want)
			}
		}
	}
}
