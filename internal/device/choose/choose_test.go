package choose

import (
	"fmt"
	"testing"
)

func TestParse(t *testing.T) {
	for name, want := range map[string]string{
		"": "{false false []}", "cpu": "{false false []}", "cuda": "{true false []}", "cuda:0": "{true false [0]}",
		"cuda:2,0": "{true false [2 0]}", "cuda:all": "{true true []}",
	} {
		c, err := Parse(name)
		if got := fmt.Sprint(c); err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", name, got, err, want)
		}
	}
	for _, name := range []string{"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1,1", "cuda:0,", "cuda:256", "cpu:0", "CUDA"} {
		if c, err := Parse(name); err == nil {
			t.Errorf("%q: %v and no error", name, c)
		}
	}
}

func TestClasses(t *testing.T) {
	for class, want := range map[string]string{"cpu-fma": "false false", "cpu-bf16-fma": "false false",
		"cuda-f32-sm_90-cublas12.6": "false true", "cuda-bf16-sm_90-cublas12.6": "true true"} {
		bf16, ok := CUDAClass(class)
		if got := fmt.Sprint(bf16, ok); got != want {
			t.Errorf("%s: %s, want %s", class, got, want)
		}
	}
}

func TestSeveral(t *testing.T) {
	for class, want := range map[string]int{"cpu-fma": 1, "cpu-fma-x3": 3, "cuda-bf16-sm_90-cublas12.6-x2": 2, "cuda-x": 1, "a-x1": 1, "a-x-2": 1, "a-x02": 2, "a-x999": 1} {
		if got := Several(class); got != want {
			t.Errorf("%s: %d, want %d", class, got, want)
		}
	}
}

func TestOpenCPU(t *testing.T) {
	for _, bf16 := range []bool{false, true} {
		d, err := Choice{}.Open(Options{Threads: 2, BF16: bf16})
		if err != nil || d.Threads() != 2 {
			t.Fatalf("%v, %v", d, err)
		}
	}
}
