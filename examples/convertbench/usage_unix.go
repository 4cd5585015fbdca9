//go:build unix

package main

import (
	"os"
	"runtime"
	"syscall"
)

// peakResident is the largest resident set of a process that has ended, in bytes, 0 where the system does not tell.
func peakResident(p *os.ProcessState) int64 {
	u, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return u.Maxrss
	}
	return u.Maxrss << 10
}
