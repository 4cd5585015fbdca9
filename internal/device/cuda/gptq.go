//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"unsafe"

	"modelpress/internal/device"
)

// gptqBlock is how many columns are finished before the next ones are brought up to date by one product.
const gptqBlock = 256 // a multiple of every group but that of a whole row

// rounding is a matrix [out, n] that is being rounded, in scratch of an operation: out*n bytes of codes, and for each group of columns of a
// row 4 bytes of scale, 1 of zero point and 4 to say that it has no grid.
type rounding struct {
	*call
	device.Rounding
	out, n int

	codes, scales, zeros ptr // zeros is 0 where all are 0
	bad, flag            ptr // see gptq_grids
}

func (c *call) rounding(out, n int, r device.Rounding) *rounding {
	if r.Group < 1 || n%r.Group != 0 || r.Bits < 2 || r.Bits > 8 || r.Store > device.F16 {
		panic(fmt.Sprintf("cuda: %s: %d columns under %+v", c.op, n, r))
	}
	z := &rounding{call: c, Rounding: r, out: out, n: n}
	groups := int64(z.groups())
	z.codes, z.scales = c.scratch(int64(c.count(out, n))), c.scratch(4*groups)
	if !r.Symmetric {
		z.zeros = c.scratch(groups)
	}
	z.bad, z.flag = c.zeroed(4*groups), c.zeroed(4)
	return z
}

// groups is the number of groups of the whole matrix.
func (z *rounding) groups() int { return z.out * (z.n / z.Group) }

// finder is the arguments of kernels that choose grids: quantize.newFinder.
func (z *rounding) finder() []any {
	flag := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	least, most := math.Float32frombits(1<<23), float32(math.MaxFloat32)
	switch z.Store {
	case device.F16:
		least, most = 1.0/(1<<14), 65504
	case device.BF16:
		most = math.Float32frombits(0x7f7f0000)
	}
	return []any{flag(z.Symmetric), flag(z.Clip), z.low(), -z.low() - 1, int(z.Store), least, most}
}

func (z *rounding) low() int { return -1 << (z.Bits - 1) }

// grids finds the grids of all groups of w, in f32.
func (z *rounding) grids(w, weights ptr) {
	args := append([]any{z.scales, z.zeros, z.bad, z.flag, w, weights, z.out, z.n, z.Group}, z.finder()...)
	z.launch("gptq", "gptq_grids", warps(z.groups()), threads256, 0, args...)
}

// values sets dst to the values of the codes, where it is not nil.
func (z *rounding) values(dst device.Buf) {
	if dst == nil {
		return
	}
	o := z.d.own(z.op, dst)
	if o.kind != z.Store || o.n < z.out*z.n {
		panic(fmt.Sprintf("cuda: %s: %d values of kind %d for [%d, %d] of kind %d", z.op, o.n, o.kind, z.out, z.n, z.Store))
	}
	z.launch("round", "round_values", z.grid(z.n, z.out), threads256, 0, z.use(o, true), int(o.kind), z.codes, z.scales, z.zeros, z.out, z.n, z.Group, int(z.Store))
}

// result fetches the matrix, or the error of failure.
func (z *rounding) result(stage, strip int) (*device.Rounded, error) {
	flag := []int32{0}
	z.fetch(intBytes(flag), z.flag)
	if flag[0] != 0 {
		return nil, z.failure(stage, strip)
	}
	r := &device.Rounded{Codes: make([]int8, z.out*z.n), Scales: make([]float32, z.groups())}
	z.fetch(signedBytes(r.Codes), z.codes)
	z.fetch(floatBytes(r.Scales), z.scales)
	if z.zeros != 0 {
		r.Zeros = make([]int8, z.groups())
		z.fetch(signedBytes(r.Zeros), z.zeros)
	}
	return r, nil
}

// failure is the error that the host would report: it takes strips of rows through the columns, and each stops at its first group without a
// grid; after so many columns as a stage has, the lowest row that has stopped counts.
func (z *rounding) failure(stage, strip int) error {
	bad, per := make([]float32, z.groups()), z.n/z.Group
	z.fetch(floatBytes(bad), z.bad)
	var e *device.GridError
	for row := 0; row < z.out; row += strip {
		if f := firstBad(bad, per, row, min(strip, z.out-row)); f != nil && (e == nil || f.Group*z.Group/stage < e.Group*z.Group/stage) {
			e = f
		}
	}
	return e
}

// firstBad returns the first group, and of those the lowest row, without a grid in count rows of per groups from row on; nil where there
// is none.
func firstBad(bad []float32, per, row, count int) *device.GridError {
	for group := range per {
		for r := row; r < row+count; r++ {
			if v := bad[r*per+group]; v != 0 {
				return &device.GridError{Row: r, Group: group, Most: v}
			}
		}
	}
	return nil
}

func signedBytes(x []int8) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}

// GPTQ rounds w [out, n] in the order of the last Factor. Scratch is that of rounding and of columns, and some vectors.
func (g *gram) GPTQ(dst, w device.Buf, out int, weights []float32, r device.Rounding) (*device.Rounded, error) {
	n := g.n
	if weights != nil && len(weights) != n || !r.Static && (g.order != nil || gptqBlock%r.Group != 0 || r.Group%32 != 0) {
		panic(fmt.Sprintf("cuda: GPTQ of width %d, %d weights, under %+v", n, len(weights), r))
	}
	c, h, _ := g.begin("GPTQ")
	defer c.end()
	z := c.rounding(out, n, r)
	p := g.columns(c, h, w, out, gptqBlock)
	var errors ptr
	if weights != nil {
		errors = c.table(floatBytes(weights))
	}
	dead := c.table(g.dead)
	p.start(0, dead)
	stage, strip := gptqBlock, 16
	if r.Static {
		stage, strip = n, 1
		z.grids(p.work, errors)
		if p.order != 0 {
			p.start(p.order, dead)
		}
	}
	kernel, held, fixed := "gptq_columns_4", 4, 1
	if !r.Static {
		held, fixed = r.Group/32, 0
		kernel = fmt.Sprintf("gptq_columns_%d", held)
	}
	p.each(func(i, count int) {
		args := append([]any{p.work, p.now, p.corner, p.root, p.order, errors, z.codes, z.scales, z.zeros, z.bad, z.flag, p.loss, p.moved,
			out, n, i, count, r.Group, fixed}, z.finder()...)
		p.strips(kernel, held, args...)
	})
	z.values(dst)
	m, err := z.result(stage, strip)
	if err == nil {
		m.Loss, m.Moved = p.losses()
	}
	return m, err
}
