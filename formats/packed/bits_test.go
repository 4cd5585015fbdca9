package packed

import (
	"slices"
	"testing"

	"modelpress/formats"
)

func TestPackWorkedExamples(t *testing.T) {
	for _, c := range []struct {
		bits  int
		codes []int8
		word  uint32
	}{
		{4, []int8{-8, -7, -1, 0, 1, 2, 6, 7}, 0xFEA98710},
		{8, []int8{-128, -1, 0, 127}, 0xFF807F00},
		{4, []int8{-8, 7, 1, -1, 3, 0, 2, -6}, 0x2A8B79F0},
		{4, []int8{-8, 7, -2, -5, 1, -4, 0, -6}, 0x284936F0},
	} {
		w := Pack(c.codes, 1, len(c.codes), c.bits)
		if len(w) != 1 || uint32(w[0]) != c.word {
			t.Errorf("%d bits %v: %#x, want %#08x", c.bits, c.codes, w, c.word)
		}
		if got := Unpack(w, 1, len(c.codes), c.bits); !slices.Equal(got, c.codes) {
			t.Errorf("%#08x unpacks to %v", c.word, got)
		}
		// The same codes as zero points of one group lie in the same bits, one output row after the other.
		if z := PackZeros(c.codes, len(c.codes), 1, c.bits); len(z) != 1 || uint32(z[0]) != c.word {
			t.Errorf("%d bits zeros %v: %#x, want %#08x", c.bits, c.codes, z, c.word)
		}
	}
}

func TestZerosOfSeveralGroups(t *testing.T) {
	const out, groups = 11, 3
	for _, bits := range []int{4, 8} {
		zeros := make([]int8, out*groups)
		for i := range zeros {
			zeros[i] = int8(i*7%(1<<bits) - 1<<(bits-1))
		}
		w := PackZeros(zeros, out, groups, bits)
		if want := int(words(out, bits)) * groups; len(w) != want {
			t.Fatalf("%d words, want %d", len(w), want)
		}
		if got := UnpackZeros(w, out, groups, bits); !slices.Equal(got, zeros) {
			t.Errorf("%d bits: zeros do not come back", bits)
		}
		// Column g of the words is the packed column g of the zeros.
		for g := range groups {
			var column []int8
			for o := range out {
				column = append(column, zeros[o*groups+g])
			}
			for r, v := range Pack(column, 1, out, bits) {
				if w[r*groups+g] != v {
					t.Errorf("%d bits: word [%d, %d] differs", bits, r, g)
				}
			}
		}
	}
}

func TestPackTailIsZero(t *testing.T) {
	w := Pack([]int8{7, 7, 7, 7, 7, 7, 7, 7, 7}, 1, 9, 4)
	if len(w) != 2 || w[1] != 15 {
		t.Errorf("words %#x", w)
	}
}

func TestTensors(t *testing.T) {
	got := PackQuantized{Scheme: Scheme{4, 64, false}, Scales: formats.BF16}.Tensors("model.layers.0.mlp.down_proj", 256, 704)
	want := []formats.TensorInfo{
		{Name: "model.layers.0.mlp.down_proj.weight_packed", DType: formats.I32, Shape: []int64{256, 88}},
		{Name: "model.layers.0.mlp.down_proj.weight_scale", DType: formats.BF16, Shape: []int64{256, 11}},
		{Name: "model.layers.0.mlp.down_proj.weight_shape", DType: formats.I64, Shape: []int64{2}},
		{Name: "model.layers.0.mlp.down_proj.weight_zero_point", DType: formats.I32, Shape: []int64{32, 11}},
	}
	if !slices.EqualFunc(got, want, func(a, b formats.TensorInfo) bool {
		return a.Name == b.Name && a.DType == b.DType && slices.Equal(a.Shape, b.Shape)
	}) {
		t.Errorf("got %v", got)
	}
	if n := len(PackQuantized{Scheme: Scheme{8, -1, true}, Scales: formats.F16}.Tensors("m", 3, 5)); n != 3 {
		t.Errorf("symmetric weight has %d tensors", n)
	}
}

func TestSchemeCheck(t *testing.T) {
	for _, c := range []struct {
		s       Scheme
		out, in int64
		ok      bool
	}{
		{Scheme{4, 128, true}, 8, 256, true},
		{Scheme{8, -1, true}, 8, 77, true},
		{Scheme{3, 128, true}, 8, 256, false},
		{Scheme{4, 128, true}, 8, 200, false},
		{Scheme{4, 0, true}, 8, 200, false},
		{Scheme{4, -2, true}, 8, 200, false},
		{Scheme{4, 64, true}, 0, 64, false},
		{Scheme{4, 64, true}, 1, -64, false},
		{Scheme{4, 64, true}, 1 << 40, 64, false},
	} {
		if err := c.s.Check(c.out, c.in); (err == nil) != c.ok {
			t.Errorf("%v [%d, %d]: %v", c.s, c.out, c.in, err)
		}
	}
}
