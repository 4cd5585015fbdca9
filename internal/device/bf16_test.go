package device

import "testing"

func TestBF16Attention(t *testing.T) {
	for class, want := range map[string]bool{"cpu-f32": false, "cpu-bf16": false, "cuda-f32-sm_90-cublas12.6": false, "cuda-bf16-sm_90-cublas12.6": true, "": false} {
		if got := BF16Attention(class); got != want {
			t.Errorf("%q: %v", class, got)
		}
	}
}
