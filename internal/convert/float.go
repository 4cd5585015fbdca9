package convert

import (
	"context"

	"modelpress/formats"
	"modelpress/formats/packed"
)

// floated is a weight that is written as FP8, NVFP4 or MXFP4.
//
// Peak memory: 4·out·in bytes of values beside what is written.
type floated struct {
	src    formats.Source
	weight string
	module string
	out    int
	in     int
	set    *setting
	from   string
	fused  []string // weights that a runtime fuses with this one, which share its scale of the whole tensor
}

func (f floated) outs() []formats.TensorInfo {
	return f.set.float.Tensors(f.module, int64(f.out), int64(f.in))
}

func (f floated) values() int64 { return int64(f.out) * int64(f.in) }

// memory is that of the values, of what becomes of them, and of a quarter of their bytes while they do.
func (f floated) memory() int64 { return streamed + 5*f.values() + tensorBytes(f.outs()) }

func (f floated) do(_ context.Context, w *task) error {
	v := make([]float32, f.out*f.in)
	if err := formats.ReadF32(f.src, f.weight, v, 0); err != nil {
		return err
	}
	if err := formats.CheckFinite("", f.weight, v, 0); err != nil {
		return err
	}
	shared := float32(0)
	if len(f.fused) > 0 {
		shared = largest(v)
		for _, other := range f.fused {
			m, err := largestOf(f.src, other)
			if err != nil {
				return err
			}
			shared = max(shared, m)
		}
	}
	list, err := f.set.float.Quantize(f.module, v, f.out, f.in, shared)
	if err != nil {
		return formats.Errorf("", f.weight, "%w", err)
	}
	note := Note{Tensor: f.weight, How: Requantized, From: f.from, To: f.set.name}
	if err := f.measure(v, list, &note); err != nil {
		return err
	}
	for _, t := range list {
		if err := w.whole(t); err != nil {
			return err
		}
	}
	w.noted(f.outs()[0].Name, note)
	return nil
}

// measure reads the tensors that are to be written as a reader of the format does.
func (f floated) measure(v []float32, list []formats.Tensor, note *Note) error {
	view, err := packed.Dense(memory(list), packed.Config([]packed.GroupConfig{{Targets: []string{f.module}, Setting: f.set.store}}, nil))
	if err != nil {
		return err
	}
	rows := newRowReader(view, f.module+".weight", []int64{int64(f.out), int64(f.in)})
	var sum errorSum
	for rows.next() {
		got, err := rows.read()
		if err != nil {
			return err
		}
		sum.add(v[rows.first:][:len(got)], got)
	}
	if err := sum.narrow(f.src, f.weight); err != nil {
		return err
	}
	sum.into(note)
	return nil
}

func largest(v []float32) float32 {
	m := float32(0)
	for _, x := range v {
		m = max(m, x, -x)
	}
	return m
}

// largestOf reads the largest magnitude of a weight.
func largestOf(src formats.Source, name string) (float32, error) {
	t, ok := src.Lookup(name)
	if !ok {
		return 0, formats.Errorf("", name, "no such tensor")
	}
	m := float32(0)
	for rows := newRowReader(src, name, t.Shape); rows.next(); {
		v, err := rows.read()
		if err != nil {
			return 0, err
		}
		m = max(m, largest(v))
	}
	return m, nil
}

// memory is a source of tensors that are in memory.
type memory []formats.Tensor

func (m memory) Tensors() []formats.TensorInfo {
	list := make([]formats.TensorInfo, len(m))
	for i, t := range m {
		list[i] = t.TensorInfo
	}
	return list
}

func (m memory) find(name string) *formats.Tensor {
	for i := range m {
		if m[i].Name == name {
			return &m[i]
		}
	}
	return nil
}

func (m memory) Lookup(name string) (formats.TensorInfo, bool) {
	if t := m.find(name); t != nil {
		return t.TensorInfo, true
	}
	return formats.TensorInfo{}, false
}

func (m memory) ReadAt(name string, p []byte, off int64) error {
	t := m.find(name)
	if t == nil || off < 0 || off > int64(len(t.Data)) || int64(len(p)) > int64(len(t.Data))-off {
		return formats.Errorf("", name, "no bytes [%d, %d+%d)", off, off, len(p))
	}
	copy(p, t.Data[off:])
	return nil
}
