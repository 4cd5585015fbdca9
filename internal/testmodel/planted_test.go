package testmodel

import "testing"

func TestPlantedPrompts(t *testing.T) {
	p := NewPlanted(1)
	for _, q := range p.Prompts(20, 64, 3, 9) {
		count := map[int32]int{}
		for _, id := range q.IDs {
			count[id]++
		}
		key := q.IDs[len(q.IDs)-1]
		if len(q.IDs) != 64 || q.IDs[q.NeedleLo-1] != key || count[key] != 2 || q.NeedleHi-q.NeedleLo != 3 {
			t.Fatalf("%+v", q)
		}
		for i, a := range q.Answer {
			if q.IDs[q.NeedleLo+i] != a || count[a] != 1 {
				t.Fatalf("answer %d of %+v", i, q)
			}
		}
	}
}

// TestHadamardCodes: patterns are orthogonal, so that a head tells tokens apart by their dot product.
func TestHadamardCodes(t *testing.T) {
	c := hadamardCodes(16)
	for i := range c {
		for j := range c {
			var dot float32
			for k := range c[i] {
				dot += c[i][k] * c[j][k]
			}
			if want := map[bool]float32{true: 16, false: 0}[i == j]; dot != want {
				t.Errorf("%d·%d = %g", i, j, dot)
			}
		}
	}
}
