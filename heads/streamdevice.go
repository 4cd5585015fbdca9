package heads

import (
	"math"

	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// streamed is the output of a layer whose heads all stream and its log-sum-exp, on the device.
type streamed struct{ out, lse device.Buf }

func (s *streamed) free() { freeAll(s.out, s.lse) }

// stream runs the layer's attention again with every head streaming.
func (p *lossPass) stream(r rows) (*streamed, error) {
	s := r.Shape
	var st streamed
	var err error
	if st.out, err = r.Dev.Alloc(device.F32, s.T*s.H*s.K); err != nil {
		return nil, err
	}
	if st.lse, err = r.Dev.Alloc(device.F32, s.H*s.T); err != nil {
		st.free()
		return nil, err
	}
	masks := make([]device.Mask, s.G)
	for g := range masks {
		masks[g] = StreamMask(p.opt.Sink, p.opt.Recent, r.window)
	}
	r.Dev.Attention(st.out, st.lse, r.DevQ, r.DevK, r.DevV, s, masks)
	return &st, nil
}

// measureThere is measure where the device reads attention: outputs stay there, and what is projected is worked with some rows at a time.
func (p *lossPass) measureThere(d device.AttnReader, layer, window int, r rows) error {
	st, err := p.stream(r)
	if err != nil {
		return err
	}
	defer st.free()
	lse := make([]float32, r.Shape.H*r.Shape.T)
	r.Dev.Download(lse, st.lse, 0)
	r.Read(nn.LSE)
	unseen := p.sinksUnseen(d, r)
	for h := range r.Shape.H {
		p.mass.v[window][layer][h] = massHidden(r, lse, unseen, h, p.first())
	}
	d.HeadGaps(p.diff.v[window][layer], p.full.v[window][layer], r.DevOut, st.out, p.first(), r.Shape)
	return p.projectedThere(layer, window, r, st.out)
}

// sinksUnseen is the attention, by the layer's own log-sum-exp, of each query from first on to the sinks that the layer's window hides from
// it, [H, T-first]; nil where there are none.
func (p *lossPass) sinksUnseen(d device.AttnReader, r rows) []float64 {
	t := r.Shape.T
	if p.opt.Sink == 0 || r.low(t-1) == 0 {
		return nil
	}
	var spans []device.AttnSpan
	var ends []int
	for i := p.first(); i < t; i++ {
		spans, ends = append(spans, span(i, 0, min(p.opt.Sink, r.low(i)))), append(ends, len(spans)+1)
	}
	out := make([]float64, r.Shape.H*len(ends))
	d.AttnMass(out, spans, ends, r.DevQ, r.DevK, r.DevLSE, r.Shape, nil)
	return out
}

// massHidden is massLost with what the window hides of the sinks.
func massHidden(r rows, lse []float32, unseen []float64, h, first int) float64 {
	var sum float64
	t := r.Shape.T
	for i := first; i < t; i++ {
		lost := -math.Expm1(float64(lse[h*t+i]) - float64(r.LSE[h*t+i]))
		if unseen != nil {
			lost += unseen[h*(t-first)+i-first]
		}
		sum += math.Max(0, lost)
	}
	return sum
}

// projectRows is how many rows are projected at a time.
const projectRows = 8192

// projectedThere is projected on the device, on which out, that of streaming heads, becomes the difference. Memory: 4*8192*(D+(H/G)*K) bytes.
func (p *lossPass) projectedThere(layer, window int, r rows, out device.Buf) error {
	s, d := r.Shape, p.m.Arch.D
	minus := make([]float32, s.H*s.K)
	for i := range minus {
		minus[i] = -1
	}
	r.Dev.ScaleColumns(out, out, minus, s.T, s.H*s.K)
	r.Dev.Add(out, r.DevOut, s.T*s.H*s.K)
	rows, width := min(projectRows, s.T-p.first()), s.H/s.G*s.K
	x, err := r.Dev.Alloc(device.F32, rows*width)
	if err != nil {
		return err
	}
	defer x.Free()
	y, err := r.Dev.Alloc(device.F32, rows*d)
	if err != nil {
		return err
	}
	defer y.Free()
	// project adds to y what a KV head writes in the rows lo to hi-1 of a tensor of heads.
	project := func(heads device.Buf, g, lo, hi int, beta float32) {
		ids := make([]int32, hi-lo)
		for i := range ids {
			ids[i] = int32((lo+i)*s.G + g)
		}
		r.Dev.Gather(x, heads, ids, width)
		r.Dev.MatMulNT(y, x, p.project[g], hi-lo, d, width, beta)
	}
	stream := make([]float32, s.T*d)
	if err := r.input(stream); err != nil {
		return err
	}
	lost, total := make([][]float64, s.G), make([]float64, d)
	for g := range lost {
		lost[g] = make([]float64, d)
	}
	for lo := p.first(); lo < s.T; lo += rows {
		hi := min(lo+rows, s.T)
		for g := range s.G {
			project(out, g, lo, hi, 0)
			r.Dev.ColumnDots(lost[g], y, y, hi-lo, d)
		}
		r.Dev.Upload(y, 0, stream[lo*d:hi*d])
		for g := range s.G {
			project(r.DevOut, g, lo, hi, 1)
		}
		r.Dev.ColumnDots(total, y, y, hi-lo, d)
	}
	for g := range lost {
		p.proj[window][layer][g] = sum(lost[g])
	}
	p.total[window][layer] = sum(total)
	return nil
}
