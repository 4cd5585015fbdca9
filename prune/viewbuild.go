package prune

import (
	"cmp"
	"slices"

	"modelpress/formats"
	"modelpress/internal/arch"
)

// builder collects how each tensor of a view is made.
type builder struct {
	src     formats.Source
	m       *arch.Model
	cut     *Cut
	small   *arch.Model
	hidden  *axis
	tensors map[string]*sliced // by the name in the view
	changes []Change           // of every tensor of the source, sorted by name
}

func compare(a, b string) int { return cmp.Compare(a, b) }

func (b *builder) build() error {
	var err error
	if b.small, err = b.cut.Arch(b.m); err != nil {
		return err
	}
	b.tensors = map[string]*sliced{}
	b.hidden = newAxis(&b.cut.Hidden, b.m.D, 1)
	if err := b.ends(); err != nil {
		return err
	}
	for i, l := range b.cut.Kept() {
		if err := b.layer(i, l); err != nil {
			return err
		}
	}
	if err := b.others(); err != nil {
		return err
	}
	b.list()
	return nil
}

// ends adds embeddings, the last norm and the head.
func (b *builder) ends() error {
	if err := b.add(b.m.Embed, b.m.Embed, wholeAxis(b.m.V), b.hidden); err != nil {
		return err
	}
	if b.m.PosEmbed != "" {
		if err := b.add(b.m.PosEmbed, b.m.PosEmbed, wholeAxis(b.m.MaxPosition), b.hidden); err != nil {
			return err
		}
	}
	last := b.hidden
	if !b.m.Tied {
		last = b.hidden.plain()
		if err := b.add(b.m.LMHead, b.m.LMHead, wholeAxis(b.m.V), last); err != nil {
			return err
		}
	}
	if err := b.norm(b.m.FinalNorm, b.m.FinalNorm, last); err != nil {
		return err
	}
	for _, name := range []string{b.m.FinalNorm.Weight, b.m.FinalNorm.Bias} {
		if t := b.tensors[name]; t != nil {
			t.divide = b.m.Tied
		}
	}
	return nil
}

// layer adds the tensors of layer l, which becomes layer i.
func (b *builder) layer(i, l int) error {
	a, n, cut := &b.m.Layers[l], &b.small.Layers[i], &b.cut.Layers[l]
	hidden := b.hidden.plain()
	for _, pair := range [][2]arch.Norm{{a.AttnNorm, n.AttnNorm}, {a.FFNNorm, n.FFNNorm}} {
		if err := b.norm(pair[0], pair[1], hidden); err != nil {
			return err
		}
	}
	for _, pair := range [][2]arch.Norm{{a.QNorm, n.QNorm}, {a.KNorm, n.KNorm}} {
		if err := b.norm(pair[0], pair[1], wholeAxis(a.K)); err != nil {
			return err
		}
	}
	x := newLayerAxes(a, cut, b.hidden)
	for _, role := range n.Roles() {
		lin, to := &a.Linears[role], &n.Linears[role]
		in, out := x.in(role), x.out(role)
		if lin.StoredOut != lin.Out {
			if role != arch.Q {
				continue // with the queries
			}
			out = joined(x.out(arch.Q), x.out(arch.K), x.out(arch.V))
		}
		rows, cols := out, in
		if lin.Transposed {
			rows, cols = in, out
		}
		if err := b.add(to.Weight, lin.Weight, rows, cols); err != nil {
			return err
		}
		if lin.Bias == "" {
			continue
		}
		if err := b.add(to.Bias, lin.Bias, nil, out); err != nil {
			return err
		}
	}
	return nil
}

// norm adds what a norm has, where it stays.
func (b *builder) norm(from, to arch.Norm, width *axis) error {
	for _, pair := range [][2]string{{from.Weight, to.Weight}, {from.Bias, to.Bias}} {
		if pair[1] == "" {
			continue
		}
		if err := b.add(pair[1], pair[0], nil, width); err != nil {
			return err
		}
	}
	return nil
}

// add has a tensor be made of rows and columns of another; nil rows stand for a vector.
func (b *builder) add(to, from string, rows, cols *axis) error {
	info, ok := b.src.Lookup(from)
	if !ok {
		return formats.Errorf("", from, "no such tensor")
	}
	stored, shown := []int64{int64(cols.size)}, []int64{int64(cols.kept)}
	if rows == nil {
		rows = wholeAxis(1)
	} else {
		stored, shown = slices.Insert(stored, 0, int64(rows.size)), slices.Insert(shown, 0, int64(rows.kept))
	}
	if !info.DType.IsFloat() || !slices.Equal(info.Shape, stored) {
		return formats.Errorf("", from, "%s %v where floats %v are needed", info.DType, info.Shape, stored)
	}
	t := &sliced{from: info, rows: rows, cols: cols, info: formats.TensorInfo{Name: to, DType: info.DType, Shape: shown}}
	if t.scaled() {
		t.info.DType = formats.F64
	}
	return b.put(t)
}

func (b *builder) put(t *sliced) error {
	if _, err := t.info.Bytes(); err != nil {
		return formats.Errorf("", t.from.Name, "%w", err)
	}
	if other := b.tensors[t.info.Name]; other != nil {
		return formats.Errorf("", t.from.Name, "it and %q both become %q", other.from.Name, t.info.Name)
	}
	b.tensors[t.info.Name] = t
	return nil
}

// others adds the tensors that the model does not name.
func (b *builder) others() error {
	for _, name := range b.m.Unused(b.src) {
		to := b.other(name)
		if to == "" {
			continue
		}
		info, _ := b.src.Lookup(name)
		t := &sliced{from: info, info: info}
		t.info.Name = to
		if err := b.put(t); err != nil {
			return err
		}
	}
	return nil
}

// other returns what a tensor that the model does not name becomes, "" where it goes.
func (b *builder) other(name string) string {
	if e := b.tensors[b.m.Embed]; b.m.Tied && name == arch.HeadModule+".weight" && (e.scaled() || !e.whole()) {
		return ""
	}
	l := b.m.LayerOf(name)
	if l < 0 {
		return name
	}
	i, stays := slices.BinarySearch(b.cut.Kept(), l)
	if !stays || arch.IsBuffer(name) && b.m.Layers[l].HasAttention() && !b.small.Layers[i].HasAttention() {
		return ""
	}
	return b.m.Renumbered(name, i)
}

// list says of every tensor of the source what becomes of it.
func (b *builder) list() {
	into := map[string]*sliced{}
	for _, t := range b.tensors {
		into[t.from.Name] = t
	}
	for _, info := range b.src.Tensors() {
		c := Change{From: info.Name}
		if t := into[info.Name]; t != nil {
			c.To, c.Sliced, c.Scaled = t.info.Name, !t.whole(), t.scaled()
		}
		b.changes = append(b.changes, c)
	}
}
