//go:build amd64 && !noasm

package num

import "syscall"

// amxAllowed asks the kernel for the tile registers, which it saves for a process only on request (arch_prctl with
// ARCH_REQ_XCOMP_PERM for XFEATURE_XTILEDATA). The permission holds for all threads.
func amxAllowed() bool {
	const request, tileData = 0x1023, 18
	_, _, errno := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, request, tileData, 0)
	return errno == 0
}
