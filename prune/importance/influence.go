package importance

import (
	"context"
	"math"

	"modelpress/calib"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// BlockInfluence returns how much each layer turns the residual stream: the mean over all tokens of 1 - cos(x_in, x_out) (Men et
// al., ShortGPT, arXiv:2403.03853, equation 1; Minitron takes it for depth). A layer of influence 0 does nothing but scale.
// The cosine with a state of zeros is 0, that of two of them 1.
//
// The model runs forward once over the windows. Memory is that of [nn.Model.Run] and 4*T*D bytes for the longest window.
func BlockInfluence(ctx context.Context, m *nn.Model, w calib.Windows, opt Options) ([]float64, error) {
	out := make([]float64, len(m.Arch.Layers))
	err := opt.forward(ctx, m, w, func(l int) layerTap { return &influence{dst: &out[l], dev: m.Dev.For, d: m.Arch.D} })
	return out, err
}

// layerTap sees the windows go through one layer.
type layerTap interface {
	pass() *nn.Pass // for the next window; nil for nothing
	window(in, out []float32, t int)
	done()
}

// forward runs the windows through the model, each layer under its taps.
func (o Options) forward(ctx context.Context, m *nn.Model, w calib.Windows, taps func(layer int) layerTap) error {
	if err := checkWindows(w, 1); err != nil {
		return err
	}
	k, err := o.newWalk(ctx, m, w.IDs, 1)
	if err != nil {
		return err
	}
	k.total = len(w.IDs) * len(m.Arch.Layers)
	if err := k.embed(0); err != nil {
		return k.close(err)
	}
	n := w.Longest() * m.Arch.D
	in, out := make([]float32, n), make([]float32, n)
	return k.close(k.blocks(func(b *nn.Block) error {
		tap := taps(b.Index())
		for i := range w.IDs {
			err := k.change(0, i, func(x device.Buf, t int) error {
				n := t * m.Arch.D
				m.Dev.Download(in[:n], x, 0)
				if err := b.ForwardBuf(x, t, tap.pass()); err != nil {
					return err
				}
				m.Dev.Download(out[:n], x, 0)
				tap.window(in[:n], out[:n], t)
				return nil
			})
			if err != nil {
				return err
			}
		}
		tap.done()
		return nil
	}))
}

// influence is the tap of [BlockInfluence].
type influence struct {
	dst    *float64
	dev    func(n int, body func(i int))
	d      int
	tokens int
	row    []float64 // of the window's tokens
}

func (f *influence) pass() *nn.Pass { return nil }

func (f *influence) window(in, out []float32, t int) {
	if len(f.row) < t {
		f.row = make([]float64, t)
	}
	f.dev(t, func(i int) { f.row[i] = 1 - cosine(in[i*f.d:(i+1)*f.d], out[i*f.d:(i+1)*f.d]) })
	for _, v := range f.row[:t] {
		*f.dst += v
	}
	f.tokens += t
}

func (f *influence) done() { *f.dst /= float64(f.tokens) }

// cosine of the angle between a and b, in float64.
func cosine(a, b []float32) float64 {
	ab, aa, bb := 0.0, 0.0, 0.0
	for i, v := range a {
		x, y := float64(v), float64(b[i])
		ab += float64(x * y)
		aa += float64(x * x)
		bb += float64(y * y)
	}
	switch {
	case aa == 0 && bb == 0:
		return 1
	case aa == 0 || bb == 0:
		return 0
	}
	return ab / (math.Sqrt(aa) * math.Sqrt(bb))
}
