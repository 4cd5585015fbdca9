//go:build cuda

package cuda

//#include "libs.h"
import "C"

import (
	"fmt"
	"math"
	"unsafe"

	cu "gorgonia.org/cu"
)

// solver is cuSOLVER on the compute stream.
type solver struct {
	functions C.struct_solver
	handle    unsafe.Pointer
}

// solverNames lists the libraries of cuSOLVER, that which belongs to a version of cuBLAS first.
func solverNames(blas int) []string {
	if blas == 13 || blas == 0 {
		return []string{"libcusolver.so.12", "libcusolver.so.11"}
	}
	return []string{"libcusolver.so.11", "libcusolver.so.12"}
}

// openSolver opens cuSOLVER; nil where there is none that works.
func openSolver(stream cu.Stream, blas int) *solver {
	for _, name := range solverNames(blas) {
		lib, _ := library(name)
		if lib == nil {
			continue
		}
		s := &solver{}
		if C.solver_open(&s.functions, lib) == nil && C.solver_create(&s.functions, &s.handle, unsafe.Pointer(stream.C())) == 0 {
			return s
		}
	}
	return nil
}

func (s *solver) close() { _ = C.solver_destroy(&s.functions, s.handle) }

// potrf factors the symmetric matrix a, [n,n] in float64 with rows of ld elements, in place: a = L·Lᵀ in the lower triangle, which is the
// only one that is read, or a = Uᵀ·U in the upper one. Its order is that of rows. ok is false where there is no cuSOLVER, and nothing has
// been done. Else pivot is 0, or the number, from 1 on, of the first minor that is not positive definite.
func (c *call) potrf(a ptr, n, ld int, lower bool) (pivot int, ok bool) {
	s := c.d.solver
	if s == nil {
		return 0, false
	}
	if n == 0 {
		return 0, true
	}
	if n < 0 || ld < n || ld > math.MaxInt32 {
		panic(fmt.Sprintf("cuda: %s: a matrix of %d columns and rows of %d", c.op, n, ld))
	}
	uplo := C.int(0) // the lower triangle in the order of columns
	if lower {
		uplo = 1
	}
	var size C.int
	c.fail(solverError("cusolverDnDpotrf_bufferSize", C.solver_potrf_size(&s.functions, s.handle, uplo, C.int(n), C.ulonglong(a), C.int(ld), &size), n))
	work, info := c.scratch(8*int64(size)), c.scratch(4)
	c.fail(solverError("cusolverDnDpotrf", C.solver_potrf(&s.functions, s.handle, uplo, C.int(n), C.ulonglong(a), C.int(ld), C.ulonglong(work), size, C.ulonglong(info)), n))
	result := []int32{0}
	c.fetch(intBytes(result), info)
	if result[0] < 0 {
		panic(fmt.Sprintf("cuda: %s: cusolverDnDpotrf refuses its argument %d", c.op, -result[0]))
	}
	return int(result[0]), true
}

func solverError(op string, status C.int, n int) error {
	if status == 0 {
		return nil
	}
	names := map[C.int]string{1: "CUSOLVER_STATUS_NOT_INITIALIZED", 2: "CUSOLVER_STATUS_ALLOC_FAILED", 3: "CUSOLVER_STATUS_INVALID_VALUE",
		4: "CUSOLVER_STATUS_ARCH_MISMATCH", 5: "CUSOLVER_STATUS_MAPPING_ERROR", 6: "CUSOLVER_STATUS_EXECUTION_FAILED", 7: "CUSOLVER_STATUS_INTERNAL_ERROR"}
	return &Error{Op: op, Code: int(status), Name: names[status], Detail: fmt.Sprintf("a matrix of %d columns", n)}
}
