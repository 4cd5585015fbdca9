//go:build unix

package num

import "syscall"

// cpuSeconds returns the processor time that this process has used, which a busy machine distorts less than the clock.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
