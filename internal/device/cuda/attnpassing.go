//go:build cuda

package cuda

import (
	"fmt"

	cu "gorgonia.org/cu"

	"modelpress/internal/device"
)

// Shared memory of a block beside the ring of kernels/panel.cuh: tiles of attention and of slopes, 68 floats a row, and what is summed of
// them.
const (
	bandsRest  = 4*64*68 + 4 + 4*64 + 4*2*2*4*64
	slopesRest = 2*4*64*68 + 4*64 + 4*2*2*4*64
	blocksRest = 4*64*68 + 4*64*64
)

// passage is how rows pass by in a kernel, by the end of its name: whether one side stays in shared memory, and how many panels have room.
type passage struct {
	name   string
	kept   bool
	stages int
}

// passages lists those of kernels of one plane and of three, the better first.
var passages = map[int][]passage{
	1: {{"kept", true, 4}, {"passing", false, 2}},
	3: {{"kept", true, 2}, {"passing", false, 2}, {"single", false, 1}},
}

// bytes is the shared memory of the ring of so many panels of 64 columns, one side of which has tiles of 64*tall rows.
func (p passage) bytes(terms, panels, tall int) int {
	const panel = 2 * 64 * 64
	if p.kept {
		return terms * panel * (panels*tall + p.stages)
	}
	return terms * panel * (1 + tall) * p.stages
}

// passing launches the first of the kernels of a name that the device has the shared memory for; it has panels of so many pairs of
// matrices, and rest bytes beside them. Which one it is does not show in the results.
func (h *heads) passing(module, kernel string, rest, pairs, blocks int, args []any) {
	h.passingTall(module, kernel, rest, pairs, 1, blocks, args)
}

func (h *heads) passingTall(module, kernel string, rest, pairs, tall, blocks int, args []any) {
	most := h.c.d.sharedMemory()
	for _, p := range passages[h.terms] {
		if bytes := p.bytes(h.terms, pairs*h.kp/planeRows, tall) + rest; bytes <= most && h.c.has(module, fmt.Sprintf("%s_%d_%s", kernel, h.terms, p.name)) {
			h.c.launch(module, fmt.Sprintf("%s_%d_%s", kernel, h.terms, p.name), [3]int{blocks, 1, 1}, [3]int{256, 1, 1}, bytes, args...)
			return
		}
	}
	h.c.fail(fmt.Errorf("%s wants more than the %d bytes of shared memory that a block has", kernel, most))
}

// has reports whether a module has a kernel.
func (c *call) has(module, kernel string) bool {
	m := c.d.modules[module]
	if m == nil {
		var err error
		m, err = loadModule(module)
		c.fail(err)
		c.d.modules[module] = m
	}
	return m.entries[kernel] != ""
}

// sharedMemory is the most dynamic shared memory of a block, less 1 KiB for what is not dynamic. The caller holds work.
func (d *Device) sharedMemory() int {
	const maxSharedOptin = 97 // CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
	if d.shared == 0 {
		n, err := d.dev.Attribute(cu.DeviceAttribute(maxSharedOptin))
		d.shared = max(n, 48<<10)
		if err != nil {
			d.shared = 48 << 10
		}
	}
	return d.shared - 1<<10
}

// AttnColumnSums computes dst[h,j] = Σ_i softmax(...)[h,i,j] from the lse that Attention gave under the same masks. A block takes a tile of
// keys, and queries pass by.
//
// Memory: 2*terms*kp*tp bytes (see heads) for each query head and KV head, in pieces down to one KV head with its query heads.
func (d *Device) AttnColumnSums(dst, q, k, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	const op = "AttnColumnSums"
	checkHeads(op, s, masks)
	checkAlone(op, s)
	if s.T == 0 {
		return
	}
	c := d.begin(op)
	defer c.end()
	to, qs, ks, l := c.out(dst, s.H*s.T), c.in(q, s.T*s.H*s.K), c.in(k, s.T*s.G*s.K), c.in(lse, s.H*s.T)
	h := c.heads(s, masks)
	each := h.planeBytes()
	pieces := h.pieces(int64(h.group+1) * each)
	units := int64(pieces[0].units())
	qp := c.scratch(units * int64(h.group+1) * each)
	kp := qp + ptr(units*int64(h.group)*each)
	for _, p := range pieces {
		h.splitQueries(qp, qs, p, h.sign)
		h.splitKeys(kp, ks, p)
		h.columnSums(0, h.rows(to, p), qp, kp, h.rows(l, p), p)
	}
}

// columnSums launches the kernel on the planes of a piece; one of sums, in float64, and rounded is 0.
func (h *heads) columnSums(sums, rounded, q, k, lse ptr, p piece) {
	tall := 1
	if h.terms == 1 {
		tall = 2
	}
	heads := p.kv * h.group
	h.passingTall("columnsums", "column_sums", 0, 1, tall, heads*ceilDiv(h.s.T, planeRows*tall), []any{sums, rounded, q, k, lse, h.masksOf(p), heads,
		h.group, h.s.T, h.tp, h.kp / planeRows, h.scale})
}
