//go:build cuda

package cuda

//#include "blas.h"
import "C"

import (
	"fmt"
	"math"
	"unsafe"

	cu "gorgonia.org/cu"

	"modelpress/internal/device"
)

// blas is cuBLAS on the compute stream.
type blas struct {
	functions C.struct_blas
	handle    unsafe.Pointer
	workspace cu.DevicePtr
	version   string // such as 12.6.4
}

// workspaceBytes is what NVIDIA recommends for sm_90. It is set so that results do not depend on what else runs (cuBLAS Library, section
// 2.1.4).
const workspaceBytes = 32 << 20

func blasNames() []string { return []string{"libcublas.so.13", "libcublas.so.12", "libcublas.so.11"} }

// openBlas opens the newest cuBLAS that works with the driver; nil where there is none.
func openBlas(stream cu.Stream) (*blas, error) {
	C.tf32_off()
	var last error
	for _, name := range blasNames() {
		lib, where := library(name)
		if lib == nil {
			continue
		}
		b, err := newBlas(lib, where, stream)
		if err == nil {
			return b, nil
		}
		last = err
	}
	return nil, last
}

func newBlas(lib unsafe.Pointer, where string, stream cu.Stream) (*blas, error) {
	b := &blas{}
	if missing := C.blas_open(&b.functions, lib); missing != nil {
		return nil, fmt.Errorf("cuda: %s has no %s", where, C.GoString(missing))
	}
	if err := blasError("cublasCreate", C.blas_create(&b.functions, &b.handle), where); err != nil {
		return nil, err
	}
	if err := b.setup(stream, where); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *blas) setup(stream cu.Stream, where string) error {
	var major, minor, patch C.int
	if err := blasError("cublasGetProperty", C.blas_version(&b.functions, &major, &minor, &patch), where); err != nil {
		return err
	}
	b.version = fmt.Sprintf("%d.%d.%d", major, minor, patch)
	var err error
	if b.workspace, err = cu.MemAlloc(workspaceBytes); err != nil {
		return failed("cuMemAlloc", err, "workspace of cuBLAS")
	}
	return blasError("cublasSetStream", C.blas_setup(&b.functions, b.handle, unsafe.Pointer(stream.C()), C.ulonglong(b.workspace), workspaceBytes), where)
}

func (b *blas) close() {
	_ = C.blas_destroy(&b.functions, b.handle)
	if b.workspace != 0 {
		_ = cu.MemFree(b.workspace)
	}
}

// blasError is the error of a status of cuBLAS, nil for success.
func blasError(op string, status C.int, detail string) error {
	if status == 0 {
		return nil
	}
	names := map[C.int]string{1: "CUBLAS_STATUS_NOT_INITIALIZED", 3: "CUBLAS_STATUS_ALLOC_FAILED", 7: "CUBLAS_STATUS_INVALID_VALUE",
		8: "CUBLAS_STATUS_ARCH_MISMATCH", 11: "CUBLAS_STATUS_MAPPING_ERROR", 13: "CUBLAS_STATUS_EXECUTION_FAILED", 14: "CUBLAS_STATUS_INTERNAL_ERROR",
		15: "CUBLAS_STATUS_NOT_SUPPORTED", 16: "CUBLAS_STATUS_LICENSE_ERROR"}
	return &Error{Op: op, Code: int(status), Name: names[status], Detail: detail}
}

// gemm is C[M,N] = A[M,K]·B[K,N] + beta*C, row after row, c in f32. With beta 0 the old C is not read.
type gemm struct {
	m, n, k       int
	c, a, b       ptr
	ta, tb        bool        // a is stored as [K,M], b as [N,K]
	lda, ldb, ldc int         // elements from one stored row to the next; 0 where rows follow one another
	kind          device.Kind // of a and b
	beta          float32
}

// gemm multiplies on cuBLAS, or on kernels of this package where there is none.
func (c *call) gemm(g gemm) {
	if g.m == 0 || g.n == 0 {
		return
	}
	if g.m < 0 || g.n < 0 || g.k < 0 || max(g.m, g.n, g.k, g.lda, g.ldb, g.ldc) > math.MaxInt32 {
		panic(fmt.Sprintf("cuda: %s: a product of %dx%dx%d", c.op, g.m, g.n, g.k))
	}
	g.fill()
	switch {
	case g.k == 0:
		c.scale(g)
	case c.d.blas == nil:
		c.ownGemm(g)
	default:
		c.fail(c.d.blas.gemm(g))
	}
}

// fill replaces row lengths that are left at 0.
func (g *gemm) fill() {
	stored := func(ld *int, rows, columns int, turned bool) {
		if *ld == 0 && turned {
			*ld = rows
		} else if *ld == 0 {
			*ld = columns
		}
	}
	stored(&g.lda, g.m, g.k, g.ta)
	stored(&g.ldb, g.k, g.n, g.tb)
	stored(&g.ldc, g.m, g.n, false)
}

// scale: C = beta*C, which is a product over nothing.
func (c *call) scale(g gemm) {
	if g.beta == 1 {
		return
	}
	if g.beta == 0 && g.ldc == g.n {
		c.clear(g.c, 4*int64(g.m)*int64(g.n))
		return
	}
	c.launch("convert", "scale", [3]int{blocks(int64(g.m)*int64(g.n), 256), 1, 1}, [3]int{256, 1, 1}, 0, g.c, int64(g.m), int64(g.n), int64(g.ldc), g.beta)
}

// blocks is the number of blocks of so many threads for n elements.
func blocks(n int64, threads int64) int {
	return int((n + threads - 1) / threads)
}

// gemm: in the order of columns that is Cᵀ = Bᵀ·Aᵀ, with the operands as they are stored.
func (b *blas) gemm(g gemm) error {
	types := map[device.Kind]C.int{device.F32: 0, device.F16: 2, device.BF16: 14} // CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF
	turn := map[bool]C.int{true: 1}                                               // CUBLAS_OP_T, else CUBLAS_OP_N
	kind := types[g.kind]
	status := C.blas_gemm(&b.functions, b.handle, turn[g.tb], turn[g.ta], C.int(g.n), C.int(g.m), C.int(g.k),
		C.ulonglong(g.b), kind, C.int(g.ldb), C.ulonglong(g.a), kind, C.int(g.lda), C.float(g.beta), C.ulonglong(g.c), C.int(g.ldc))
	return blasError("cublasGemmEx", status, fmt.Sprintf("%dx%dx%d", g.m, g.n, g.k))
}
