package pipeline

import (
	"fmt"

	"modelpress/formats"
	"modelpress/internal/arch"
)

// outKind says how the bytes of an output tensor come about.
type outKind uint8

const (
	outCopy    outKind = iota // the source's bytes, unchanged or a part of them
	outRounded                // read from the changed and rotated view, rounded to the stored dtype
	outPacked                 // one tensor of a packed module
	outDequant                // low-bit or sparse values written as plain weights
)

// The machine-readable reasons of change rows.
const (
	reasonKept       = "kept"
	reasonIgnored    = "kept_by_ignore"
	reasonPruned     = "units_pruned"
	reasonRenumbered = "layer_renumbered"
	reasonDropped    = "left_out"
	reasonTrained    = "trained"
	reasonMerged     = "kv_heads_merged"
	reasonRotated    = "rotation_fused"
	reasonFolded     = "norm_folded"
	reasonUntied     = "untied_for_rotation"
	reasonPacked     = "quantized_packed"
	reasonDequant    = "quantized_dequantized"
	reasonSparsified = "sparsified"
	reasonUntouched  = "not_part_of_the_model"
)

// outTensor is one tensor of the result.
type outTensor struct {
	formats.TensorInfo
	kind   outKind
	from   string // tensor of the view; the module's weight for packed ones
	origin string // tensor of the checkpoint that from is made of
	part   string // journal part that writes it
	reason string
	step   string // the last one that changes the data; "" where it is copied
}

const (
	partPrologue = "prologue"
	partEpilogue = "epilogue"
)

func partLayer(l int) string { return fmt.Sprintf("layer %d", l) }

// outputs lists every tensor of the result in the order in which it is written: embeddings, layers, final norm and head,
// then whatever else the source holds. m describes the view that is written (after rotation).
type outputs struct {
	*stored
	view  formats.Source
	sp    *sparsifyDecision
	q     *quantDecision
	list  []outTensor
	taken map[string]bool
}

func planOutputs(st *stored, view formats.Source, m *arch.Model, sp *sparsifyDecision, q *quantDecision) ([]outTensor, error) {
	o := &outputs{stored: st, view: view, sp: sp, q: q, taken: map[string]bool{}}
	o.plain(m.Embed, partPrologue, reasonRotated)
	o.plain(m.PosEmbed, partPrologue, reasonRotated)
	for l := range m.Layers {
		if err := o.layer(l, &m.Layers[l]); err != nil {
			return nil, err
		}
	}
	o.norm(m.FinalNorm, partEpilogue)
	if !m.Tied {
		o.plain(m.LMHead, partEpilogue, reasonRotated)
	}
	storing := packedTensors(view)
	for _, t := range st.copies.Tensors() {
		if _, gone := st.gone[st.origin(t.Name)]; gone || o.taken[t.Name] {
			continue
		}
		reason := reasonUntouched
		if storing[t.Name] {
			reason = reasonKept
		}
		o.list = append(o.list, outTensor{TensorInfo: t, kind: outCopy, from: t.Name, part: partEpilogue, reason: reason})
	}
	for i := range o.list {
		o.list[i].origin = st.origin(o.list[i].from)
	}
	return o.list, nil
}

// packedTensors are those that the quantized weights of a view are stored in.
func packedTensors(view formats.Source) map[string]bool {
	q, ok := view.(formats.Quantized)
	if !ok {
		return nil
	}
	set := map[string]bool{}
	for _, t := range q.Tensors() {
		if st, ok := q.Storage(t.Name); ok {
			for _, name := range st.Tensors {
				set[name] = true
			}
		}
	}
	return set
}

func (o *outputs) layer(l int, a *arch.Layer) error {
	part := partLayer(l)
	o.norm(a.AttnNorm, part)
	o.plain(a.QNorm.Weight, part, reasonKept)
	o.plain(a.KNorm.Weight, part, reasonKept)
	for _, lin := range a.Linears {
		if !lin.Present() {
			continue
		}
		if err := o.linear(lin, part); err != nil {
			return err
		}
		o.plain(lin.Bias, part, reasonRotated)
	}
	o.norm(a.FFNNorm, part)
	return nil
}

func (o *outputs) norm(n arch.Norm, part string) {
	o.plain(n.Weight, part, reasonFolded)
	o.plain(n.Bias, part, reasonFolded)
}

// plain adds a tensor that keeps its shape: copied where the view shows the source's own bytes, else rounded from it.
func (o *outputs) plain(name, part, changed string) {
	if name == "" || o.taken[name] {
		return
	}
	own, inSource := o.own(name)
	if !inSource && (o.q == nil || o.q.Rotation == nil) {
		return // a quantized weight, which is copied as it is stored
	}
	o.taken[name] = true
	t := outTensor{TensorInfo: own, kind: outCopy, from: name, part: part, reason: reasonKept}
	if o.q != nil && o.q.Rotation != nil {
		if !inSource {
			own, changed = formats.TensorInfo{Name: name, DType: o.q.store(), Shape: own.Shape}, reasonUntied
		}
		t = outTensor{TensorInfo: own, kind: outRounded, from: name, part: part, reason: changed, step: stepQuantize}
	} else if c, ok := o.changed[name]; ok {
		if t.reason, t.step = c.reason, c.step; c.rounded {
			t.kind = outRounded
		}
	}
	o.list = append(o.list, t)
}

// own describes a tensor with the type that the source stores it in and the shape that it is seen in, and says whether the source
// has it.
func (o *outputs) own(name string) (formats.TensorInfo, bool) {
	seen, _ := o.view.Lookup(name)
	own, ok := o.lookup(name)
	own.Shape = seen.Shape
	return own, ok
}

func (o *outputs) linear(lin arch.Linear, part string) error {
	if o.sp.has(lin.Module()) {
		o.dense(lin, part, reasonSparsified, stepSparsify)
		return nil
	}
	if o.q == nil || !o.q.has(lin.Module()) {
		n := len(o.list) // a tensor of several projections is there already
		o.plain(lin.Weight, part, reasonRotated)
		if len(o.list) > n && (o.q != nil || o.sp != nil) && o.list[n].reason == reasonKept {
			o.list[n].reason = reasonIgnored
		}
		return nil
	}
	if o.q.Output == outputDequantized {
		o.dense(lin, part, reasonDequant, stepQuantize)
		return nil
	}
	if o.taken[lin.Weight] {
		return nil
	}
	o.taken[lin.Weight] = true
	grid := o.q.grid()
	if err := grid.Check(int64(lin.Out), int64(lin.In)); err != nil {
		return formats.Errorf("model", lin.Weight, "%w", err)
	}
	for _, t := range grid.Tensors(lin.Module(), int64(lin.Out), int64(lin.In)) {
		o.list = append(o.list, outTensor{TensorInfo: t, kind: outPacked, from: lin.Weight, part: part, reason: reasonPacked, step: stepQuantize})
	}
	return nil
}

// dense adds the weight of a projection, of which the values in the block are written as plain weights.
func (o *outputs) dense(lin arch.Linear, part, reason, step string) {
	if o.taken[lin.Weight] {
		return
	}
	o.taken[lin.Weight] = true
	own, _ := o.own(lin.Weight)
	o.list = append(o.list, outTensor{TensorInfo: own, kind: outDequant, from: lin.Weight, part: part, reason: reason, step: step})
}

// store returns the dtype of scales and of rotated tensors that the source lacks.
func (q *quantDecision) store() formats.DType {
	d, err := formats.ParseDType(q.Store)
	if err != nil {
		return formats.Invalid
	}
	return d
}

// tensorInfos strips the plan from the tensors: what the writer lays out.
func tensorInfos(list []outTensor) []formats.TensorInfo {
	infos := make([]formats.TensorInfo, len(list))
	for i, t := range list {
		infos[i] = t.TensorInfo
	}
	return infos
}
