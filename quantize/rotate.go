package quantize

import (
	"encoding/json"
	"errors"
	"fmt"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// Rotation says by which random orthogonal matrices a model is rotated. The zero value rotates nothing.
type Rotation struct {
	// Kind is that of R1, the rotation of the residual stream: Hadamard, QR, or None (also ""). With R1 the gains of all
	// norms move into the projections after them.
	Kind string `json:"kind"`
	// R2 rotates the values of each KV head by a matrix of its own and undoes it in the output projection.
	R2 bool `json:"r2"`
	// HeadKind is the kind of R2: Hadamard or QR; "" takes Kind, or whatever fits the head where Kind is none.
	HeadKind string `json:"head_kind,omitempty"`
	Seed     uint64 `json:"seed"`
}

func (r Rotation) r1() bool { return r.Kind != "" && r.Kind != None }

// Identity reports whether the rotation changes nothing.
func (r Rotation) Identity() bool { return !r.r1() && !r.R2 }

// headKind returns the kind of R2 for a head dim.
func (r Rotation) headKind(k int) string {
	switch {
	case r.HeadKind != "":
		return r.HeadKind
	case r.r1():
		return r.Kind
	}
	return RotationKind(k)
}

// untiedHead is what the families that can be rotated call an output head of its own.
const untiedHead = arch.HeadModule + ".weight"

// ConfigChange is a key of config.json that has to change with the weights.
type ConfigChange struct {
	Key   string
	Value json.RawMessage
}

// ConfigChanges returns what must change in the config.json of m when it is written rotated. A rotated embedding and a
// rotated head with the final gain in it are two different matrices, so that they can no longer be tied.
func (r Rotation) ConfigChanges(m *arch.Model) []ConfigChange {
	if r.r1() && m.Tied {
		return []ConfigChange{{"tie_word_embeddings", json.RawMessage("false")}}
	}
	return nil
}

// Rotate returns a view of src that computes the same function with rotated weights, and the model as it then is. With x
// a row of the residual stream and Q the matrix of R1, the view carries x·Q: embeddings E·Q, readers W·diag(gain)·Q,
// writers Qᵀ·W with bias b·Q, norm gains 1 (QuaRot section 4, arXiv:2404.00456). Values of KV head g come out as v·R_g, so
// that the columns of the output projection for its query heads become W·R_g (SpinQuant's R2). Everything is computed in
// float64 from the stored weights when a tensor is read, rounded once, and shown as F32; no tensor is kept. Tensors that
// do not change are shown as they are. The threads of dev run parts of what a read computes, or, with the same bits, dev itself where
// it is a [device.Mixer] and that pays.
//
// It is exact for RMSNorm, which commutes with rotations. LayerNorm does not: such models are refused.
func Rotate(src formats.Source, m *arch.Model, r Rotation, dev device.Device) (formats.Source, *arch.Model, error) {
	if r.Identity() {
		return src, m, nil
	}
	if err := rotatable(m); err != nil {
		return nil, nil, fmt.Errorf("quantize: rotate %s: %w", m.Family, err)
	}
	b := &rotationBuilder{src: src, m: m, r: r, recipes: map[string]*recipe{}}
	if err := b.build(); err != nil {
		return nil, nil, fmt.Errorf("quantize: rotate: %w", err)
	}
	n := m.Clone()
	if r.r1() && m.Tied {
		n.Tied, n.LMHead = false, untiedHead
	}
	if mixer, ok := dev.(device.Mixer); ok {
		for _, t := range b.recipes {
			t.mixer = mixer
		}
	}
	return newRotated(src, b.recipes, dev.For), n, nil
}

func rotatable(m *arch.Model) error {
	switch {
	case m.LayerNorm:
		return errors.New("its LayerNorm subtracts the mean over the width, which a rotation of the residual stream does not keep; only RMSNorm models can be rotated")
	case m.PosEmbed != "":
		return errors.New("learned positions are added to the residual stream; only models with rotary positions can be rotated")
	}
	for l, a := range m.Layers {
		for role, lin := range a.Linears {
			if lin.Present() && (lin.Transposed || lin.StoredOut != lin.Out) {
				return fmt.Errorf("layer %d: %s is stored transposed or fused with others", l, arch.Role(role))
			}
		}
	}
	return nil
}

// rotationBuilder collects how each changed tensor is made.
type rotationBuilder struct {
	src     formats.Source
	m       *arch.Model
	r       Rotation
	q       *orthogonal // R1; nil where there is none
	recipes map[string]*recipe
}

func (b *rotationBuilder) build() error {
	if b.r.r1() {
		var err error
		if b.q, err = newOrthogonal(b.r.Kind, b.m.D, b.r.Seed, 0); err != nil {
			return err
		}
		if err := b.ends(); err != nil {
			return err
		}
	}
	for l := range b.m.Layers {
		if err := b.layer(l); err != nil {
			return fmt.Errorf("layer %d: %w", l, err)
		}
	}
	return nil
}

// ends rotates the embedding and the head.
func (b *rotationBuilder) ends() error {
	embed, err := b.add(b.m.Embed, b.m.Embed)
	if err != nil {
		return err
	}
	embed.right = []*orthogonal{b.q}
	name := b.m.LMHead
	if b.m.Tied {
		name = untiedHead
	}
	head, err := b.add(name, b.m.LMHead)
	if err != nil {
		return err
	}
	head.right = []*orthogonal{b.q}
	head.gain, err = b.fold(b.m.FinalNorm)
	return err
}

// layer rotates one block.
func (b *rotationBuilder) layer(l int) error {
	a := &b.m.Layers[l]
	if b.q != nil {
		if err := b.read(a.AttnNorm, a.Linears[arch.Q], a.Linears[arch.K], a.Linears[arch.V]); err != nil {
			return err
		}
		if err := b.read(a.FFNNorm, a.Linears[arch.Gate], a.Linears[arch.Up]); err != nil {
			return err
		}
		for _, lin := range []arch.Linear{a.Linears[arch.O], a.Linears[arch.Down]} {
			if err := b.write(lin); err != nil {
				return err
			}
		}
	}
	if b.r.R2 && a.Linears[arch.V].Present() && a.Linears[arch.O].Present() {
		return b.heads(l, a)
	}
	return nil
}

// read rotates the projections that read a norm's output, and folds the gain into them.
func (b *rotationBuilder) read(n arch.Norm, linears ...arch.Linear) error {
	gain, err := b.fold(n)
	if err != nil {
		return err
	}
	for _, lin := range linears {
		if !lin.Present() {
			continue
		}
		t, err := b.add(lin.Weight, lin.Weight)
		if err != nil {
			return err
		}
		t.gain, t.right = gain, []*orthogonal{b.q}
	}
	return nil
}

// write rotates a projection that adds to the residual stream.
func (b *rotationBuilder) write(lin arch.Linear) error {
	if !lin.Present() {
		return nil
	}
	t, err := b.add(lin.Weight, lin.Weight)
	if err != nil {
		return err
	}
	t.left = []*orthogonal{b.q}
	if lin.Bias == "" {
		return nil
	}
	bias, err := b.add(lin.Bias, lin.Bias)
	if err != nil {
		return err
	}
	bias.right = []*orthogonal{b.q}
	return nil
}

// heads rotates the values of a layer.
func (b *rotationBuilder) heads(l int, a *arch.Layer) error {
	perKV, perQuery := make([]*orthogonal, a.G), make([]*orthogonal, a.H)
	for g := range perKV {
		var err error
		if perKV[g], err = newOrthogonal(b.r.headKind(a.K), a.K, b.r.Seed, 1+uint64(l)<<32+uint64(g)); err != nil {
			return err
		}
	}
	for h := range perQuery {
		perQuery[h] = perKV[h/(a.H/a.G)]
	}
	v, err := b.add(a.Linears[arch.V].Weight, a.Linears[arch.V].Weight)
	if err != nil {
		return err
	}
	v.left = perKV
	o, err := b.add(a.Linears[arch.O].Weight, a.Linears[arch.O].Weight)
	if err != nil {
		return err
	}
	o.right = perQuery
	if a.Linears[arch.V].Bias == "" {
		return nil
	}
	bias, err := b.add(a.Linears[arch.V].Bias, a.Linears[arch.V].Bias)
	if err != nil {
		return err
	}
	bias.right = perKV
	return nil
}

// fold reads a norm's gain and has the norm shown as ones. A missing norm has no gain.
func (b *rotationBuilder) fold(n arch.Norm) ([]float32, error) {
	if !n.Present() {
		return nil, nil
	}
	t, err := b.add(n.Weight, n.Weight)
	if err != nil {
		return nil, err
	}
	t.ones = true
	gain := make([]float32, b.m.D)
	if err := formats.ReadF32(b.src, n.Weight, gain, 0); err != nil {
		return nil, err
	}
	return gain, formats.CheckFinite("", n.Weight, gain, 0)
}

// add returns the recipe of a tensor, a new one where there was none.
func (b *rotationBuilder) add(name, from string) (*recipe, error) {
	if t := b.recipes[name]; t != nil {
		return t, nil
	}
	info, ok := b.src.Lookup(from)
	if !ok {
		return nil, formats.Errorf("", from, "no such tensor")
	}
	if len(info.Shape) != 1 && len(info.Shape) != 2 || !info.DType.IsFloat() {
		return nil, formats.Errorf("", from, "%s %v where a float matrix or vector is needed", info.DType, info.Shape)
	}
	t := &recipe{from: from, info: formats.TensorInfo{Name: name, DType: formats.F32, Shape: info.Shape}}
	b.recipes[name] = t
	return t, nil
}
