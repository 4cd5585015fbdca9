//go:build cuda

package cuda

import (
	"math"
	"unsafe"

	"modelpress/internal/device"
)

// readBytes is the most scratch that parts of attention which are read off are put together in, where one row does not take more.
const readBytes = 64 << 20

// AttnRows implements device.AttnReader.
//
// Memory: 64 MiB, or 4*T*H bytes where that is more.
func (d *Device) AttnRows(a []float32, rows []int, q, k, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	c, h := d.beginRead("AttnRows", s, masks, rows)
	defer c.end()
	if len(a) < s.H*len(rows)*s.T {
		panicf("AttnRows: %d places for %d rows of %d positions of %d heads", len(a), len(rows), s.T, s.H)
	}
	qs, ks, l := c.in(q, s.T*s.H*s.K), c.in(k, s.T*s.G*s.K), c.in(lse, s.H*s.T)
	if s.T == 0 || len(rows) == 0 {
		return
	}
	most := min(len(rows), max(1, readBytes/4/(s.T*s.H)), max(1, 65535*peakItems/h.group))
	to := c.scratch(4 * int64(most) * int64(s.T) * int64(s.H))
	for lo := 0; lo < len(rows); lo += most {
		n := min(most, len(rows)-lo)
		c.launch("attnread", "attn_rows", [3]int{ceilDiv(s.T, 128), ceilDiv(n*h.group, peakItems), s.G}, [3]int{128, 1, 1}, 4*peakItems*s.K,
			to, qs, ks, l, c.table(intBytes(int32s(rows[lo:lo+n]))), h.masks, n, s.T, s.H, s.G, s.K, h.terms, s.Scale)
		if n == len(rows) {
			c.fetch(floatBytes(a[:s.H*n*s.T]), to)
			return
		}
		for head := range s.H {
			c.fetch(floatBytes(a[(head*len(rows)+lo)*s.T:][:n*s.T]), to+ptr(4*head*n*s.T))
		}
	}
}

// AttnMass implements device.AttnReader.
//
// Memory: 12 bytes for each span, 8*H for each span and each sum.
func (d *Device) AttnMass(mass []float64, spans []device.AttnSpan, ends []int, q, k, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	c, h := d.beginRead("AttnMass", s, masks, nil)
	defer c.end()
	from := spansFrom(spans, ends, s.T)
	if len(mass) < s.H*len(ends) {
		panicf("AttnMass: %d places for %d sums of %d heads", len(mass), len(ends), s.H)
	}
	qs, ks, l := c.in(q, s.T*s.H*s.K), c.in(k, s.T*s.G*s.K), c.in(lse, s.H*s.T)
	n, groups := len(spans), len(ends)
	if groups == 0 {
		return
	}
	part, sums := c.scratch(max(8, 8*int64(n)*int64(s.H))), c.scratch(8*int64(groups)*int64(s.H))
	grid := func(n int) [3]int { return [3]int{ceilDiv(n, 8), s.H, 1} }
	if n > 0 {
		table := c.table(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(spans))), int(unsafe.Sizeof(spans[0]))*n))
		c.launch("attnread", "attn_mass", grid(n), [3]int{256, 1, 1}, 0, part, table, qs, ks, l, h.masks, n, s.T, s.H, s.G, s.K, h.terms, s.Scale)
	}
	c.launch("attnread", "attn_mass_join", grid(groups), [3]int{256, 1, 1}, 0, sums, part, c.table(intBytes(from)), groups, n)
	c.fetch(doubleBytes(mass[:s.H*groups]), sums)
}

// spansFrom checks spans and returns where the groups begin, and the end of the last.
func spansFrom(spans []device.AttnSpan, ends []int, t int) []int32 {
	for _, p := range spans {
		if p.Row < 0 || int(p.Row) >= t || p.Lo < 0 || p.Hi < p.Lo || int(p.Hi) > t {
			panicf("AttnMass: keys [%d, %d) of row %d of %d", p.Lo, p.Hi, p.Row, t)
		}
	}
	from := make([]int32, 1, len(ends)+1)
	for _, e := range ends {
		if e < int(from[len(from)-1]) || e > len(spans) {
			panicf("AttnMass: %d spans end at %v", len(spans), ends)
		}
		from = append(from, int32(e))
	}
	return from
}

// AttnOver implements device.AttnReader.
//
// Memory: for each row that is done at once, H*(4*K + 4 + 8*⌈T/64⌉) bytes: 64 MiB, or one row.
func (d *Device) AttnOver(out, lse []float32, seen []uint64, rows []int, q, k, v device.Buf, s device.AttnShape) {
	c, h := d.beginRead("AttnOver", s, nil, rows)
	defer c.end()
	words := device.AttnWords(s.T)
	if len(seen) < s.H*len(rows)*words || len(out) < len(rows)*s.H*s.K || len(lse) < s.H*len(rows) {
		panicf("AttnOver: %d words, %d and %d results for %d rows", len(seen), len(out), len(lse), len(rows))
	}
	qs, ks, vs := c.in(q, s.T*s.H*s.K), c.in(k, s.T*s.G*s.K), c.in(v, s.T*s.G*s.K)
	if len(rows) == 0 {
		return
	}
	most := min(len(rows), max(1, readBytes/(s.H*(4*s.K+4+8*words))))
	bits, to, logs := c.scratch(8*int64(most)*int64(words)*int64(s.H)), c.scratch(max(4, 4*int64(most)*int64(s.H)*int64(s.K))), c.scratch(4*int64(most)*int64(s.H))
	hostBits, hostLogs := make([]uint64, s.H*most*words), make([]float32, s.H*most)
	for lo := 0; lo < len(rows); lo += most {
		n := min(most, len(rows)-lo)
		for head := range s.H {
			copy(hostBits[head*n*words:][:n*words], seen[(head*len(rows)+lo)*words:])
		}
		c.fail(c.d.tables.send(c.d.compute.stream, bits, wordBytes(hostBits[:s.H*n*words])))
		c.launch("attnover", "attn_over", [3]int{ceilDiv(n, 8), s.H, 1}, [3]int{256, 1, 1}, 0, to, logs, bits, c.table(intBytes(int32s(rows[lo:lo+n]))),
			qs, ks, vs, n, words, s.H, s.G, s.K, h.terms, float32(float64(s.Scale)*math.Log2E))
		c.fetch(floatBytes(out[lo*s.H*s.K:][:n*s.H*s.K]), to)
		c.fetch(floatBytes(hostLogs[:s.H*n]), logs)
		for head := range s.H {
			copy(lse[head*len(rows)+lo:][:n], hostLogs[head*n:])
		}
	}
}

// HeadGaps implements device.AttnReader.
func (d *Device) HeadGaps(gap, size []float64, a, b device.Buf, from int, s device.AttnShape) {
	c, _ := d.beginRead("HeadGaps", s, nil, nil)
	defer c.end()
	n := s.H * s.K
	x, y := c.in(a, s.T*n), c.in(b, s.T*n)
	if len(gap) < s.H || len(size) < s.H || from < 0 || from > s.T {
		panicf("HeadGaps: %d and %d sums of %d heads from row %d of %d", len(gap), len(size), s.H, from, s.T)
	}
	clear(gap[:s.H])
	clear(size[:s.H])
	rows := s.T - from
	if rows == 0 || n == 0 {
		return
	}
	x, y = x+ptr(4*from*n), y+ptr(4*from*n)
	for _, sum := range []struct {
		dst            []float64
		module, kernel string
		with           ptr
	}{{gap, "headgaps", "column_gaps", y}, {size, "columns", "column_dots", x}} {
		parts, count := c.columns(sum.module, sum.kernel, rows, n, x, sum.with)
		for j, v := range c.totals(parts, count, n) {
			sum.dst[j/s.K] += v
		}
	}
}

// beginRead begins an operation on one sequence and checks rows.
func (d *Device) beginRead(op string, s device.AttnShape, masks []device.Mask, rows []int) (*call, *heads) {
	checkHeads(op, s, masks)
	checkAlone(op, s)
	for _, i := range rows {
		if i < 0 || i >= s.T {
			panicf("%s: row %d of %d", op, i, s.T)
		}
	}
	c := d.begin(op)
	return c, c.heads(s, masks)
}

func wordBytes(x []uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 8*len(x))
}

func int32s(x []int) []int32 {
	y := make([]int32, len(x))
	for i, v := range x {
		y[i] = int32(v)
	}
	return y
}
