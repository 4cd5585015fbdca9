package distill

import (
	"fmt"

	"modelpress/internal/arch"
)

// place says where the values of a parameter lie in a checkpoint: outputs [row, row+Rows) of the stored outputs of a tensor,
// which is [stored, Cols], or [Cols, stored] where it is transposed.
type place struct {
	tensor      string
	row, stored int
	transposed  bool
}

// layout lists the parameters of a model in the order of training, with where they lie: embedding, positions, each layer in
// the order of the forward pass, final norm, head.
type layout struct {
	params []*Param
	places []place
}

func newLayout(m *arch.Model) *layout {
	l := &layout{}
	l.matrix(m.Embed, "embed", Embedding, EmbedLayer, m.V, m.D)
	if m.PosEmbed != "" {
		l.matrix(m.PosEmbed, "positions", Positions, EmbedLayer, m.MaxPosition, m.D)
	}
	for i := range m.Layers {
		l.layer(i, &m.Layers[i], m.D)
	}
	l.norm(m.FinalNorm, "norm", FinalNorm, HeadLayer, m.D)
	if !m.Tied {
		l.matrix(m.LMHead, "head", Head, HeadLayer, m.V, m.D)
	}
	return l
}

func (l *layout) layer(i int, a *arch.Layer, d int) {
	at := func(what string) string { return fmt.Sprintf("layer.%d.%s", i, what) }
	l.norm(a.AttnNorm, at("attn_norm"), AttnNorm, i, d)
	for _, r := range arch.Roles() {
		if r == arch.O {
			l.norm(a.QNorm, at("q_norm"), QNorm, i, a.K)
			l.norm(a.KNorm, at("k_norm"), KNorm, i, a.K)
		}
		if r == arch.Gate {
			l.norm(a.FFNNorm, at("ffn_norm"), FFNNorm, i, d)
		}
		if lin := &a.Linears[r]; lin.Present() {
			l.linear(lin, at(r.String()), r, i)
		}
	}
}

func (l *layout) linear(lin *arch.Linear, name string, r arch.Role, layer int) {
	q := &Param{Name: name + ".weight", Part: Projection, Role: r, Layer: layer, Rows: lin.Out, Cols: lin.In, Matrix: true}
	l.add(q, place{lin.Weight, lin.Row, lin.StoredOut, lin.Transposed})
	if lin.Bias != "" {
		q := &Param{Name: name + ".bias", Part: Projection, Role: r, Bias: true, Layer: layer, Rows: lin.Out, Cols: 1}
		l.add(q, place{lin.Bias, lin.Row, lin.StoredOut, false})
	}
}

func (l *layout) norm(n arch.Norm, name string, part Part, layer, width int) {
	if n.Weight != "" {
		l.add(&Param{Name: name + ".gain", Part: part, Layer: layer, Rows: width, Cols: 1}, place{n.Weight, 0, width, false})
	}
	if n.Bias != "" {
		l.add(&Param{Name: name + ".bias", Part: part, Bias: true, Layer: layer, Rows: width, Cols: 1}, place{n.Bias, 0, width, false})
	}
}

func (l *layout) matrix(tensor, name string, part Part, layer, rows, cols int) {
	l.add(&Param{Name: name, Part: part, Layer: layer, Rows: rows, Cols: cols, Matrix: true}, place{tensor, 0, rows, false})
}

func (l *layout) add(q *Param, p place) {
	l.params, l.places = append(l.params, q), append(l.places, p)
}

// renamed returns the description of the same model with every parameter a tensor of its own, [Out, In], under its own name.
func (l *layout) renamed(m *arch.Model) *arch.Model {
	c := m.Clone()
	for _, q := range l.params {
		var a *arch.Layer
		if q.Layer >= 0 {
			a = &c.Layers[q.Layer]
		}
		switch q.Part {
		case Embedding:
			c.Embed = q.Name
		case Positions:
			c.PosEmbed = q.Name
		case Head:
			c.LMHead = q.Name
		case FinalNorm:
			rename(&c.FinalNorm, q)
		case AttnNorm:
			rename(&a.AttnNorm, q)
		case FFNNorm:
			rename(&a.FFNNorm, q)
		case QNorm:
			rename(&a.QNorm, q)
		case KNorm:
			rename(&a.KNorm, q)
		case Projection:
			renameLinear(&a.Linears[q.Role], q)
		}
	}
	if c.Tied {
		c.LMHead = c.Embed
	}
	return c
}

func rename(n *arch.Norm, q *Param) {
	if q.Bias {
		n.Bias = q.Name
		return
	}
	n.Weight = q.Name
}

func renameLinear(l *arch.Linear, q *Param) {
	if q.Bias {
		l.Bias = q.Name
		return
	}
	l.Weight, l.Transposed, l.Row, l.StoredOut = q.Name, false, 0, l.Out
}
