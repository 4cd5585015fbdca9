//go:build cuda

package cuda

import "modelpress/internal/device"

// AttnStatistics fills in st, kind by kind: those by distance in one pass over the attention of all heads, column sums, blocks and peaks in
// passes of their own. What is not asked for costs nothing. Bands of any width are summed as they come; what a row keeps of its keys when
// distant bands are dropped is carried along the row.
//
// Memory: planes of queries and keys, and where gradients are needed of their likes, 2*terms*kp*tp bytes (see heads) for each query head
// and KV head; 8 bytes for each band, lane of a query head (see lanes) and statistic; and what is asked for. Where there is no room for
// all heads they are done in pieces, down to one KV head with its query heads.
func (d *Device) AttnStatistics(st *device.AttnStats, q, k, v, out, dout, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	const op = "AttnStatistics"
	checkHeads(op, s, masks)
	checkAlone(op, s)
	checkStats(op, st, s)
	if s.T == 0 {
		return
	}
	c := d.begin(op)
	defer c.end()
	hq, hk := s.T*s.H*s.K, s.T*s.G*s.K
	a := &attnStats{heads: c.heads(s, masks), st: st, q: c.in(q, hq), k: c.in(k, hk), lse: c.in(lse, s.H*s.T)}
	if st.NeedsGradient() {
		a.v, a.out, a.dout = c.in(v, hk), c.in(out, hq), c.in(dout, hq)
	}
	a.number = device.AttnBands(s.T, st.Width)
	a.width = min(st.Width, s.T)
	if st.Width == 0 {
		a.width = device.BandKeys
	}
	if a.asks() {
		a.run()
	}
	if len(st.Rows) > 0 {
		a.peaks()
	}
}

// attnStats is a call of AttnStatistics.
type attnStats struct {
	*heads
	st                     *device.AttnStats
	q, k, v, out, dout     ptr
	lse                    ptr
	width, number          int
	queryPlanes, keyPlanes ptr // of the piece in work
	gradPlanes, valPlanes  ptr
	mean, sums, results    ptr
}

// asks reports whether anything is asked for besides peaks.
func (a *attnStats) asks() bool {
	return a.st.ColumnSums != nil || a.st.Blocks != nil || len(a.byDistance()) > 0
}

// byDistance lists what is asked for by distance, in the order of the kernels' parameters, nil for what is not.
func (a *attnStats) byDistance() [][]float64 {
	list := [][]float64{a.st.Bands, a.st.Influence, a.st.Drop, a.st.DropAbs}
	for _, v := range list {
		if v != nil {
			return list
		}
	}
	return nil
}

// lanes is the number of blocks that share the tiles of a query head, each with sums of its own: about a thousand over all heads, fewer
// where bands are so narrow that their sums would take more than 256 MiB, but 8.
func (a *attnStats) lanes() int {
	n := ceilDiv(1024, a.s.H)
	if a.c.d.blocks > 0 {
		n = ceilDiv(a.c.d.blocks, a.s.H)
	}
	for n > 8 && 32*int64(n)*int64(a.s.H)*int64(a.number) > 256<<20 {
		n = ceilDiv(n, 2)
	}
	return min(n, ceilDiv(a.s.T, planeRows))
}

// run does everything but peaks, a piece at a time.
func (a *attnStats) run() {
	s, each := a.s, a.planeBytes()
	heads := int64(a.group)
	planes, mean, sums, results := (heads+1)*each, int64(0), int64(0), int64(0)
	if a.st.NeedsGradient() {
		planes *= 2
		mean = roundUp(4*heads*int64(s.T), 256)
	}
	for _, v := range a.byDistance() {
		if v != nil {
			sums += 8 * heads * int64(a.lanes()) * int64(a.number)
			results = max(results, 8*heads*int64(a.number))
		}
	}
	if a.st.ColumnSums != nil {
		results = max(results, 8*heads*int64(s.T))
	}
	if a.st.Blocks != nil {
		results = max(results, 8*heads*int64(a.number)*int64(a.number))
	}
	results = roundUp(results, 256)
	pieces := a.pieces(planes + mean + sums + results)
	units := int64(pieces[0].units())
	a.queryPlanes = a.c.scratch(units * (planes + mean + sums + results))
	a.keyPlanes = a.queryPlanes + ptr(units*heads*each)
	a.gradPlanes = a.keyPlanes + ptr(units*each)
	a.valPlanes = a.gradPlanes + ptr(units*heads*each)
	a.mean = a.queryPlanes + ptr(units*planes)
	a.results = a.mean + ptr(units*mean)
	a.sums = a.results + ptr(units*results)
	for _, p := range pieces {
		a.splitQueries(a.queryPlanes, a.q, p, a.sign)
		a.splitKeys(a.keyPlanes, a.k, p)
		a.piece(p)
	}
}

// piece fills in the statistics of some heads.
func (a *attnStats) piece(p piece) {
	if part := headsOf(a.st.ColumnSums, p, a.group, a.s.T); part != nil {
		a.columnSums(a.results, 0, a.queryPlanes, a.keyPlanes, a.rows(a.lse, p), p)
		a.c.fetch(doubleBytes(part), a.results)
	}
	if part := headsOf(a.st.Blocks, p, a.group, a.number*a.number); part != nil {
		a.blocks(p)
		a.c.fetch(doubleBytes(part), a.results)
	}
	if a.byDistance() != nil {
		a.distances(p)
	}
}

// headsOf returns what a piece has of n values for each query head, nil of nil.
func headsOf[T any](x []T, p piece, group, n int) []T {
	if x == nil {
		return nil
	}
	return x[p.head*group*n : (p.head+p.kv)*group*n]
}

// distances sums by bands.
func (a *attnStats) distances(p piece) {
	lists, lanes, heads := a.byDistance(), a.lanes(), p.kv*a.group
	size := 8 * int64(heads) * int64(lanes) * int64(a.number)
	var sums [4]ptr
	next := a.sums
	for i, v := range lists {
		if v != nil {
			sums[i], next = next, next+ptr(size)
		}
	}
	a.c.clear(a.sums, int64(next-a.sums))
	lse := a.rows(a.lse, p)
	tail := []any{a.masksOf(p), heads, a.group, lanes, a.s.T, a.tp, a.kp / planeRows, a.scale}
	if a.st.NeedsGradient() {
		a.splitQueries(a.gradPlanes, a.dout, p, 1)
		a.splitKeys(a.valPlanes, a.v, p)
		a.c.launch("attnstats", "attn_mean", [3]int{ceilDiv(heads*a.s.T, 8), 1, 1}, [3]int{256, 1, 1}, 0,
			a.mean, a.gradPlanes, a.queries(a.out, p), a.terms, heads, a.s.H, a.s.T, a.tp, a.kp, a.s.K)
		args := []any{sums[0], sums[1], sums[2], sums[3], a.width, a.number, a.st.Sink, a.queryPlanes, a.keyPlanes, a.gradPlanes, a.valPlanes, lse, a.mean}
		a.passing("attnstats", "attn_slopes", slopesRest, 2, heads*lanes, append(args, tail...))
	} else {
		args := []any{sums[0], a.width, a.number, a.st.Sink, a.queryPlanes, a.keyPlanes, lse}
		a.passing("attnstats", "attn_bands", bandsRest, 1, heads*lanes, append(args, tail...))
	}
	for i, v := range lists {
		if part := headsOf(v, p, a.group, a.number); part != nil {
			n := heads * a.number
			a.c.launch("attnstats", "attn_join", [3]int{ceilDiv(n, 256), 1, 1}, [3]int{256, 1, 1}, 0, a.results, sums[i], heads, lanes, a.number)
			a.c.fetch(doubleBytes(part), a.results)
		}
	}
}

// blocks sums by blocks.
func (a *attnStats) blocks(p piece) {
	heads := p.kv * a.group
	a.c.clear(a.results, 8*int64(heads)*int64(a.number)*int64(a.number))
	fit := max(1, planeRows/a.width)
	a.passing("attnblocks", "attn_blocks", blocksRest, 1, heads*ceilDiv(a.number, fit), []any{a.results, a.width, a.number, a.queryPlanes, a.keyPlanes,
		a.rows(a.lse, p), a.masksOf(p), heads, a.group, a.s.T, a.tp, a.kp / planeRows, a.scale})
}
