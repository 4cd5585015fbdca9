package heads

import (
	"math"

	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// patternLosses is patternLoss for all heads, where the device attends to any keys; a head without a pattern sees none. Memory: 64 MiB for
// sets of keys, or ⌈T/64⌉*8 bytes for each head, and 8*H*K bytes for each row that is done at once.
func (r rows) patternLosses(d device.AttnReader, sample []int, patterns []nn.Pattern) ([]patternLoss, error) {
	s, words := r.Shape, device.AttnWords(r.Shape.T)
	r.Read(nn.LSE)
	most := min(len(sample), max(1, (8<<20)/(s.H*words)))
	dense, err := r.Dev.Alloc(device.F32, most*s.H*s.K)
	if err != nil {
		return nil, err
	}
	defer dense.Free()
	losses := make([]patternLoss, s.H)
	full, out := make([]float32, most*s.H*s.K), make([]float32, most*s.H*s.K)
	lse, seen := make([]float32, s.H*most), make([]uint64, s.H*most*words)
	for ; len(sample) > 0; sample = sample[min(most, len(sample)):] {
		list := sample[:min(most, len(sample))]
		n := len(list)
		ids := make([]int32, n)
		for i, row := range list {
			ids[i] = int32(row)
		}
		r.Dev.Gather(dense, r.DevOut, ids, s.H*s.K)
		r.Dev.Download(full[:n*s.H*s.K], dense, 0)
		r.Dev.For(s.H, func(h int) { markSpans(seen[h*n*words:][:n*words], patterns[h], list) })
		d.AttnOver(out[:n*s.H*s.K], lse[:s.H*n], seen[:s.H*n*words], list, r.DevQ, r.DevK, r.DevV, s)
		r.Dev.For(s.H, func(h int) {
			for i, row := range list {
				losses[h].addRow(full[(i*s.H+h)*s.K:][:s.K], out[(i*s.H+h)*s.K:], float64(lse[h*n+i])-float64(r.LSE[h*s.T+row]))
			}
		})
	}
	return losses, nil
}

// addRow adds a row whose log-sum-exp under the pattern is by log below that of dense attention.
func (l *patternLoss) addRow(full, out []float32, log float64) {
	for c, v := range full {
		d := float64(v) - float64(out[c])
		l.diff += float64(d * d)
		l.full += float64(float64(v) * float64(v))
	}
	l.mass += math.Min(1, math.Exp(log))
	l.rows++
}

// markSpans sets the bits of the keys that the rows see, one row of words after the other.
func markSpans(seen []uint64, p nn.Pattern, rows []int) {
	clear(seen)
	if p == nil {
		return
	}
	words := len(seen) / len(rows)
	var spans []nn.Span
	for n, i := range rows {
		row := seen[n*words:][:words]
		spans = p.Spans(spans[:0], i)
		for _, s := range spans {
			for j := s.Lo; j < s.Hi; {
				end := min(s.Hi, (j/64+1)*64)
				row[j/64] |= (^uint64(0) >> (64 - (end - j))) << (j % 64)
				j = end
			}
		}
	}
}

// estimates is [nn.Estimate] for all heads over the whole window, where the device reads attention: columns and diagonals, [H][T] each.
func (r rows) estimates(d device.AttnReader, lastQ int) (columns, diagonals [][]float64) {
	t := r.Shape.T
	for range r.Shape.H {
		columns, diagonals = append(columns, make([]float64, t)), append(diagonals, make([]float64, t))
	}
	r.weightRows(d, max(0, t-lastQ), t, func(lo, hi int, a []float32) {
		r.Dev.For(r.Shape.H, func(h int) {
			for i := lo; i < hi; i++ {
				for j, p := range a[(h*(hi-lo)+i-lo)*t:][:i+1] {
					columns[h][j] += float64(p)
					diagonals[h][i-j] += float64(p)
				}
			}
		})
	})
	return columns, diagonals
}
