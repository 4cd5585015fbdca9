package checkpoint

import (
	"encoding/json"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/internal/arch"
)

// Dequantized returns the same model as if it were stored with plain weights: tensors are those of the dense view, in the type that the
// configuration names where the view computes in f32, and the configuration says nothing of quantization. It is c itself where nothing is
// quantized. The result shares c's files and is not to be closed.
func (c *Checkpoint) Dequantized() (*Checkpoint, error) {
	if c.Quantized == nil {
		return c, nil
	}
	config, err := hf.EditConfig(c.Config(), nil, []string{"quantization_config", "compression_config"})
	if err != nil {
		return nil, err
	}
	plain := &plainStore{Store: c.Store, view: newCast(c.Quantized, ModelDType(c.TorchDType())), config: config}
	out := *c
	out.Store, out.Dense, out.Quantized, out.stored = plain, plain, nil, c.StoredBytes()
	if out.Arch, err = arch.Describe(config, plain); err != nil {
		return nil, err
	}
	return &out, nil
}

// ModelDType is the element type of a name in config.json, BF16 where it names none that weights are computed in.
func ModelDType(torch string) formats.DType {
	switch torch {
	case "float16":
		return formats.F16
	case "float32":
		return formats.F32
	}
	return formats.BF16
}

// plainStore shows the dense view of a store in place of what is stored.
type plainStore struct {
	Store
	view   formats.Source
	config []byte
}

func (p *plainStore) Tensors() []formats.TensorInfo { return p.view.Tensors() }

func (p *plainStore) DataOrder() []formats.TensorInfo { return p.view.Tensors() }

func (p *plainStore) Lookup(name string) (formats.TensorInfo, bool) { return p.view.Lookup(name) }

func (p *plainStore) ReadAt(name string, b []byte, off int64) error {
	return p.view.ReadAt(name, b, off)
}

func (p *plainStore) Prefetch(names []string) { formats.Prefetch(p.view, names) }

func (p *plainStore) Config() []byte { return p.config }

func (p *plainStore) QuantizationConfig() json.RawMessage { return nil }

// cast shows the dequantized weights of a view that are F32 in another type, rounded to nearest.
type cast struct {
	formats.Quantized
	to    formats.DType
	infos []formats.TensorInfo
}

func newCast(q formats.Quantized, to formats.DType) formats.Source {
	c := &cast{Quantized: q, to: to}
	for _, t := range q.Tensors() {
		if c.applies(t) {
			t.DType = to
		}
		c.infos = append(c.infos, t)
	}
	return c
}

func (c *cast) applies(t formats.TensorInfo) bool {
	if t.DType != formats.F32 {
		return false
	}
	_, quantized := c.Storage(t.Name)
	return quantized
}

func (c *cast) Tensors() []formats.TensorInfo { return c.infos }

func (c *cast) Lookup(name string) (formats.TensorInfo, bool) {
	t, ok := c.Quantized.Lookup(name)
	if ok && c.applies(t) {
		t.DType = c.to
	}
	return t, ok
}

// ReadAt reads whole elements of a tensor that is converted.
func (c *cast) ReadAt(name string, p []byte, off int64) error {
	t, ok := c.Quantized.Lookup(name)
	if !ok || !c.applies(t) {
		return c.Quantized.ReadAt(name, p, off)
	}
	size := c.to.Size()
	if len(p)%size != 0 || off%int64(size) != 0 {
		return formats.Errorf("", name, "read of bytes [%d, %d+%d) cuts an element of %s", off, off, len(p), c.to)
	}
	v := make([]float32, len(p)/size)
	if err := formats.ReadF32(c.Quantized, name, v, off/int64(size)); err != nil {
		return err
	}
	if err := formats.Encode(p, v, c.to); err != nil {
		return formats.Errorf("", name, "%w", err)
	}
	return nil
}

func (c *cast) Prefetch(names []string) { formats.Prefetch(c.Quantized, names) }
