package num

import (
	"fmt"
	"math"
	"sync"
)

// BandKeys is the width of the bands and blocks of attention statistics where none is given. Band b of query i is the
// keys at distances i-j in [width*b, width*(b+1)); block (r, c) is the queries i/width = r and the keys j/width = c.
const BandKeys = 64

// AttnBands returns the number of bands, and of blocks in each direction, of t positions; width 0 means BandKeys.
func AttnBands(t, width int) int {
	if width == 0 {
		width = BandKeys
	}
	return ceilDiv(t, width)
}

// AttnStats says what AttentionStats is to compute for one head and receives it: a slice that is nil is left out. A[i,j]
// stands for the attention of query i to key j, G[i,j] = DOut[i]·V[j] for the slope of the loss by it, and
// g[i] = Σ_j A[i,j]*G[i,j]. Keys before Sink are in no band: they are what every plan keeps.
type AttnStats struct {
	Width int // of bands and blocks; 0 for BandKeys

	ColumnSums []float64 // [T], Σ_i A[i,j]
	Blocks     []float64 // [AttnBands, AttnBands], Σ A over the block
	Bands      []float64 // [AttnBands], Σ_i Σ_{j in band} A[i,j]

	Rows   []int     // queries whose most attended key is asked for
	ArgMax []int     // [len(Rows)] that key, the first of equals
	Peak   []float32 // [len(Rows)] its attention, may be nil

	Sink int
	// Influence is Σ_i Σ_{j in band} |E[i,j]|, where E = A/(1-A)*(G-g) is, but for the sign, how the loss changes to first
	// order in the output when key j alone is taken away from query i and the rest renormalised (MoA, arXiv:2406.14909).
	// 1-A counts as at least 2⁻²⁰; for a query with a single key E = G, as nothing is left.
	Influence []float64
	// Drop [AttnBands] is the exact effect to first order in the output of keeping, besides the sinks, the bands before b
	// only, which is attention under the mask (Sink, Width*b): the sum over i of
	//
	//	(g[i]*s - p) / (1-s),  s = Σ A[i,j], p = Σ A[i,j]*G[i,j] over the keys of bands b and later
	//
	// that is Σ_i DOut[i]·(out'[i]-out[i]). DropAbs sums its magnitude over queries. Entry 0, with no band kept, is 0.
	Drop, DropAbs []float64
}

// slopes reports whether the gradient is needed, rows whether anything goes row by row through bands.
func (st *AttnStats) slopes() bool { return st.Influence != nil || st.Drop != nil || st.DropAbs != nil }
func (st *AttnStats) rows() bool   { return st.Bands != nil || st.slopes() }

func (st *AttnStats) check(op string, h *AttnHead) {
	if st.Width < 0 {
		panic(fmt.Sprintf("num: %s: bands of %d keys", op, st.Width))
	}
	if st.Width == 0 {
		st.Width = BandKeys
	}
	n := AttnBands(h.T, st.Width)
	for _, c := range []struct {
		name string
		v    []float64
		need int
	}{
		{"ColumnSums", st.ColumnSums, h.T}, {"Blocks", st.Blocks, n * n}, {"Bands", st.Bands, n},
		{"Influence", st.Influence, n}, {"Drop", st.Drop, n}, {"DropAbs", st.DropAbs, n},
	} {
		if c.v != nil {
			checkLen(op, c.name, len(c.v), c.need)
			clear(c.v)
		}
	}
	checkLen(op, "ArgMax", len(st.ArgMax), len(st.Rows))
	if st.Peak != nil {
		checkLen(op, "Peak", len(st.Peak), len(st.Rows))
	}
	for _, i := range st.Rows {
		if i < 0 || i >= h.T {
			panic(fmt.Sprintf("num: %s: row %d of %d", op, i, h.T))
		}
	}
}

// statScratch is what one running AttentionStats holds: packed operands, a tile of log-attention turned attention and of
// centred slopes, both row-major, and the sums of its rows by band.
type statScratch struct {
	q, do, k, v []float32          // vectors of Dim+1 values, as in backScratch
	a, c        []float32          // [queryTile+maxMR, keyTile]: A and G-g
	mass, cent  []float64          // [queryTile, bands]: ΣA and ΣA*(G-g)
	tail        []float64          // [bands]: cent of a row from a band on
	sink, away  [queryTile]float64 // mass and cent of the keys before Sink
	mean        [queryTile]float32 // g
	best        []float32          // log of the peak for each of Rows
}

var statPool = sync.Pool{New: func() any { return new(statScratch) }}

func getStatScratch(t, dim, width int) *statScratch {
	s := statPool.Get().(*statScratch)
	rows := queryTile + maxMR
	for _, b := range []struct {
		p *[]float32
		n int
	}{
		{&s.q, rows * (dim + 1)}, {&s.do, rows * (dim + 1)}, {&s.k, keyTile * (dim + 1)}, {&s.v, keyTile * (dim + 1)},
		{&s.a, rows * keyTile}, {&s.c, rows * keyTile},
	} {
		if len(*b.p) < b.n+slack {
			*b.p = make([]float32, b.n+slack)
		}
	}
	n := queryTile * AttnBands(t, width)
	if cap(s.mass) < n {
		s.mass, s.cent = make([]float64, n), make([]float64, n)
	}
	s.mass, s.cent = s.mass[:n], s.cent[:n]
	if bands := n / queryTile; len(s.tail) < bands+1 {
		s.tail = make([]float64, bands+1)
	}
	return s
}

// AttentionStats fills in st for one head in one pass over its tiles. g.LSE is what AttentionHead gave under the same mask;
// the rest of g, and V, are read where Influence, Drop or DropAbs are wanted. Tiles that the mask hides are skipped; memory
// beyond the arguments grows with T only by queryTile/Width sums each way. Sums are f32 within a row of a tile or a
// column of one and f64 beyond, queries and keys ascending.
func AttentionStats(st AttnStats, h AttnHead, g AttnGrad) {
	const op = "AttentionStats"
	slopes := st.slopes()
	h.check(op, slopes, 0, h.T)
	checkLen(op, "LSE", len(g.LSE), h.T)
	if slopes {
		g.check(op, &h)
	}
	st.check(op, &h)
	s := getStatScratch(h.T, h.Dim, st.Width)
	defer statPool.Put(s)
	s.best = make([]float32, len(st.Rows))
	for r := range s.best {
		s.best[r] = float32(math.Inf(-1))
	}
	for q0 := 0; q0 < h.T; q0 += queryTile {
		q1 := min(q0+queryTile, h.T)
		s.start(&h, &g, q0, q1, slopes)
		for j0 := 0; j0 < q1; j0 += keyTile {
			if j1 := min(j0+keyTile, h.T); !h.hidden(q0, q1, j0, j1) {
				s.tile(&h, q0, q1, j0, j1, slopes, &st)
				s.collect(&st, &h, q0, q1, j0, j1)
			}
		}
		if st.rows() {
			s.finish(&st, &h, q0, q1)
		}
	}
	for r, v := range s.best {
		if st.Peak != nil {
			st.Peak[r] = float32(math.Exp(float64(v)))
		}
	}
}

func (s *statScratch) start(h *AttnHead, g *AttnGrad, q0, q1 int, slopes bool) {
	mr := kernel32.mr
	packPlus(s.q, h.Q[q0*h.LDQ:], h.LDQ, q1-q0, h.Dim, mr, h.Scale, func(i int) float32 { return -g.LSE[q0+i] })
	if slopes {
		for i := range q1 - q0 {
			s.mean[i] = g.mean(q0+i, h.Dim)
		}
		packPlus(s.do, g.DOut[q0*g.LDO:], g.LDO, q1-q0, h.Dim, mr, 1, func(i int) float32 { return -s.mean[i] })
	}
	clear(s.mass)
	clear(s.cent)
	clear(s.sink[:])
	clear(s.away[:])
}

// tile fills a, and c where slopes are wanted, for the queries [q0, q1) and keys [j0, j1), zero where the mask hides, and
// notes the peaks of rows.
func (s *statScratch) tile(h *AttnHead, q0, q1, j0, j1 int, slopes bool, st *AttnStats) {
	mr, nr, dim := kernel32.mr, kernel32.nr, h.Dim+1
	one := func(int) float32 { return 1 }
	packPlus(s.k, h.K[j0*h.LDK:], h.LDK, j1-j0, h.Dim, nr, 1, one)
	if slopes {
		packPlus(s.v, h.V[j0*h.LDV:], h.LDV, j1-j0, h.Dim, nr, 1, one)
	}
	for i := 0; i < q1-q0; i += mr {
		for j := 0; j < j1-j0; j += nr {
			if h.hidden(q0+i, q0+i+mr, j0+j, j0+j+nr) {
				continue
			}
			kernel32.run(s.a[i*keyTile+j:], keyTile, s.q[i*dim:], s.k[j*dim:], dim, false)
			if slopes {
				kernel32.run(s.c[i*keyTile+j:], keyTile, s.do[i*dim:], s.v[j*dim:], dim, false)
			}
		}
	}
	s.peaks(st, h, q0, q1, j0)
	part := h.partial(q0, q1, j0, j0+keyTile)
	for i := range q1 - q0 {
		row := s.a[i*keyTile:][:keyTile]
		exp32(row, row)
		if part {
			h.blank(row, q0+i, j0)
			if slopes {
				h.blank(s.c[i*keyTile:][:keyTile], q0+i, j0)
			}
		}
	}
}

// peaks updates the largest log-attention of the rows that are asked for.
func (s *statScratch) peaks(st *AttnStats, h *AttnHead, q0, q1, j0 int) {
	for r, i := range st.Rows {
		if i < q0 || i >= q1 {
			continue
		}
		row := s.a[(i-q0)*keyTile:][:keyTile]
		a, b, c := h.unseen(i, j0, keyTile)
		for j, v := range row[:c] {
			if v > s.best[r] && (j < a || j >= b) {
				s.best[r], st.ArgMax[r] = v, j0+j
			}
		}
	}
}

// collect adds a tile to the statistics.
func (s *statScratch) collect(st *AttnStats, h *AttnHead, q0, q1, j0, j1 int) {
	var columns [keyTile]float32
	width, bands := st.Width, AttnBands(h.T, st.Width)
	for i := range q1 - q0 {
		row := s.a[i*keyTile:][:min(keyTile, j1-j0)]
		if st.ColumnSums != nil {
			Add(columns[:], row)
		}
		for j, next := 0, 0; st.Blocks != nil && j < min(len(row), q0+i+1-j0); j = next {
			c := (j0 + j) / width
			next = min(width*(c+1)-j0, len(row))
			st.Blocks[(q0+i)/width*bands+c] += float64(sum(row[j:next]))
		}
		if st.rows() {
			s.bands(st, h, q0, i, j0, j1)
		}
	}
	if st.ColumnSums != nil {
		for j, v := range columns[:j1-j0] {
			st.ColumnSums[j0+j] += float64(v)
		}
	}
}

// bands adds a row of the tile to the sums of its bands.
func (s *statScratch) bands(st *AttnStats, h *AttnHead, q0, i, j0, j1 int) {
	q, width, bands := q0+i, st.Width, AttnBands(h.T, st.Width)
	a, c := s.a[i*keyTile:][:keyTile], s.c[i*keyTile:]
	end := min(j1, q+1) - j0
	j := min(max(st.Sink-j0, 0), end)
	if j > 0 {
		s.sink[i] += float64(sum(a[:j]))
		if st.slopes() {
			s.away[i] += float64(dot(a[:j], c[:j]))
		}
	}
	single := q == 0 || h.Recent == 1 && h.Sink == 0
	for j < end {
		b := (q - j0 - j) / width
		next := min(end, q-width*b+1-j0)
		s.mass[i*bands+b] += float64(sum(a[j:next]))
		if st.slopes() {
			c := c[j:next]
			s.cent[i*bands+b] += float64(dot(a[j:next], c))
			if st.Influence != nil {
				st.Influence[b] += float64(influence(a[j:next], c, s.mean[i], single))
			}
		}
		j = next
	}
}

// influence returns Σ |a/(1-a)*c|, or for the row of a single key Σ a*|c+mean|.
func influence(a, c []float32, mean float32, single bool) float32 {
	var s float32
	for j, v := range c {
		p := a[j]
		if single {
			s += float32(p * math.Float32frombits(math.Float32bits(v+mean)&^(1<<31)))
			continue
		}
		e := p * v / max(1-p, 1.0/(1<<20))
		s += math.Float32frombits(math.Float32bits(e) &^ (1 << 31))
	}
	return s
}

// finish turns the sums of the rows [q0, q1) into what st asks for. The change of a row is the mean of G-g over what is
// kept. Over all keys A*(G-g) sums to zero, so that the sum over what is kept is the negative of that over what is dropped:
// where little is kept the one is summed, from the near end, and where little is dropped the other, from the far end, so that
// neither is a difference of nearly equal numbers.
func (s *statScratch) finish(st *AttnStats, h *AttnHead, q0, q1 int) {
	bands := AttnBands(h.T, st.Width)
	for i := range q1 - q0 {
		last := (q0 + i) / st.Width
		mass, cent := s.mass[i*bands:][:last+1], s.cent[i*bands:][:last+1]
		for b := 0; st.Bands != nil && b <= last; b++ {
			st.Bands[b] += mass[b]
		}
		if st.Drop == nil && st.DropAbs == nil {
			continue
		}
		s.tail[last+1] = 0
		for b := last; b > 0; b-- {
			s.tail[b] = s.tail[b+1] + cent[b]
		}
		kept, near := s.sink[i], s.away[i]
		for b := 1; b <= last; b++ {
			kept, near = kept+mass[b-1], near+cent[b-1]
			effect := -float64(s.mean[i]) // nothing left
			switch {
			case kept >= 0.5:
				effect = -s.tail[b] / kept
			case kept > 0:
				effect = near / kept
			}
			if st.Drop != nil {
				st.Drop[b] += effect
			}
			if st.DropAbs != nil {
				st.DropAbs[b] += math.Abs(effect)
			}
		}
	}
}
