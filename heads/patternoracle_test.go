package heads

import (
	"math"
	"math/rand/v2"

	"modelpress/formats/manifest"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// largest flags the best scores until count are flagged, the forced ones first and the earlier of equals.
func largest(scores []float64, count int, forced func(i int) bool) []bool {
	out, n := make([]bool, len(scores)), 0
	for i := range scores {
		if forced(i) {
			out[i], n = true, n+1
		}
	}
	for ; n < min(count, len(scores)); n++ {
		at := -1
		for i, v := range scores {
			if !out[i] && (at < 0 || v > scores[at]) {
				at = i
			}
		}
		out[at] = true
	}
	return out
}

// seenUnder returns what each query of head h sees under a policy over the whole window, [T][T], from the dense matrix.
func seenUnder(p manifest.Policy, r rows, h int, dense [][]float64) [][]bool {
	t := r.Shape.T
	columns, distances := make([]float64, t), make([]float64, t)
	for i := max(0, t-p.LastQ); i < t; i++ {
		for j := 0; j <= i; j++ {
			columns[j] += dense[i][j]
			distances[i-j] += dense[i][j]
		}
	}
	vertical := largest(columns, p.Vertical, func(j int) bool { return j < p.ForceVertical })
	slash := largest(distances, p.Slash, func(d int) bool { return d < max(1, p.ForceSlash) })
	out := make([][]bool, t)
	var blocks []bool
	for i := range out {
		if p.Kind == manifest.KindBlockTopK && i%p.Block == 0 {
			b := i / p.Block
			scores := blockMeans(r, h, i, min(i+p.Block, t), p.Block)
			count := p.Blocks
			if p.Selector == "xattention" {
				scores = antidiagonals(r, h, i, min(i+p.Block, t), p)
				sum := scores[b]
				for count = 1; count <= b && sum < p.Threshold; count++ {
					sum = 0
					for c, in := range largest(scores, count+1, func(c int) bool { return c == b }) {
						if in {
							sum += scores[c]
						}
					}
				}
			}
			blocks = largest(scores, count, func(c int) bool { return c == b })
		}
		out[i] = make([]bool, t)
		for j := 0; j <= i; j++ {
			switch p.Kind {
			case manifest.KindStreaming:
				out[i][j] = j < p.Sink || i-j < p.Recent
			case manifest.KindVerticalSlash:
				out[i][j] = vertical[j] || slash[i-j]
			case manifest.KindBlockTopK:
				out[i][j] = blocks[j/p.Block]
			case manifest.KindLocalStride:
				b, c := i/p.Block, j/p.Block
				out[i][j] = b-c < p.LocalBlocks || c >= p.Offset && (c-p.Offset)%p.VertStride == 0
			case manifest.KindPower:
				d := i/p.Block - j/p.Block
				out[i][j] = j < p.Sink || d < p.LocalBlocks || math.Exp2(math.Round(math.Log2(float64(d)))) == float64(d)
			default:
				out[i][j] = true
			}
		}
	}
	return out
}

// scoreOf is the float64 score of query i and key j of head h.
func scoreOf(r rows, h, i, j int) float64 {
	sum := 0.0
	for c, v := range r.query(h, i) {
		sum += float64(v) * float64(r.key(h, j)[c])
	}
	return sum * float64(r.Shape.Scale)
}

// blockMeans is the mean score of the queries [q0, q1) with each block of keys: means of products are products of means.
func blockMeans(r rows, h, q0, q1, block int) []float64 {
	out := make([]float64, q0/block+1)
	for c := range out {
		n := 0
		for i := q0; i < q1; i++ {
			for j := c * block; j < min((c+1)*block, r.Shape.T); j++ {
				out[c] += scoreOf(r, h, i, j)
				n++
			}
		}
		out[c] /= float64(n)
	}
	return out
}

// antidiagonals are the shares of XAttention for a block of queries; the stride divides the block and the window.
func antidiagonals(r rows, h, q0, q1 int, p manifest.Policy) []float64 {
	out := make([]float64, q0/p.Block+1)
	for a := q0; a < q1; a += p.Stride {
		var e []float64
		total := 0.0
		for b := 0; b <= a; b += p.Stride {
			s := 0.0
			for x := range p.Stride {
				s += scoreOf(r, h, a+x, b+p.Stride-1-x)
			}
			e = append(e, math.Exp(s/float64(p.Stride)))
			total += e[len(e)-1]
		}
		for n, v := range e {
			out[n*p.Stride/p.Block] += v / total / float64((q1-q0)/p.Stride)
		}
	}
	return out
}

// pairsOf counts flags.
func pairsOf(seen [][]bool) (n int64) {
	for _, row := range seen {
		for _, s := range row {
			if s {
				n++
			}
		}
	}
	return n
}

// slowPatternLoss is patternLoss over all rows, from whole matrices.
func slowPatternLoss(r rows, h int, dense [][]float64, seen [][]bool) (l patternLoss) {
	g := h / (r.Shape.H / r.Shape.G)
	for i, row := range dense {
		full, sparse, kept := make([]float64, r.Shape.K), make([]float64, r.Shape.K), 0.0
		for j := 0; j <= i; j++ {
			if seen[i][j] {
				kept += row[j]
			}
		}
		for j := 0; j <= i; j++ {
			v := r.V[(j*r.Shape.G+g)*r.Shape.K:][:r.Shape.K]
			for c := range v {
				full[c] += row[j] * float64(v[c])
				if seen[i][j] {
					sparse[c] += row[j] / kept * float64(v[c])
				}
			}
		}
		for c := range full {
			l.diff += (full[c] - sparse[c]) * (full[c] - sparse[c])
			l.full += full[c] * full[c]
		}
		l.mass += kept
		l.rows++
	}
	return l
}

// withOut fills in the dense output of a made-up state.
func withOut(r rows) rows {
	s := r.Shape
	r.Out = make([]float32, s.T*s.H*s.K)
	for h := range s.H {
		for i, row := range headOutput(r.AttnState, h, matrix(r.AttnState, h, device.Mask{})) {
			for c, v := range row {
				r.Out[(i*s.H+h)*s.K+c] = float32(v)
			}
		}
	}
	return r
}

// structured returns the state of three heads over t tokens with a KV head each: one that looks near, one at a few columns
// and one at one earlier block of 16 for each block.
func structured(t int) rows {
	const k, block = 32, 16
	rng := rand.New(rand.NewPCG(5, 9))
	r := randomState(t, 3, 3, k, 0, 3)
	clear(r.Q)
	clear(r.K)
	direction := func() []float64 {
		u, norm := make([]float64, k), 0.0
		for c := range u {
			u[c] = rng.NormFloat64()
			norm += u[c] * u[c]
		}
		for c := range u {
			u[c] /= math.Sqrt(norm)
		}
		return u
	}
	u := make([][]float64, t/block)
	for b := range u {
		u[b] = direction()
	}
	set := func(x []float32, i, h, c int, v float64) { x[(i*3+h)*k+c] = float32(v) }
	heavy := map[int]bool{40: true, 41: true, 77: true, 103: true}
	for i := range t {
		for f := range k / 2 { // head 0: cos(θ(i-j)), largest at i = j
			angle := float64(i) * 2 / math.Pow(1.3, float64(f))
			s, c := math.Sincos(angle)
			for _, x := range [][]float32{r.Q, r.K} {
				set(x, i, 0, 2*f, 3*c)
				set(x, i, 0, 2*f+1, 3*s)
			}
		}
		set(r.Q, i, 1, 0, 8)
		if heavy[i] {
			set(r.K, i, 1, 0, 10)
		}
		far := (i/block*7 + 3) % max(1, i/block)
		if i < block {
			far = 0
		}
		for c := range k {
			set(r.Q, i, 2, c, 12*u[far][c])
			set(r.K, i, 2, c, 12*u[i/block][c])
		}
	}
	for h := range 3 {
		for i := range t {
			r.LSE[h*t+i] = float32(logSumExp(r.AttnState, h, i, device.Mask{}))
		}
	}
	return withOut(rows{AttnState: &nn.AttnState{Shape: r.Shape, Q: r.Q, K: r.K, V: r.V, LSE: r.LSE}})
}
