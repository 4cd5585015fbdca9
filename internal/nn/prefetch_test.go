package nn_test

import (
	"slices"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// recorder is a source that notes what it is asked to read ahead.
type recorder struct {
	formats.Source
	asked []string
}

func (r *recorder) Prefetch(names []string) { r.asked = append(r.asked, names...) }

// Run asks for every layer but the first, in order, before it is needed, and for none twice.
func TestRunReadsAhead(t *testing.T) {
	m := testmodel.New(testmodel.Cases()[0].Options)
	src := &recorder{Source: m}
	a, err := arch.Describe(m.Config, src)
	if err != nil {
		t.Fatal(err)
	}
	if err := nn.New(cpu.New(1), src, a).Run(t.Context(), [][]int32{{1, 2, 3}}, nn.RunOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	var want []string
	for l := 1; l < len(a.Layers); l++ {
		want = append(want, a.LayerTensors(l)...)
	}
	if !slices.Equal(src.asked, want) {
		t.Errorf("asked for %q, want %q", src.asked, want)
	}
}
