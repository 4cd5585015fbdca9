package num

import (
	"math"
	"sync"
)

// Tiles of attention. keyTile fixes the order of sums; queryTile (a multiple of the heights of all micro-kernels) does
// not.
const (
	queryTile = 168
	keyTile   = 128
)

// AttnHead is one query head with the keys and values it reads: T rows of Dim values, in Q, K and V LDQ, LDK and LDV
// apart. Query i sees key j iff j <= i and (Recent <= 0 or j < Sink or i-j < Recent).
type AttnHead struct {
	Q, K, V       []float32
	LDQ, LDK, LDV int
	T, Dim        int
	Scale         float32
	Sink, Recent  int
}

// check panics unless the slices hold what the sizes say; V may be missing.
func (h *AttnHead) check(op string, values bool, lo, hi int) {
	checkDims(op, h.T, h.Dim, lo, hi-lo, h.T-hi)
	checkMat(op, "Q", len(h.Q), h.T, h.Dim, h.LDQ)
	checkMat(op, "K", len(h.K), h.T, h.Dim, h.LDK)
	if values {
		checkMat(op, "V", len(h.V), h.T, h.Dim, h.LDV)
	}
}

// hidden reports whether no query of [q0, q1) sees any key of [j0, j1).
func (h *AttnHead) hidden(q0, q1, j0, j1 int) bool {
	return j0 >= q1 || h.Recent > 0 && j0 >= h.Sink && q0-j1+1 >= h.Recent
}

// mask overwrites with -Inf the scores s of query i for those of the keys j0, j0+1, … that it does not see.
func (h *AttnHead) mask(s []float32, i, j0 int) {
	inf := float32(math.Inf(-1))
	lo, hi := 0, 0
	if h.Recent > 0 { // keys [Sink, i-Recent] are hidden
		lo, hi = max(h.Sink-j0, 0), min(i-h.Recent+1-j0, len(s))
	}
	for j := lo; j < hi; j++ {
		s[j] = inf
	}
	for j := max(i+1-j0, 0); j < len(s); j++ {
		s[j] = inf
	}
}

// attnScratch is what one running tile of attention holds: packed operands, scores and the running softmax.
type attnScratch struct {
	q, k, v, p []float32          // packed operands; p holds the probabilities
	s          []float32          // scores [queryTile+pad, keyTile]
	acc        []float32          // outputs before division, rows of width ld
	ld         int                // Dim, up to a multiple of the kernel's columns
	top, total [queryTile]float32 // running maximum and sum of each row
	fade       [1]float32         // factor for what was summed under an old maximum
	tmp        []float32
}

var attnPool = sync.Pool{New: func() any { return new(attnScratch) }}

func getAttnScratch(dim int) *attnScratch {
	s := attnPool.Get().(*attnScratch)
	s.ld = ceilDiv(dim, maxNR) * maxNR
	grow := func(b *[]float32, n int) {
		if len(*b) < n {
			*b = make([]float32, n)
		}
	}
	rows := queryTile + maxMR
	grow(&s.q, rows*dim+slack)
	grow(&s.k, keyTile*dim+slack)
	grow(&s.v, keyTile*s.ld+slack)
	grow(&s.p, rows*keyTile+slack)
	grow(&s.s, rows*keyTile)
	grow(&s.acc, rows*s.ld)
	grow(&s.tmp, maxMR*maxNR)
	return s
}

// AttentionHead computes rows [lo, hi) of causal attention for one head: out [T, Dim] with rows ldo apart, and where
// lse is not nil lse [T], the log of the sum of the exponentials of each row's scores:
//
//	s[i,j] = Scale * Σ_d Q[i,d]*K[j,d]               for the keys j that i sees
//	lse[i] = log Σ_j e^s[i,j]
//	out[i,d] = Σ_j e^(s[i,j]-lse[i]) * V[j,d]
//
// It never holds more scores than one tile: keys pass by in tiles of keyTile under a running maximum and sum (Milakov and
// Gimelshein, arXiv:1805.02867; Dao et al., arXiv:2205.14135), and tiles that the mask hides are skipped. A row's bits do
// not depend on lo and hi.
func AttentionHead(out []float32, ldo int, lse []float32, h AttnHead, lo, hi int) {
	h.check("AttentionHead", true, lo, hi)
	checkMat("AttentionHead", "out", len(out), h.T, h.Dim, ldo)
	if lse != nil {
		checkLen("AttentionHead", "lse", len(lse), h.T)
	}
	s := getAttnScratch(h.Dim)
	defer attnPool.Put(s)
	for q0 := lo; q0 < hi; q0 += queryTile {
		q1 := min(q0+queryTile, hi)
		s.start(&h, q0, q1)
		for j0 := 0; j0 < q1; j0 += keyTile {
			if j1 := min(j0+keyTile, h.T); !h.hidden(q0, q1, j0, j1) {
				s.packKeys(&h, j0, j1)
				s.scores(&h, q0, q1, j0)
				s.soften(&h, q0, q1, j0)
				s.gather(&h, q0, q1, j0, j1)
			}
		}
		s.finish(out, ldo, lse, h.Dim, q0, q1)
	}
}

// start packs the queries [q0, q1), scaled, and clears the running sums.
func (s *attnScratch) start(h *AttnHead, q0, q1 int) {
	rows := q1 - q0
	q := operand[float32]{v: h.Q[q0*h.LDQ:], ld: h.LDQ}
	pack(s.q, &q, rows, 0, h.Dim, kernel32.mr, kernel32.packer)
	Scale(s.q[:ceilDiv(rows, kernel32.mr)*kernel32.mr*h.Dim], h.Scale)
	for i := range rows {
		s.top[i], s.total[i] = float32(math.Inf(-1)), 0
	}
	clear(s.acc[:(rows+maxMR)*s.ld])
}

func (s *attnScratch) packKeys(h *AttnHead, j0, j1 int) {
	k := operand[float32]{v: h.K[j0*h.LDK:], ld: h.LDK}
	pack(s.k, &k, j1-j0, 0, h.Dim, kernel32.nr, kernel32.packer)
}

// scores fills the tile of scores for queries [q0, q1) and the packed keys from j0, less the micro-tiles that the mask
// hides; hidden scores become -Inf.
func (s *attnScratch) scores(h *AttnHead, q0, q1, j0 int) {
	mr, nr := kernel32.mr, kernel32.nr
	for i := 0; i < q1-q0; i += mr {
		for j := 0; j < keyTile && j0+j < h.T; j += nr {
			if !h.hidden(q0+i, q0+i+mr, j0+j, j0+j+nr) {
				kernel32.run(s.s[i*keyTile+j:], keyTile, s.q[i*h.Dim:], s.k[j*h.Dim:], h.Dim, false)
			}
		}
	}
	for i := range q1 - q0 {
		h.mask(s.s[i*keyTile:][:keyTile], q0+i, j0)
	}
}

// soften turns scores into exponentials under the new running maximum of each row and fades what was summed before.
func (s *attnScratch) soften(h *AttnHead, q0, q1, j0 int) {
	none := float32(math.Inf(-1))
	for i := range q1 - q0 {
		row, old := s.s[i*keyTile:][:keyTile], s.top[i]
		top := max(old, Max(row))
		if top == none { // nothing seen so far
			clear(row)
			continue
		}
		sum := expSum(row, row, top)
		if old < top {
			s.fade[0] = old - top
			exp32(s.fade[:], s.fade[:])
			s.total[i] *= s.fade[0]
			Scale(s.acc[i*s.ld:][:s.ld], s.fade[0])
			s.top[i] = top
		}
		s.total[i] += sum
	}
}

// gather adds the probabilities times the values of keys [j0, j1) to the outputs.
func (s *attnScratch) gather(h *AttnHead, q0, q1, j0, j1 int) {
	mr, nr := kernel32.mr, kernel32.nr
	n := j1 - j0
	v := operand[float32]{v: h.V[j0*h.LDV:], ld: h.LDV, trans: true}
	pack(s.v, &v, h.Dim, 0, n, nr, kernel32.packer)
	p := operand[float32]{v: s.s, ld: keyTile}
	pack(s.p, &p, q1-q0, 0, n, mr, kernel32.packer)
	for i := 0; i < q1-q0; i += mr {
		seen := min(n, q0+i+mr-j0) // probabilities past this are zeros
		for d := 0; d < h.Dim && seen > 0; d += nr {
			kernel32.run(s.acc[i*s.ld+d:], s.ld, s.p[i*n:], s.v[d*n:], seen, true)
		}
	}
}

// finish divides by the sums and writes rows [q0, q1).
func (s *attnScratch) finish(out []float32, ldo int, lse []float32, dim, q0, q1 int) {
	for i := range q1 - q0 {
		inv := 1 / s.total[i]
		row := out[(q0+i)*ldo:][:dim]
		for d, v := range s.acc[i*s.ld:][:dim] {
			row[d] = v * inv
		}
		if lse != nil {
			lse[q0+i] = s.top[i] + float32(math.Log(float64(s.total[i])))
		}
	}
}

// AttentionColumnSums computes how much attention the keys [lo, hi) receive over all queries of one head, from the lse
// that AttentionHead gave under the same mask:
//
//	dst[j] = Σ_i e^(s[i,j]-lse[i])   over the queries i that see j, i ascending
//
// Columns are summed in f32 within a tile of queries and in f64 across tiles. Bits do not depend on lo and hi.
func AttentionColumnSums(dst, lse []float32, h AttnHead, lo, hi int) {
	h.check("AttentionColumnSums", false, lo, hi)
	checkLen("AttentionColumnSums", "dst", len(dst), h.T)
	checkLen("AttentionColumnSums", "lse", len(lse), h.T)
	s := getAttnScratch(h.Dim)
	defer attnPool.Put(s)
	for j0 := lo; j0 < hi; j0 += keyTile {
		j1 := min(j0+keyTile, hi)
		s.packKeys(&h, j0, j1)
		var total [keyTile]float64
		for q0 := j0 / queryTile * queryTile; q0 < h.T; q0 += queryTile {
			q1 := min(q0+queryTile, h.T)
			if h.hidden(q0, q1, j0, j1) {
				continue
			}
			s.start(&h, q0, q1)
			s.scores(&h, q0, q1, j0)
			var part [keyTile]float32
			for i := range q1 - q0 {
				row := s.s[i*keyTile:][:keyTile]
				expSum(row, row, lse[q0+i])
				Add(part[:], row)
			}
			for j, v := range part {
				total[j] += float64(v)
			}
		}
		for j := j0; j < j1; j++ {
			dst[j] = float32(total[j-j0])
		}
	}
}
