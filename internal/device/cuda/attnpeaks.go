//go:build cuda

package cuda

// Peaks: keys are cut into chunks of peakKeys for a block each, and rows are done peakRows at a time.
const (
	peakKeys  = 2048
	peakRows  = 4096
	peakItems = 8 // queries of a block
)

// peaks finds the most attended keys of single rows. It reads q and k themselves.
//
// Memory: 8*H*min(rows, 4096)*⌈T/2048⌉ bytes.
func (a *attnStats) peaks() {
	s, st := a.s, a.st
	rows := make([]int32, len(st.Rows))
	for i, r := range st.Rows {
		rows[i] = int32(r)
	}
	// Blocks go to groups of query heads and rows in the second dimension of the grid, which has 65535 places.
	most, chunks := min(len(rows), max(1, min(peakRows, 65535*peakItems/a.group))), ceilDiv(s.T, peakKeys)
	parts := int64(s.H) * int64(most) * int64(chunks)
	best := a.c.scratch(4 * parts)
	at := a.c.scratch(4 * parts)
	keys, peaks := a.c.scratch(4*int64(s.H)*int64(most)), a.c.scratch(4*int64(s.H)*int64(most))
	hostKeys, hostPeaks := make([]int32, s.H*most), make([]float32, s.H*most)
	for lo := 0; lo < len(rows); lo += most {
		n := min(most, len(rows)-lo)
		table := a.c.table(intBytes(rows[lo : lo+n]))
		a.c.launch("argmax", "attn_argmax", [3]int{chunks, ceilDiv(n*a.group, peakItems), s.G}, [3]int{128, 1, 1}, 4*peakItems*s.K,
			best, at, a.q, a.k, table, a.masks, n, s.T, s.H, s.G, s.K, a.terms, s.Scale, peakKeys)
		a.c.launch("argmax", "attn_argmax_join", [3]int{ceilDiv(s.H*n, 256), 1, 1}, [3]int{256, 1, 1}, 0,
			keys, peaks, best, at, table, a.lse, n, s.T, s.H, chunks)
		a.c.fetch(intBytes(hostKeys[:s.H*n]), keys)
		if st.Peak != nil {
			a.c.fetch(floatBytes(hostPeaks[:s.H*n]), peaks)
		}
		for h := range s.H {
			for r := range n {
				to := h*len(rows) + lo + r
				st.ArgMax[to] = int(hostKeys[h*n+r])
				if st.Peak != nil {
					st.Peak[to] = hostPeaks[h*n+r]
				}
			}
		}
	}
}
