//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
)

// AttnLikeness implements device.AttnReader. Its products are those of Attention, on tensor cores.
//
// Memory: planes of queries and keys of both (see heads), and 24*⌈T/64⌉ bytes, for each query head: where there is no room for all they are
// done in pieces, down to as many query heads as share KV heads in both.
func (d *Device) AttnLikeness(dst [][3]float64, a, b device.AttnInput) {
	const op = "AttnLikeness"
	s := a.Shape
	for _, x := range []device.AttnInput{a, b} {
		checkHeads(op, x.Shape, x.Masks)
		checkAlone(op, x.Shape)
	}
	if b.Shape.T != s.T || b.Shape.H != s.H || len(dst) < s.H {
		panicf("%s: %d and %d positions, %d and %d heads, %d sums", op, s.T, b.Shape.T, s.H, b.Shape.H, len(dst))
	}
	clear(dst[:s.H])
	if s.T == 0 {
		return
	}
	c := d.begin(op)
	defer c.end()
	x, y := c.side(a), c.side(b)
	tiles, each := ceilDiv(s.T, planeRows), lcm(x.group, y.group)
	bytes := x.bytes(each) + y.bytes(each) + 24*int64(each)*int64(tiles)
	units := s.H / each
	for !c.room(int64(units)*bytes) && units > 1 {
		units = (units + 1) / 2
	}
	x.take(units * each)
	y.take(units * each)
	sums, host := c.scratch(24*int64(units*each)*int64(tiles)), make([]float64, 3*units*each*tiles)
	for lo := 0; lo < s.H; lo += units * each {
		n := min(units*each, s.H-lo)
		x.split(lo, n)
		y.split(lo, n)
		stages := map[int]int{1: 4, 3: 2}[x.terms]
		args := append([]any{sums}, append(x.args(lo), y.args(lo)...)...)
		c.launch("attnalike", fmt.Sprintf("attn_alike_%d", x.terms), [3]int{n * tiles, 1, 1}, [3]int{256, 1, 1}, passage{stages: stages}.bytes(x.terms, 0, 1),
			append(args, n, s.T, x.tp)...)
		c.fetch(doubleBytes(host[:3*n*tiles]), sums)
		for i, v := range host[:3*n*tiles] {
			dst[lo+i/3/tiles][i%3] += v
		}
	}
}

// side is one of the two that are compared.
type side struct {
	*heads
	q, k, lse              ptr
	queryPlanes, keyPlanes ptr
}

func (c *call) side(a device.AttnInput) *side {
	s := a.Shape
	return &side{heads: c.heads(s, a.Masks), q: c.in(a.Q, s.T*s.H*s.K), k: c.in(a.K, s.T*s.G*s.K), lse: c.in(a.LSE, s.H*s.T)}
}

// bytes is what n query heads take as planes, with their KV heads.
func (a *side) bytes(n int) int64 { return int64(n+n/a.group) * a.planeBytes() }

// take gets the memory for n query heads.
func (a *side) take(n int) {
	a.queryPlanes = a.c.scratch(a.bytes(n))
	a.keyPlanes = a.queryPlanes + ptr(int64(n)*a.planeBytes())
}

// split makes the planes of n query heads from lo on.
func (a *side) split(lo, n int) {
	a.heads.split(a.queryPlanes, a.q+ptr(4*lo*a.s.K), n, 1, a.s.H, a.sign)
	a.heads.split(a.keyPlanes, a.k+ptr(4*lo/a.group*a.s.K), n/a.group, 1, a.s.G, 1)
}

// args are those of the kernel from query head lo on.
func (a *side) args(lo int) []any {
	return []any{a.queryPlanes, a.keyPlanes, a.lse + ptr(4*lo*a.s.T), a.masks + ptr(8*(lo/a.group)), a.kp / planeRows, a.group, a.scale}
}

func lcm(a, b int) int {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	return a / x * b
}
