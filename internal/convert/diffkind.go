package convert

import (
	"slices"

	"modelpress/internal/arch"
)

// The kinds of tensors that are no projection; those are called by their role.
const (
	kindEmbedding = "embedding"
	kindPosition  = "positions"
	kindNorm      = "norm"
	kindBias      = "bias"
	kindHead      = "head"
	kindOther     = "other"
)

// kinds says what the tensors of the two models are, each by its names; nil for a model that is not known.
type kinds [2]map[string]string

// of returns the kind of a compared tensor.
func (k kinds) of(t *TensorDifference) string {
	for side, s := range []*Stored{t.A, t.B} {
		if s == nil || s.Tied {
			continue
		}
		if kind, ok := k[side][s.Name]; ok {
			return kind
		}
	}
	return kindOther
}

// describe lists the kinds of a model's tensors.
func describe(m *arch.Model) map[string]string {
	list := map[string]string{}
	if m == nil {
		return list
	}
	list[arch.HeadModule+".weight"] = kindHead
	if !m.Tied {
		list[m.LMHead] = kindHead
	}
	list[m.Embed] = kindEmbedding
	if m.PosEmbed != "" {
		list[m.PosEmbed] = kindPosition
	}
	norm := func(n arch.Norm) {
		if n.Present() {
			list[n.Weight] = kindNorm
		}
		if n.Bias != "" {
			list[n.Bias] = kindBias
		}
	}
	norm(m.FinalNorm)
	for l := range m.Layers {
		a := &m.Layers[l]
		for _, n := range []arch.Norm{a.AttnNorm, a.FFNNorm, a.QNorm, a.KNorm} {
			norm(n)
		}
		for r, lin := range a.Linears {
			if lin.Present() {
				list[lin.Weight] += arch.Role(r).String() // of a tensor that several share, all
			}
			if lin.Bias != "" {
				list[lin.Bias] = kindBias
			}
		}
	}
	return list
}

// kindOrder is the order in which people see kinds.
func kindOrder(kind string) int {
	order := []string{kindEmbedding, kindPosition}
	for r := range arch.NumRoles {
		order = append(order, r.String())
		if r == arch.Q {
			order = append(order, "qkv")
		}
	}
	i := slices.Index(append(order, kindNorm, kindBias, kindHead, kindOther), kind)
	if i < 0 {
		return len(order)
	}
	return i
}

// KindRow sums the tensors of one kind that are stored in the same two ways.
type KindRow struct {
	Kind, A, B     string // how they are stored; "" on the side that has none
	Tensors, Equal int
	BytesA, BytesB int64
	// Worst is the largest relative error, nil where that is no finite number; WorstTensor is "" where none was compared.
	Worst       *float64
	WorstTensor string
}

// Kinds groups the tensors: by kind, in the order of the forward pass, then by the types that they are stored in.
func (d *Difference) Kinds() []KindRow {
	var rows []KindRow
	at := map[[3]string]int{}
	for i := range d.Tensors {
		t := &d.Tensors[i]
		key := [3]string{t.Kind, t.A.typeName(), t.B.typeName()}
		k, ok := at[key]
		if !ok {
			k = len(rows)
			at[key] = k
			rows = append(rows, KindRow{Kind: key[0], A: key[1], B: key[2]})
		}
		rows[k].add(t)
	}
	slices.SortStableFunc(rows, func(a, b KindRow) int { return kindOrder(a.Kind) - kindOrder(b.Kind) })
	return rows
}

func (r *KindRow) add(t *TensorDifference) {
	r.Tensors++
	if t.A != nil {
		r.BytesA += t.A.Bytes
	}
	if t.B != nil {
		r.BytesB += t.B.Bytes
	}
	switch t.Status {
	case Equal:
		r.Equal++
	case Changed:
	default:
		return
	}
	if r.WorstTensor == "" || worse(t.RelativeError, r.Worst) {
		r.Worst, r.WorstTensor = t.RelativeError, t.Tensor
	}
}

// typeName is how a side stores a tensor.
func (s *Stored) typeName() string {
	switch {
	case s == nil:
		return ""
	case s.Tied:
		return s.Type + " (tied)"
	}
	return s.Type
}

// worse reports whether an error is larger than another; nil is one that is no finite number.
func worse(a, b *float64) bool {
	if a == nil || b == nil {
		return a == nil && b != nil
	}
	return *a > *b
}

// Worst lists the n tensors that changed most, by relative error.
func (d *Difference) Worst(n int) []TensorDifference {
	var list []TensorDifference
	for _, t := range d.Tensors {
		if t.Status == Changed {
			list = append(list, t)
		}
	}
	slices.SortStableFunc(list, func(a, b TensorDifference) int {
		switch {
		case worse(a.RelativeError, b.RelativeError):
			return -1
		case worse(b.RelativeError, a.RelativeError):
			return 1
		}
		return 0
	})
	return list[:min(n, len(list))]
}
