package pipeline

import (
	"context"
	"errors"
	"math"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/prune/sparse"
	"modelpress/quantize"
)

// sparsity is what became of the weights of a result.
type sparsity struct {
	Method  string `json:"method"`
	Pattern string `json:"pattern"`
	Weights int64  `json:"weights"` // of the matrices that were made sparse
	Zeros   int64  `json:"zeros"`   // of them, as they lie on disk
}

// sparsityOf adds the matrices of a result up; nil where none was made sparse.
func sparsityOf(d *sparsifyDecision, notes []tensorNote) *sparsity {
	if d == nil {
		return nil
	}
	s := &sparsity{Method: d.Method, Pattern: d.pattern()}
	for _, n := range notes {
		s.Weights += n.Weights
		s.Zeros += n.Zeros
	}
	return s
}

// sparsifier carries a decision to make weights sparse out on one block after the other, in the order of quantizer: each
// projection sees what the sparse ones before it give.
//
// Peak memory beyond the block: one Gram matrix, 8·n² bytes (n the widest input), which SparseGPT factors in place, and one matrix
// in f32 four times over.
type sparsifier struct {
	d     *sparsifyDecision
	dev   device.Device
	store func(weight string) formats.DType // what a weight is written as
}

// block makes the planned matrices of a block sparse, in place. The result has no codes.
func (z *sparsifier) block(ctx context.Context, p *blockPass) (map[arch.Role]*quantize.Matrix, []tensorNote, error) {
	s, err := z.d.scheme()
	if err != nil {
		return nil, nil, err
	}
	var notes []tensorNote
	for _, site := range p.b.Arch().Sites() {
		var roles []arch.Role
		for _, r := range site.Roles() {
			if lin := p.b.Arch().Linears[r]; lin.Present() && z.d.has(lin.Module()) {
				roles = append(roles, r)
			}
		}
		found, err := z.site(ctx, p, site, roles, s)
		if err != nil {
			return nil, nil, err
		}
		notes = append(notes, found...)
	}
	return nil, notes, nil
}

// site makes the projections behind a site sparse that are planned.
func (z *sparsifier) site(ctx context.Context, p *blockPass, site nn.Site, roles []arch.Role, s sparse.Scheme) (notes []tensorNote, err error) {
	var h *calib.Hessian
	if z.d.needsData() {
		if h, err = siteHessian(ctx, p, site, len(roles) > 0, nil); err != nil {
			return nil, err
		}
		defer h.Free()
	}
	for _, r := range roles {
		note, err := z.matrix(p.b, r, h, s)
		if err != nil {
			return nil, err
		}
		if err := p.mirror(r); err != nil {
			return nil, err
		}
		notes = append(notes, note)
	}
	return notes, nil
}

// matrix makes one projection sparse.
func (z *sparsifier) matrix(b *nn.Block, r arch.Role, h *calib.Hessian, s sparse.Scheme) (tensorNote, error) {
	lin := b.Arch().Linears[r]
	note := tensorNote{Tensor: lin.Weight, Metric: "output", role: r}
	if h == nil {
		note.Metric = "weight"
	}
	prune := z.onHost
	if _, ok := z.dev.(device.Quantizer); ok {
		prune = z.onDevice
	}
	m, err := prune(b, r, h, s)
	if err != nil {
		return note, err
	}
	defer func() { m.free() }()
	note.Damp, note.DeadColumns = rounded(m.Damp), m.DeadColumns
	if m.FellBack {
		note.FellBack = m.Reason
	}
	if math.IsNaN(m.error) || math.IsInf(m.error, 0) {
		return note, formats.Errorf("model", lin.Weight, "its values, or those of its inputs, are too large to make it sparse: the error is %v", m.error)
	}
	note.Loss = rounded(m.error)
	return note, m.put()
}

// count counts the zeros of the projections in a tensor as it was stored, and refuses one that lacks its pattern.
func (d *sparsifyDecision) count(notes []tensorNote, b *nn.Block, stored []float32) error {
	s, err := d.scheme()
	if err != nil {
		return err
	}
	if len(notes) == 0 {
		return errors.New("pipeline: a weight was planned to be sparse and is not")
	}
	for i := range notes {
		n, lin := &notes[i], b.Arch().Linears[notes[i].role]
		zeros, err := s.Holds(taken(stored, lin), lin.Out, lin.In)
		if err != nil {
			return formats.Errorf("model", n.Tensor, "what was written is not as planned: %w", err)
		}
		n.Weights, n.Zeros = int64(lin.Out)*int64(lin.In), int64(zeros)
	}
	return nil
}
