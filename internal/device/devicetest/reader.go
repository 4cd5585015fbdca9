package devicetest

import (
	"math"

	"modelpress/internal/device"
)

// plainAttn is one call of attention on the host, whose parts are read off by plain loops in float64.
type plainAttn struct {
	q, k, v, lse []float32
	s            device.AttnShape
	masks        []device.Mask
}

// score is scale·q_i·k_j.
func (p *plainAttn) score(h, i, j int) float64 {
	g, sum := h/(p.s.H/p.s.G), 0.0
	for c := range p.s.K {
		sum += float64(p.q[(i*p.s.H+h)*p.s.K+c]) * float64(p.k[(j*p.s.G+g)*p.s.K+c])
	}
	return sum * float64(p.s.Scale)
}

// attention is A[h, i, j].
func (p *plainAttn) attention(h, i, j int) float64 {
	if g := h / (p.s.H / p.s.G); j > i || p.masks != nil && !p.masks[g].Full() && j >= p.masks[g].Sink && i-j >= p.masks[g].Recent {
		return 0
	}
	return math.Exp(p.score(h, i, j) - float64(p.lse[h*p.s.T+i]))
}

func (p *plainAttn) rows(a []float32, rows []int) {
	for h := range p.s.H {
		for n, i := range rows {
			for j := range p.s.T {
				a[(h*len(rows)+n)*p.s.T+j] = float32(p.attention(h, i, j))
			}
		}
	}
}

func (p *plainAttn) mass(mass []float64, spans []device.AttnSpan, ends []int) {
	for h := range p.s.H {
		from := 0
		for g, end := range ends {
			sum := 0.0
			for _, span := range spans[from:end] {
				for j := span.Lo; j < span.Hi; j++ {
					sum += p.attention(h, int(span.Row), int(j))
				}
			}
			mass[h*len(ends)+g], from = sum, end
		}
	}
}

func (p *plainAttn) likeness(dst [][3]float64, o *plainAttn) {
	for h := range p.s.H {
		dst[h] = [3]float64{}
		for i := range p.s.T {
			for j := range i + 1 {
				a, b := p.attention(h, i, j), o.attention(h, i, j)
				dst[h][0] += a * b
				dst[h][1] += a * a
				dst[h][2] += b * b
			}
		}
	}
}

func (p *plainAttn) over(out, lse []float32, seen []uint64, rows []int) {
	words := device.AttnWords(p.s.T)
	for h := range p.s.H {
		for n, i := range rows {
			bits := seen[(h*len(rows)+n)*words:][:words]
			sum, total := make([]float64, p.s.K), 0.0
			for j := range i + 1 {
				if bits[j/64]>>(j%64)&1 == 0 {
					continue
				}
				w := math.Exp(p.score(h, i, j))
				total += w
				for c := range sum {
					sum[c] += w * float64(p.v[(j*p.s.G+h/(p.s.H/p.s.G))*p.s.K+c])
				}
			}
			lse[h*len(rows)+n] = float32(math.Log(total))
			for c, x := range sum {
				if total > 0 {
					x /= total
				}
				out[(n*p.s.H+h)*p.s.K+c] = float32(x)
			}
		}
	}
}

func plainGaps(gap, size []float64, a, b []float32, from int, s device.AttnShape) {
	for h := range s.H {
		gap[h], size[h] = 0, 0
		for t := from; t < s.T; t++ {
			for c := (t*s.H + h) * s.K; c < (t*s.H+h+1)*s.K; c++ {
				d := float64(a[c]) - float64(b[c])
				gap[h] += d * d
				size[h] += float64(a[c]) * float64(a[c])
			}
		}
	}
}

// Reader is a Remote that reads off attention in its own memory, by plain loops in float64.
type Reader struct{ *Remote }

var _ device.AttnReader = Reader{}

// host returns the memory of the device behind, nil for no buffer.
func (r Reader) host(b device.Buf) []float32 {
	if b == nil {
		return nil
	}
	return r.Device.Host(in(b))
}

func (r Reader) plain(a device.AttnInput) *plainAttn {
	return &plainAttn{q: r.host(a.Q), k: r.host(a.K), lse: r.host(a.LSE), s: a.Shape, masks: a.Masks}
}

// AttnRows implements device.AttnReader.
func (r Reader) AttnRows(a []float32, rows []int, q, k, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	r.run("AttnRows", len(rows))
	r.down.Add(4 * int64(s.H*len(rows)*s.T))
	r.plain(device.AttnInput{Q: q, K: k, LSE: lse, Shape: s, Masks: masks}).rows(a, rows)
}

// AttnMass implements device.AttnReader.
func (r Reader) AttnMass(mass []float64, spans []device.AttnSpan, ends []int, q, k, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	r.run("AttnMass", 3*len(spans)+len(ends))
	r.down.Add(8 * int64(s.H*len(ends)))
	r.plain(device.AttnInput{Q: q, K: k, LSE: lse, Shape: s, Masks: masks}).mass(mass, spans, ends)
}

// AttnLikeness implements device.AttnReader.
func (r Reader) AttnLikeness(dst [][3]float64, a, b device.AttnInput) {
	r.run("AttnLikeness", 0)
	r.plain(a).likeness(dst, r.plain(b))
}

// AttnOver implements device.AttnReader.
func (r Reader) AttnOver(out, lse []float32, seen []uint64, rows []int, q, k, v device.Buf, s device.AttnShape) {
	r.run("AttnOver", 2*len(seen)+len(rows))
	r.down.Add(4 * int64(len(rows)*s.H*(s.K+1)))
	p := r.plain(device.AttnInput{Q: q, K: k, Shape: s})
	p.v = r.host(v)
	p.over(out, lse, seen, rows)
}

// HeadGaps implements device.AttnReader.
func (r Reader) HeadGaps(gap, size []float64, a, b device.Buf, from int, s device.AttnShape) {
	r.run("HeadGaps", 0)
	plainGaps(gap, size, r.host(a), r.host(b), from, s)
}
