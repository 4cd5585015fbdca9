package num

import "sync"

// gradTile is the number of queries in a tile of AttentionBack, a multiple of the heights of all micro-kernels. Together
// with keyTile it fixes the order of sums.
const gradTile = 84

// AttnGrad is what AttentionHead gave for a head and the gradient of a loss by its output: rows of Dim values, LDO apart
// in Out and DOut, and the log-sum-exp of each row, LSE [T].
type AttnGrad struct {
	Out, DOut, LSE []float32
	LDO            int
}

func (g *AttnGrad) check(op string, h *AttnHead) {
	checkMat(op, "Out", len(g.Out), h.T, h.Dim, g.LDO)
	checkMat(op, "DOut", len(g.DOut), h.T, h.Dim, g.LDO)
	checkLen(op, "LSE", len(g.LSE), h.T)
}

// mean returns Σ_d DOut[i,d]*Out[i,d]: the mean of DOut[i]·V[j] over the keys j under the attention of row i.
func (g *AttnGrad) mean(i, dim int) float32 {
	var s float64
	o := g.Out[i*g.LDO:][:dim]
	for d, v := range g.DOut[i*g.LDO:][:dim] {
		s += float64(v) * float64(o[d])
	}
	return float32(s)
}

// backScratch is what one running AttentionBack holds: the query side packed for the whole head, the key side and the
// sums for one tile of keys. Probabilities and their gradients lie as the kernels write them, in panels of nr keys: key j,
// query i of a tile at [j/nr*nr*gradTile + i*nr + j%nr], which is a packed operand whose summed dimension is the queries.
type backScratch struct {
	q, do   []float32 // queries scaled and DOut as vectors of Dim+1 values, the last -LSE and -mean
	qt, dot []float32 // queries unscaled and DOut as Dim vectors of a tile's queries
	k, v    []float32 // keys and values as vectors of Dim+1 values, the last 1
	kt      []float32 // keys as Dim vectors of a tile's keys
	p, ds   []float32 // probabilities, and the gradients by scores
	dsp     []float32 // ds packed along the keys
	dk, dv  []float32 // [Dim, keyTile], gradients of the tile's keys and values
	tmp     []float32
}

var backPool = sync.Pool{New: func() any { return new(backScratch) }}

func getBackScratch(t, dim int) *backScratch {
	s := backPool.Get().(*backScratch)
	rows, high := ceilDiv(t, gradTile)*gradTile, dim+maxMR
	for _, b := range []struct {
		p *[]float32
		n int
	}{
		{&s.q, rows * (dim + 1)}, {&s.do, rows * (dim + 1)}, {&s.qt, rows * high}, {&s.dot, rows * high},
		{&s.k, keyTile * (dim + 1)}, {&s.v, keyTile * (dim + 1)}, {&s.kt, keyTile * (dim + maxNR)},
		{&s.p, gradTile * keyTile}, {&s.ds, gradTile * keyTile}, {&s.dsp, gradTile * keyTile},
		{&s.dk, high * keyTile}, {&s.dv, high * keyTile}, {&s.tmp, maxMR * maxNR},
	} {
		if len(*b.p) < b.n+slack {
			*b.p = make([]float32, b.n+slack)
		}
	}
	return s
}

// AttentionBack computes the gradients of a loss by queries, keys and values of one head, from the gradient by its output:
//
//	P[i,j]  = e^(s[i,j]-LSE[i])                                   as AttentionHead defines s
//	dS[i,j] = P[i,j] * (DOut[i]·V[j] - DOut[i]·Out[i])
//	dQ[i] = Scale * Σ_j dS[i,j]*K[j]
//	dK[j] = Scale * Σ_i dS[i,j]*Q[i]
//	dV[j] = Σ_i P[i,j]*DOut[i]
//
// (Dao et al., arXiv:2205.14135, appendix B). dq has rows ldq apart, dk and dv ldk; where add is set dk and dv are added
// to, which is how the query heads of a group share keys, in the order of the calls. Sums run over queries in tiles of
// gradTile and over keys in tiles of keyTile, both ascending; tiles that the mask hides are skipped. Beyond its arguments
// it needs 4*T*(Dim+maxMR) values: the packed queries and gradients.
func AttentionBack(dq []float32, ldq int, dk, dv []float32, ldk int, h AttnHead, g AttnGrad, add bool) {
	const op = "AttentionBack"
	h.check(op, true, 0, h.T)
	g.check(op, &h)
	checkMat(op, "dq", len(dq), h.T, h.Dim, ldq)
	checkMat(op, "dk", len(dk), h.T, h.Dim, ldk)
	checkMat(op, "dv", len(dv), h.T, h.Dim, ldk)
	if h.T == 0 || h.Dim == 0 {
		return
	}
	s := getBackScratch(h.T, h.Dim)
	defer backPool.Put(s)
	s.packQueries(&h, &g)
	for i := range h.T {
		clear(dq[i*ldq:][:h.Dim])
	}
	for j0 := 0; j0 < h.T; j0 += keyTile {
		j1 := min(j0+keyTile, h.T)
		s.packKeys(&h, j0, j1)
		clear(s.dk)
		clear(s.dv)
		for q0 := j0 / gradTile * gradTile; q0 < h.T; q0 += gradTile {
			if q1 := min(q0+gradTile, h.T); !h.hidden(q0, q1, j0, j1) {
				s.slopes(&h, q0, q1, j0)
				s.gatherKeys(&h, q0, q1, j0)
				s.gatherQueries(dq, ldq, &h, q0, q1, j0)
			}
		}
		flush(dk[j0*ldk:], s.dk, ldk, j1-j0, h.Dim, h.Scale, add)
		flush(dv[j0*ldk:], s.dv, ldk, j1-j0, h.Dim, 1, add)
	}
	for i := range h.T {
		Scale(dq[i*ldq:][:h.Dim], h.Scale)
	}
}

// packPlus packs n vectors of dim values from v into panels of w and appends to each the value last(i) as one more.
func packPlus(dst, v []float32, ld, n, dim, w int, scale float32, last func(i int) float32) {
	o := operand[float32]{v: v, ld: ld}
	for i := 0; i < n; i += w {
		panel, rows := dst[i*(dim+1):][:(dim+1)*w+slack], min(w, n-i)
		packRows(panel, &o, i, rows, 0, dim, w, kernel32.packer)
		if scale != 1 {
			Scale(panel[:dim*w], scale)
		}
		for r := range rows {
			panel[dim*w+r] = last(i + r)
		}
	}
}

// packQueries packs the query side of the whole head.
func (s *backScratch) packQueries(h *AttnHead, g *AttnGrad) {
	mr := kernel32.mr
	packPlus(s.q, h.Q, h.LDQ, h.T, h.Dim, mr, h.Scale, func(i int) float32 { return -g.LSE[i] })
	packPlus(s.do, g.DOut, g.LDO, h.T, h.Dim, mr, 1, func(i int) float32 { return -g.mean(i, h.Dim) })
	for q0 := 0; q0 < h.T; q0 += gradTile {
		rows := min(gradTile, h.T-q0)
		at := q0 * (h.Dim + maxMR)
		pack(s.qt[at:], &operand[float32]{v: h.Q[q0*h.LDQ:], ld: h.LDQ, trans: true}, h.Dim, 0, rows, mr, kernel32.packer)
		pack(s.dot[at:], &operand[float32]{v: g.DOut[q0*g.LDO:], ld: g.LDO, trans: true}, h.Dim, 0, rows, mr, kernel32.packer)
	}
}

func (s *backScratch) packKeys(h *AttnHead, j0, j1 int) {
	nr := kernel32.nr
	one := func(int) float32 { return 1 }
	packPlus(s.k, h.K[j0*h.LDK:], h.LDK, j1-j0, h.Dim, nr, 1, one)
	packPlus(s.v, h.V[j0*h.LDV:], h.LDV, j1-j0, h.Dim, nr, 1, one)
	pack(s.kt, &operand[float32]{v: h.K[j0*h.LDK:], ld: h.LDK, trans: true}, h.Dim, 0, j1-j0, nr, kernel32.packer)
}

// slopes fills p and ds for the queries [q0, q1) and the packed keys from j0; what the mask hides is zero in both.
func (s *backScratch) slopes(h *AttnHead, q0, q1, j0 int) {
	mr, nr, dim := kernel32.mr, kernel32.nr, h.Dim+1
	part := h.partial(q0, q1, j0, j0+keyTile)
	for j := 0; j < keyTile; j += nr {
		p, ds := s.p[j*gradTile:][:(q1-q0)*nr], s.ds[j*gradTile:][:(q1-q0)*nr]
		for i := 0; i < q1-q0; i += mr {
			if !h.hidden(q0+i, q0+i+mr, j0+j, j0+j+nr) {
				at := j*gradTile + i*nr
				kernel32.run(s.p[at:], nr, s.q[(q0+i)*dim:], s.k[j*dim:], dim, false)
				kernel32.run(s.ds[at:], nr, s.do[(q0+i)*dim:], s.v[j*dim:], dim, false)
			}
		}
		exp32(p, p)
		if part {
			for i := range q1 - q0 {
				h.blank(p[i*nr:][:nr], q0+i, j0+j)
				h.blank(ds[i*nr:][:nr], q0+i, j0+j)
			}
		}
		for i, v := range p {
			ds[i] *= v
		}
	}
}

// partial reports whether some query of [q0, q1) does not see some key of [j0, j1).
func (h *AttnHead) partial(q0, q1, j0, j1 int) bool {
	return j1-1 > q0 || h.Recent > 0 && j1 > h.Sink && q1-1-j0 >= h.Recent
}

// unseen returns the two ranges of positions among the n keys from j0 that query i does not see: [a, b) and [c, n).
func (h *AttnHead) unseen(i, j0, n int) (a, b, c int) {
	if h.Recent > 0 {
		a, b = max(h.Sink-j0, 0), min(i-h.Recent+1-j0, n)
	}
	return a, max(a, b), min(max(i+1-j0, 0), n)
}

// blank clears in x, which belongs to query i and the keys from j0, what the query does not see.
func (h *AttnHead) blank(x []float32, i, j0 int) {
	a, b, c := h.unseen(i, j0, len(x))
	if a < b {
		clear(x[a:b])
	}
	clear(x[c:])
}

// gatherKeys adds the tile's part of the gradients by keys, unscaled, and values.
func (s *backScratch) gatherKeys(h *AttnHead, q0, q1, j0 int) {
	mr, nr, rows := kernel32.mr, kernel32.nr, q1-q0
	at := q0 * (h.Dim + maxMR)
	for j := 0; j < keyTile && j0+j < h.T; j += nr {
		skip := max(0, j0+j-q0) // queries before that see none of these keys
		if skip >= rows {
			break
		}
		b := j*gradTile + skip*nr
		for d := 0; d < h.Dim; d += mr {
			a := at + d*rows + skip*mr
			kernel32.run(s.dv[d*keyTile+j:], keyTile, s.dot[a:], s.p[b:], rows-skip, true)
			kernel32.run(s.dk[d*keyTile+j:], keyTile, s.qt[a:], s.ds[b:], rows-skip, true)
		}
	}
}

// gatherQueries adds the tile's part of the gradients by queries, unscaled, to dq.
func (s *backScratch) gatherQueries(dq []float32, ldq int, h *AttnHead, q0, q1, j0 int) {
	mr, nr, rows, n := kernel32.mr, kernel32.nr, q1-q0, min(keyTile, h.T-j0)
	o := operand[float32]{ld: nr} // one for all tiles: without assembly it is allocated
	for i := 0; i < rows; i += mr {
		seen := min(n, q0+i+mr-j0) // ds past this is zero
		if seen <= 0 {
			continue
		}
		for j := 0; j < seen; j += nr {
			o.v = s.ds[j*gradTile:]
			packRows(s.dsp[i*keyTile+j*mr:], &o, i, min(mr, rows-i), 0, nr, mr, kernel32.packer)
		}
		for d := 0; d < h.Dim; d += nr {
			micro(kernel32, dq[(q0+i)*ldq+d:], ldq, s.dsp[i*keyTile:], s.kt[d*n:], s.tmp, min(mr, rows-i), min(nr, h.Dim-d), seen, true)
		}
	}
}

// flush writes scale times the sums x [dim, keyTile] of n keys to dst [n, dim], or adds them to it.
func flush(dst, x []float32, ld, n, dim int, scale float32, add bool) {
	for j := range n {
		row := dst[j*ld:][:dim]
		for d := range row {
			v := float32(x[d*keyTile+j] * scale)
			if add {
				v += row[d]
			}
			row[d] = v
		}
	}
}
