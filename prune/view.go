package prune

import (
	"fmt"
	"slices"

	"modelpress/formats"
	"modelpress/internal/arch"
)

// View returns a view of src that shows the smaller model of a cut, and the model itself. Scales are absorbed: with s the scale of
// the stream, c that of the layer, z those of heads (for each channel of theirs) and f those of the FFN,
//
//	E' = E·diag(s)            positions likewise
//	W_O' = c·diag(s)·W_O·diag(z)       b_O' = c·s·b_O
//	W_down' = c·diag(s)·W_down·diag(f) b_down' = c·s·b_down
//
// at the rows and columns that stay. Where the head is the embedding, gain and bias of the norm before it are divided by s. A tensor
// without a scale keeps its type, and its bytes are copied; a scaled one is computed in float64 from the stored values when it is read
// and shown as F64: rounding is left to whoever writes it. Layers that go are taken out and the others renumbered. Tensors that the
// model does not name go with their layers and are renamed with them; masks and tables of attention go with it, and a stored copy
// of a tied head where the embedding changes. [Changed] lists all of this. A cut that leaves everything returns src.
//
// Errors are *formats.Error: cuts that do not fit the model or the source now, and on reading values that are not finite once scaled.
//
// The view keeps nothing of what it reads and has no state, so that reads do not wait for each other. Memory: 24 bytes for each run of
// neighbours that stay, 8 for each channel of a layer's heads, FFN and stream that has a scale, some 500 for each tensor, and
// 0.5 MiB for each read at a time.
func View(src formats.Source, m *arch.Model, c *Cut) (formats.Source, *arch.Model, error) {
	b := builder{src: src, m: m, cut: c}
	if err := b.build(); err != nil {
		return nil, nil, fmt.Errorf("prune: view: %w", err)
	}
	if !slices.ContainsFunc(b.changes, func(c Change) bool { return c != Change{From: c.From, To: c.From} }) {
		return src, b.small, nil
	}
	v := &view{src: src, tensors: b.tensors}
	for _, t := range b.tensors {
		v.infos = append(v.infos, t.info)
	}
	slices.SortFunc(v.infos, func(a, b formats.TensorInfo) int { return compare(a.Name, b.Name) })
	return v, b.small, nil
}

// Change says what becomes of a tensor of the source.
type Change struct {
	From, To string // To is "" where it goes
	Sliced   bool   // some of it goes
	Scaled   bool   // it is multiplied, and shown as F64
}

// Changed lists the tensors of the source that a [View] does not show as they are: gone, renamed, sliced, scaled. They are sorted by
// their names in the source. Errors are those of View.
func Changed(src formats.Source, m *arch.Model, c *Cut) ([]Change, error) {
	b := builder{src: src, m: m, cut: c}
	if err := b.build(); err != nil {
		return nil, fmt.Errorf("prune: view: %w", err)
	}
	return slices.DeleteFunc(b.changes, func(c Change) bool { return c == Change{From: c.From, To: c.From} }), nil
}

// view is a source of which a part is shown.
type view struct {
	src     formats.Source
	infos   []formats.TensorInfo
	tensors map[string]*sliced
}

// Tensors implements [formats.Source].
func (v *view) Tensors() []formats.TensorInfo { return v.infos }

// Lookup implements [formats.Source].
func (v *view) Lookup(name string) (formats.TensorInfo, bool) {
	t := v.tensors[name]
	if t == nil {
		return formats.TensorInfo{}, false
	}
	return t.info, true
}

// ReadAt implements [formats.Source].
func (v *view) ReadAt(name string, p []byte, off int64) error {
	t := v.tensors[name]
	if t == nil {
		return formats.Errorf("", name, "no such tensor")
	}
	size, err := t.info.Bytes()
	if err != nil || off < 0 || int64(len(p)) > size-off {
		return formats.Errorf("", name, "read of bytes [%d, %d+%d) of %d", off, off, len(p), size)
	}
	return t.read(v.src, p, off)
}

// Prefetch asks for what the named tensors are made from.
func (v *view) Prefetch(names []string) {
	from := make([]string, 0, len(names))
	for _, name := range names {
		if t := v.tensors[name]; t != nil {
			from = append(from, t.from.Name)
		}
	}
	formats.Prefetch(v.src, from)
}
