package emu

import (
	"fmt"
	"testing"
)

var schedules = []string{"up", "down", "random:1", "random:2"}

// What a kernel without errors computes is right in every order of its threads.
func TestKernels(t *testing.T) {
	for _, test := range []string{"fragments", "loaded", "truncation", "arithmetic", "rows", "ring", "shuffles", "votes", "indices", "parameters", "stale", "wait"} {
		for _, s := range schedules {
			pass(t, "kernels", test, "MODELPRESS_EMU_SCHEDULE="+s)
		}
	}
}

// Neither the order of threads and blocks nor the number of threads that run them shows in the bits.
func TestGrid(t *testing.T) {
	want := ""
	for _, s := range schedules {
		for _, n := range []int{1, 3} {
			got := pass(t, "kernels", "grid", "MODELPRESS_EMU_SCHEDULE="+s, fmt.Sprintf("MODELPRESS_EMU_THREADS=%d", n))
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%s with %d threads: %q, else %q", s, n, got, want)
			}
		}
	}
}

// A kernel that lacks a barrier gives other values in another order, none of them all right.
func TestMissingBarrier(t *testing.T) {
	for _, c := range []struct{ schedule, want string }{{"up", "right ffffffff00000000\n"}, {"down", "right 00000000ffffffff\n"}} {
		if got := pass(t, "kernels", "barrier", "MODELPRESS_EMU_SCHEDULE="+c.schedule); got != c.want {
			t.Errorf("%s: %q, want %q", c.schedule, got, c.want)
		}
	}
	seen := map[string]bool{}
	for seed := range 4 {
		seen[pass(t, "kernels", "barrier", fmt.Sprintf("MODELPRESS_EMU_SCHEDULE=random:%d", seed))] = true
	}
	if len(seen) < 2 || seen["right ffffffffffffffff\n"] {
		t.Errorf("random orders give %v", seen)
	}
}

// Errors end the process with a message that says where.
func TestErrors(t *testing.T) {
	const in = `emu: kernel \w+, block \([01],0,0\), thread `
	for test, pattern := range map[string]string{
		"half_warp":          in + `0 .*waits at __shfl_xor_sync of line \d+, mask ffffffff, and thread 16 has ended`,
		"short_block":        in + `0 .*mask ffffffff has lanes that the block of 16 threads has not`,
		"two_places":         in + `\d+ .*__shfl_xor_sync of line \d+, mask ffffffff, meets thread 0 at __shfl_xor_sync of line \d+`,
		"half_barrier":       in + `0 .*waits at __syncthreads of line \d+, and thread 32 has ended`,
		"two_barriers":       in + `\d+ .*waits at __syncthreads of line \d+ and thread 0 at that of line \d+`,
		"before":             in + `0 .*touches address 0x\w+, 4 bytes before an allocation of 4000`,
		"just_before":        `emu: 4 bytes before an allocation of 4 bytes written`,
		"behind":             `emu: 0 bytes behind an allocation of 4000 bytes written`,
		"far_behind":         in + `.*touches address 0x\w+, \d+ bytes behind the end of an allocation of 4000`,
		"freed":              in + `.*touches address 0x\w+, in memory that has been freed`,
		"host_pointer":       `emu: launch of outside: argument 0 is no memory of the device`,
		"outside_shared":     `emu: .*byte 101 of 100 bytes of dynamic shared memory written`,
		"far_outside_shared": in + `.*touches byte \d+ of 100 bytes of dynamic shared memory`,
		"unaligned":          in + `.*wrong.cu:\d+:\d+: address 0x\w+ is not aligned to 16 bytes`,
		"unaligned_copy":     in + `.*copy16_async from 0x\w+ to 0x\w+: not aligned to 16 bytes`,
		"unaligned_rows":     in + `.*row of ldmatrix is not aligned to 16 bytes`,
		"global_rows":        in + `.*row of ldmatrix is not in shared memory`,
		"beyond":             in + `.*wrong.cu:\d+:\d+: index 4 is outside of the array`,
		"overflow":           in + `.*wrong.cu:\d+:\d+: a product overflows`,
		"stale_ptx":          `emu: kernel overflow has parameter 2 as .u64 in PTX and of 4 bytes in its source`,
		"other_bound":        `emu: kernel sum is bounded to 128 threads in PTX and to 256 in its source`,
	} {
		stops(t, "errors", test, pattern)
	}
}
