package vib

import (
	"modelpress/internal/nn"
)

// draw is what the units are multiplied by in one window, z = mu + eps·sigma, and the gradients of an objective by it.
type draw struct {
	eps    []float32 // [n]; unused where there is no noise
	z      []float32 // [n]
	hidden []float32 // [L, D], the gates of the stream in each layer: z of the channel times z of the layer
	gates  []nn.Gates
	grad   []float64 // [n], by z, but for what goes by way of hidden
	folded []float64 // [L, D], by hidden
}

func newDraw(u *units) *draw {
	d := &draw{eps: make([]float32, u.n), z: make([]float32, u.n), grad: make([]float64, u.n),
		hidden: make([]float32, len(u.layers)*u.d), folded: make([]float64, len(u.layers)*u.d)}
	for i, l := range u.layers {
		d.gates = append(d.gates, nn.Gates{
			Hidden: d.hidden[i*u.d:][:u.d], GradHidden: d.folded[i*u.d:][:u.d],
			Heads: headsOf(l, d.z), GradHeads: headsOf(l, d.grad),
			FFN: channelsOf(l, d.z), GradFFN: channelsOf(l, d.grad),
		})
	}
	return d
}

// sample sets the multipliers from the noise in eps and forgets gradients.
func (d *draw) sample(u *units, mu []float32, sigma []float64) {
	for i, m := range mu {
		d.z[i] = float32(float64(m) + float64(float64(d.eps[i])*sigma[i]))
	}
	d.fold(u)
}

// set makes the multipliers mu of what stays and zeros, and forgets gradients.
func (d *draw) set(u *units, mu, stays []float32) {
	for i, m := range mu {
		d.z[i] = m * stays[i]
	}
	d.fold(u)
}

func (d *draw) fold(u *units) {
	clear(d.grad)
	clear(d.folded)
	for i, l := range u.layers {
		for c, z := range hiddenOf(u, d.z) {
			d.hidden[i*u.d+c] = z * d.z[l.gate]
		}
	}
}

// split takes the gradients by the products of channels and layers to those by either.
func (d *draw) split(u *units) {
	channels, z := hiddenOf(u, d.grad), hiddenOf(u, d.z)
	for i, l := range u.layers {
		sum := 0.0
		for c, g := range d.folded[i*u.d:][:u.d] {
			channels[c] += float64(g * float64(d.z[l.gate]))
			sum += float64(g * float64(z[c]))
		}
		d.grad[l.gate] += sum
	}
	clear(d.folded)
}
