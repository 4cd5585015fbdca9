package pipeline

import (
	"fmt"
	"maps"
	"slices"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/quantize"
)

// writeLayer writes every tensor of a block in the planned order.
func (r *blockRunner) writeLayer(s *sink, part string, b *nn.Block, mats map[arch.Role]*quantize.Matrix, notes []tensorNote) error {
	packed := map[string]bool{}
	for _, t := range r.outs {
		if t.part == part && t.kind == outPacked {
			packed[t.from] = true
		}
	}
	coded, err := r.encode(b, mats, packed)
	if err != nil {
		return err
	}
	for _, t := range r.outs {
		if t.part != part {
			continue
		}
		var err error
		switch t.kind {
		case outPacked:
			data, ok := coded[t.Name]
			if !ok {
				return fmt.Errorf("pipeline: weight %q was planned and not quantized", t.from)
			}
			delete(coded, t.Name)
			err = s.bytes(t.Name, data)
		case outDequant:
			var stored []float32
			if stored, err = s.dequantized(t, b); err == nil && t.step == stepSparsify {
				err = r.sp.count(notesOf(notes, t.from), b, stored)
			}
		default:
			err = r.plain(s, t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// encode returns the tensors, by name, that those matrices of a block became whose weights are to be packed. They are packed side by side.
func (r *blockRunner) encode(b *nn.Block, mats map[arch.Role]*quantize.Matrix, weights map[string]bool) (map[string][]byte, error) {
	roles := slices.Sorted(maps.Keys(mats))
	roles = slices.DeleteFunc(roles, func(r arch.Role) bool { return !weights[b.Arch().Linears[r].Weight] })
	lists, errs := make([][]formats.Tensor, len(roles)), make([]error, len(roles))
	b.Model().Dev.For(len(roles), func(i int) {
		lin, m := b.Arch().Linears[roles[i]], mats[roles[i]]
		lists[i], errs[i] = r.q.grid().Encode(lin.Module(), &formats.Affine{Out: lin.Out, In: lin.In, Bits: r.q.Bits, Group: r.q.Group,
			Scale: r.q.scales(), Codes: m.Codes, Scales: m.Scales, Zeros: m.Zeros})
	})
	coded := map[string][]byte{}
	for i, list := range lists {
		if errs[i] != nil {
			return nil, errs[i]
		}
		for _, t := range list {
			coded[t.Name] = t.Data
		}
	}
	return coded, nil
}

// notesOf returns those of one tensor, which stand together.
func notesOf(notes []tensorNote, tensor string) []tensorNote {
	from := 0
	for from < len(notes) && notes[from].Tensor != tensor {
		from++
	}
	to := from
	for to < len(notes) && notes[to].Tensor == tensor {
		to++
	}
	return notes[from:to]
}

// dequantized writes a stored tensor from the projections that lie in it, in the layout of the source. It returns the values as
// they were stored.
func (s *sink) dequantized(t outTensor, b *nn.Block) ([]float32, error) {
	n, err := t.Elements()
	if err != nil {
		return nil, formats.Errorf("model", t.Name, "%w", err)
	}
	stored := make([]float32, n)
	for role, lin := range b.Arch().Linears {
		if lin.Weight != t.from {
			continue
		}
		w, err := b.Weight(arch.Role(role))
		if err != nil {
			return nil, err
		}
		place(stored, w, lin)
	}
	return stored, s.values(t.TensorInfo, stored)
}

// place puts a logical weight [Out, In] at its rows of the stored tensor, [StoredOut, In] or transposed.
func place(stored, w []float32, lin arch.Linear) {
	total := max(lin.StoredOut, lin.Out)
	for o := range lin.Out {
		row := w[o*lin.In : (o+1)*lin.In]
		if !lin.Transposed {
			copy(stored[(lin.Row+o)*lin.In:], row)
			continue
		}
		for i, v := range row {
			stored[i*total+lin.Row+o] = v
		}
	}
}

// taken returns the logical weight [Out, In] that place put into the stored tensor, a part of it where it is not transposed.
func taken(stored []float32, lin arch.Linear) []float32 {
	if !lin.Transposed {
		return stored[lin.Row*lin.In:][:lin.Out*lin.In]
	}
	w := make([]float32, lin.Out*lin.In)
	total := max(lin.StoredOut, lin.Out)
	for o := range lin.Out {
		row := w[o*lin.In : (o+1)*lin.In]
		for i := range row {
			row[i] = stored[i*total+lin.Row+o]
		}
	}
	return w
}
