package distill

import "modelpress/internal/nn"

var _ nn.Resident = (*Params)(nil)

// Floats implements [nn.Resident]: the master copy of a parameter in f32, nil for one in bfloat16. A step that leaves what is not
// finite ends the run.
func (p *Params) Floats(name string) []float32 {
	if q := p.byName[name]; q != nil {
		q.pull(false)
		return q.Values
	}
	return nil
}
