package heads

import (
	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// loadProjection uploads the columns of a layer's output projection that belong to each KV head: [D, (H/G)*K] per group.
func (p *lossPass) loadProjection(layer int) error {
	if p.layer == layer {
		return nil
	}
	p.free()
	l := p.m.Arch.Layers[layer]
	block, err := p.m.LoadBlock(layer)
	if err != nil {
		return err
	}
	w, err := block.Weight(arch.O)
	block.Free()
	if err != nil {
		return err
	}
	d, in, width := p.m.Arch.D, l.H*l.K, l.H/l.G*l.K
	cols := make([]float32, d*width)
	for g := range l.G {
		for o := range d {
			copy(cols[o*width:(o+1)*width], w[o*in+g*width:])
		}
		buf, err := p.m.Dev.Alloc(device.F32, len(cols))
		if err != nil {
			return err
		}
		p.m.Dev.Upload(buf, 0, cols)
		p.project = append(p.project, buf)
	}
	p.layer = layer
	return nil
}

// free gives the projections back.
func (p *lossPass) free() {
	for _, b := range p.project {
		b.Free()
	}
	p.project, p.layer = nil, -1
}

// projected adds the squared norms, after the output projection, of each group's difference and of the residual stream
// that attention leaves behind, without the projection's bias.
func (p *lossPass) projected(layer, window int, r rows, out []float32) error {
	s, d, first := r.Shape, p.m.Arch.D, p.first()
	n, width := s.T-first, s.H/s.G*s.K
	x, err := r.Dev.Alloc(device.F32, n*width)
	if err != nil {
		return err
	}
	defer x.Free()
	y, err := r.Dev.Alloc(device.F32, n*d)
	if err != nil {
		return err
	}
	defer y.Free()
	part, stream := make([]float32, n*width), make([]float32, s.T*d)
	for g := range s.G {
		groupColumns(part, r.Out, out, first, s, g)
		r.Dev.Upload(x, 0, part)
		r.Dev.MatMulNT(y, x, p.project[g], n, d, width, 0)
		r.Dev.Download(stream[first*d:], y, 0)
		p.proj[window][layer][g] = squares(stream[first*d:])
	}
	if err := r.input(stream); err != nil {
		return err
	}
	r.Dev.Upload(y, 0, stream[first*d:])
	for g := range s.G {
		groupColumns(part, r.Out, nil, first, s, g)
		r.Dev.Upload(x, 0, part)
		r.Dev.MatMulNT(y, x, p.project[g], n, d, width, 1)
	}
	r.Dev.Download(stream[first*d:], y, 0)
	p.total[window][layer] = squares(stream[first*d:])
	return nil
}

// groupColumns copies the columns of KV head g from the rows of full from first on, less those of out where it is given.
func groupColumns(dst, full, out []float32, first int, s device.AttnShape, g int) {
	width := s.H / s.G * s.K
	for i := first; i < s.T; i++ {
		at := i*s.H*s.K + g*width
		row := dst[(i-first)*width:][:width]
		copy(row, full[at:at+width])
		if out == nil {
			continue
		}
		for c, v := range out[at : at+width] {
			row[c] -= v
		}
	}
}

func squares(v []float32) float64 {
	var s float64
	for _, x := range v {
		s += float64(float64(x) * float64(x))
	}
	return s
}
