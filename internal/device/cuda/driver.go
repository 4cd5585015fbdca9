//go:build cuda

package cuda

// The linker finds an empty libcuda in stub, whatever else is installed: no program depends on the driver to start.

//#cgo CFLAGS: -O2 -Wall
//#cgo noescape launch_kernel
//#cgo nocallback launch_kernel
//#cgo LDFLAGS: -L${SRCDIR}/stub -Wl,--as-needed -ldl -lpthread
//#include <stdlib.h>
//#include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"

	cu "gorgonia.org/cu"
)

// openDriver opens and initializes the driver where that has not been done. The error is ErrNoDriver where there is none, and
// ErrNoDevice where it has nothing to drive.
func openDriver() error {
	var code C.int
	var text *C.char
	switch state := C.driver_open(&code, &text); state {
	case C.DRIVER_READY:
		return nil
	case C.DRIVER_NONE:
		return fmt.Errorf("%w: %s", ErrNoDriver, C.GoString(text))
	}
	err := &Error{Op: "cuInit", Code: int(code)}
	if err.Code == codeNoDevice {
		return fmt.Errorf("%w: %w", ErrNoDevice, err)
	}
	return err
}

// driverPath is where the driver was found.
func driverPath() string {
	var code C.int
	var text *C.char
	if C.driver_open(&code, &text) == C.DRIVER_NONE {
		return ""
	}
	return C.GoString(text)
}

// codeName and codeText are what the driver says of one of its results, "" where it does not know it.
func codeName(code int) string {
	var s *C.char
	if C.cuGetErrorName(C.int(code), &s) != 0 || s == nil {
		return ""
	}
	return C.GoString(s)
}

func codeText(code int) string {
	var s *C.char
	if C.cuGetErrorString(C.int(code), &s) != 0 || s == nil {
		return ""
	}
	return C.GoString(s)
}

// hostAlloc returns memory of the host that the device copies from and to without the processor.
func hostAlloc(n int) ([]byte, error) {
	var p unsafe.Pointer
	if code := C.cuMemHostAlloc(&p, C.size_t(n), 0); code != 0 {
		return nil, &Error{Op: "cuMemHostAlloc", Code: int(code), Detail: fmt.Sprintf("%d bytes of pinned memory", n)}
	}
	return unsafe.Slice((*byte)(p), n), nil
}

// allowShared lets a function have that much dynamic shared memory.
func allowShared(fn cu.Function, bytes int) error {
	const maxDynamicSharedSize = 8 // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
	if code := C.cuFuncSetAttribute(handle(&fn), maxDynamicSharedSize, C.int(bytes)); code != 0 {
		return &Error{Op: "cuFuncSetAttribute", Code: int(code), Detail: fmt.Sprintf("%d bytes of shared memory", bytes)}
	}
	return nil
}

const maxArgs = C.MAX_ARGUMENTS

// launch queues a kernel with n arguments in boxes.
func launch(fn cu.Function, grid, block [3]int, shared int, stream cu.Stream, boxes *[maxArgs]uint64, n int) error {
	dims := [6]C.uint{C.uint(grid[0]), C.uint(grid[1]), C.uint(grid[2]), C.uint(block[0]), C.uint(block[1]), C.uint(block[2])}
	code := C.launch_kernel(handle(&fn), &dims[0], &dims[3], C.uint(shared), unsafe.Pointer(stream.C()), (*C.ulonglong)(&boxes[0]), C.int(n))
	if code != 0 {
		return &Error{Op: "cuLaunchKernel", Code: int(code), Detail: fmt.Sprintf("%v blocks of %v threads with %d bytes of shared memory", grid, block, shared)}
	}
	return nil
}

// handle is the CUfunction that a cu.Function, a struct of it alone, keeps to itself.
func handle(fn *cu.Function) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(fn)) }

// library opens the first of the shared libraries that is found, and says where, or why none is.
func library(names ...string) (handle unsafe.Pointer, where string) {
	const size = 1024
	text := (*C.char)(C.malloc(size))
	defer C.free(unsafe.Pointer(text))
	for _, name := range names {
		c := C.CString(name)
		handle = C.library_open(c, text, size)
		C.free(unsafe.Pointer(c))
		if handle != nil {
			return handle, C.GoString(text)
		}
		if where == "" {
			where = C.GoString(text)
		}
	}
	return nil, where
}

// symbol returns the address of a function of a library, nil where it has none of that name.
func symbol(library unsafe.Pointer, name string) unsafe.Pointer {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	return C.library_symbol(library, c)
}
