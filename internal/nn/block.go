package nn

import (
	"fmt"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// Block is one decoder block with its weights on the device. It belongs to its Model: blocks of one model share scratch
// memory, so only one of them may run at a time.
type Block struct {
	model  *Model
	arch   *arch.Layer
	index  int
	window []device.Mask // the layer's own masks, nil where attention is full

	attnNorm, ffnNorm, qNorm, kNorm norm
	linears                         [arch.NumRoles]linear
	bytes                           int64 // of these, but for those that the source holds
}

// linear is a weight [Out, In] and its bias, nil where it has none.
type linear struct {
	w, b    device.Buf
	in, out int
	shared  bool // w is the memory of the source
}

// norm is a gain and, for LayerNorm, a bias; w is nil where the norm is missing.
type norm struct{ w, b device.Buf }

func (n norm) free() {
	for _, b := range []device.Buf{n.w, n.b} {
		if b != nil {
			b.Free()
		}
	}
}

// load reads the weights of layer l; relieve makes room where there is too little, see [Model.relieve].
func (m *Model) load(l int, relieve func(cheap bool) bool) (*Block, error) {
	b := &Block{model: m, arch: &m.Arch.Layers[l], index: l}
	if b.arch.Window > 0 {
		b.window = make([]device.Mask, b.arch.G)
		for g := range b.window {
			b.window[g] = device.Mask{Recent: b.arch.Window}
		}
	}
	if err := b.load(relieve); err != nil {
		b.Free()
		return nil, fmt.Errorf("nn: load layer %d: %w", l, err)
	}
	b.bytes = bytesOf(b.bufs()...)
	for _, l := range b.linears {
		if l.shared {
			b.bytes -= bytesOf(l.w)
		}
	}
	m.loaded.Add(b.bytes)
	return b, nil
}

func (b *Block) load(relieve func(cheap bool) bool) error {
	a, d := b.arch, b.model.Arch.D
	u := b.model.uploader(relieve)
	for _, n := range []struct {
		dst   *norm
		names arch.Norm
		width int
	}{{&b.attnNorm, a.AttnNorm, d}, {&b.ffnNorm, a.FFNNorm, d}, {&b.qNorm, a.QNorm, a.K}, {&b.kNorm, a.KNorm, a.K}} {
		var err error
		if *n.dst, err = u.norm(n.names, n.width); err != nil {
			return err
		}
	}
	roles := a.Roles()
	errs := make([]error, len(roles))
	b.model.Dev.For(len(roles), func(i int) {
		b.linears[roles[i]], errs[i] = b.model.uploader(relieve).linear(a.Linears[roles[i]])
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *uploader) norm(n arch.Norm, width int) (out norm, err error) {
	if !n.Present() {
		return norm{}, nil
	}
	if out.w, err = u.floats(n.Weight, 0, width); err != nil || n.Bias == "" {
		return out, err
	}
	out.b, err = u.floats(n.Bias, 0, width)
	return out, err
}

func (u *uploader) linear(l arch.Linear) (out linear, err error) {
	out = linear{in: l.In, out: l.Out}
	if out.w = u.share(l); out.w != nil {
		out.shared = true
	} else if out.w, err = u.matrix(l); err != nil {
		return out, err
	}
	if l.Bias == "" {
		return out, nil
	}
	out.b, err = u.floats(l.Bias, l.Row, l.Out)
	return out, err
}

// Free gives the weights back. The block must not be used after it.
func (b *Block) Free() {
	release(b.bufs())
	if b.model != nil {
		b.model.loaded.Add(-b.bytes)
	}
	*b = Block{}
}

// bufs lists the weights, nil for those that are missing.
func (b *Block) bufs() []device.Buf {
	var out []device.Buf
	for _, n := range []norm{b.attnNorm, b.ffnNorm, b.qNorm, b.kNorm} {
		out = append(out, n.w, n.b)
	}
	for _, l := range b.linears {
		out = append(out, l.w, l.b)
	}
	return out
}

// Model returns the model that the block belongs to.
func (b *Block) Model() *Model { return b.model }

// Arch returns the description of the block.
func (b *Block) Arch() *arch.Layer { return b.arch }

// Index returns the number of the block's layer.
func (b *Block) Index() int { return b.index }

// Weight returns a copy of a projection's weight, [Out, In]; an error where the block has no such projection.
func (b *Block) Weight(r arch.Role) ([]float32, error) {
	l := b.linears[r]
	if l.w == nil {
		return nil, b.missing(r)
	}
	out := make([]float32, l.in*l.out)
	b.model.Dev.Download(out, l.w, 0)
	return out, nil
}

// Bias returns a copy of a projection's bias [Out], nil where it has none.
func (b *Block) Bias(r arch.Role) []float32 {
	l := b.linears[r]
	if l.b == nil {
		return nil
	}
	out := make([]float32, l.out)
	b.model.Dev.Download(out, l.b, 0)
	return out
}

// SetWeight replaces a projection's weight by w [Out, In], kept in the type dt, which must hold the values without loss
// where bits matter: BF16, F16, or f32 for any other.
func (b *Block) SetWeight(r arch.Role, w []float32, dt formats.DType) error {
	l := &b.linears[r]
	if l.w == nil {
		return b.missing(r)
	}
	if len(w) != l.in*l.out {
		panic(fmt.Sprintf("nn: weight of %d values for a projection [%d, %d]", len(w), l.out, l.in))
	}
	if kind := KindOf(dt); l.w.Kind() != kind || l.shared {
		buf, err := b.model.uploader(b.model.relieve).alloc(kind, len(w))
		if err != nil {
			return fmt.Errorf("nn: layer %d, %s: %w", b.index, r, err)
		}
		b.replace(l, buf)
	}
	b.model.Dev.Upload(l.w, 0, w)
	return nil
}

// replace makes w the weight of a projection.
func (b *Block) replace(l *linear, w device.Buf) {
	change := bytesOf(w)
	if !l.shared {
		change -= bytesOf(l.w)
	}
	b.bytes += change
	b.model.loaded.Add(change)
	l.w.Free()
	l.w, l.shared = w, false
}
