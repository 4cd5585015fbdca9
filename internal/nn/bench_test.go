package nn

import (
	"testing"

	"modelpress/formats"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// wide returns a model of one layer with the widths of Llama-3.2-1B in bf16.
func wide(b *testing.B) *Model {
	opt := testmodel.Llama32x1B()
	opt.Layers, opt.V, opt.DType = 1, 1024, formats.BF16
	return describe(b, testmodel.New(opt), cpu.New(0))
}

// BenchmarkForward: one block of Llama-3.2-1B over 512 tokens, 2*60.8e6 operations a token beside attention.
func BenchmarkForward(b *testing.B) {
	m := wide(b)
	block, err := m.LoadBlock(0)
	if err != nil {
		b.Fatal(err)
	}
	x := make([]float32, 512*m.Arch.D)
	for i := range x {
		x[i] = float32(i%13) - 6
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := block.Forward(x, 512, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoadBlock: 122 MB of bf16 from a source that makes them up.
func BenchmarkLoadBlock(b *testing.B) {
	m := wide(b)
	b.SetBytes(2 * 60821504)
	for b.Loop() {
		block, err := m.LoadBlock(0)
		if err != nil {
			b.Fatal(err)
		}
		block.Free()
	}
}
