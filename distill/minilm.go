package distill

import (
	"fmt"

	"modelpress/internal/arch"
	"modelpress/internal/num"
)

// HeadStates are what the heads of one layer start from in one window of T tokens: queries [T, H*K], keys and values [T, G*K].
// Queries and keys are taken after the rotary embedding, as attention reads them.
type HeadStates struct {
	T, H, G, Dim int
	Q, K, V      []float32
	DQ, DK, DV   []float32 // gradients of the student's, added to
}

// MiniLM compares the relations within a layer of the student with those of a layer of the teacher: a weighted sum of losses
// of [Relation]. A weight of 0 leaves one out.
type MiniLM struct {
	// QK is the attention of each query to the keys, which are repeated for the query heads that read them (MiniLM,
	// arXiv:2002.10957, section 3.1). The others relate vectors of a kind to each other: values (there section 3.2), and with
	// queries and keys too in MiniLMv2 (arXiv:2012.15828, section 3.1).
	QK, QQ, KK, VV float64

	Heads   int // relation heads of QK and QQ
	KVHeads int // relation heads of KK and VV, whose vectors are narrower where keys are grouped
	Rows    int // as in Relation
}

// MiniLMv1 returns the loss of the first paper, attention and values, for two layers. Relation heads are the attention heads of
// the model that has fewer, or as many less as it takes to divide the widths of both.
func MiniLMv1(student, teacher *HeadStates) MiniLM {
	m := MiniLM{QK: 1, VV: 1}
	m.fill(student, teacher)
	return m
}

// MiniLMv2 returns the loss of the second paper, queries, keys and values by a third each. The paper has more relation heads than
// attention heads; 0 means those of MiniLMv1.
func MiniLMv2(student, teacher *HeadStates, heads, kvHeads int) MiniLM {
	m := MiniLM{QQ: 1.0 / 3, KK: 1.0 / 3, VV: 1.0 / 3, Heads: heads, KVHeads: kvHeads}
	m.fill(student, teacher)
	return m
}

// fill sets the numbers of relation heads that are 0.
func (m *MiniLM) fill(student, teacher *HeadStates) {
	if m.Heads == 0 {
		m.Heads = commonHeads(student.H, teacher.H, student.Dim, teacher.Dim)
	}
	if m.KVHeads == 0 {
		m.KVHeads = commonHeads(student.G, teacher.G, student.Dim, teacher.Dim)
	}
}

// commonHeads is the largest number up to a and b that divides a heads of width d and b heads of width e.
func commonHeads(a, b, d, e int) int {
	n := min(a, b)
	for n > 1 && (a*d%n != 0 || b*e%n != 0) {
		n--
	}
	return n
}

// check refuses numbers of relation heads that do not divide what layers have.
func (m MiniLM) check(layers ...*arch.Layer) error {
	for _, a := range layers {
		for _, v := range []struct {
			weight       float64
			heads, width int
		}{{m.QK + m.QQ, m.Heads, a.H * a.K}, {m.KK + m.VV, m.KVHeads, a.G * a.K}} {
			if v.weight != 0 && (v.heads < 0 || v.heads > 0 && v.width%v.heads != 0) {
				return fmt.Errorf("%d relation heads do not divide vectors of width %d", v.heads, v.width)
			}
		}
	}
	return nil
}

// MiniLMLoss is the value of each relation without its weight, and their weighted sum.
type MiniLMLoss struct{ QK, QQ, KK, VV, Loss float64 }

// Apply adds weight times the gradients of the loss to those of the student and returns it. The windows must be of one length.
func (m MiniLM) Apply(student, teacher *HeadStates, weight float64, par num.Par) (MiniLMLoss, error) {
	var out MiniLMLoss
	if student.T != teacher.T || student.H%student.G != 0 || teacher.H%teacher.G != 0 {
		return out, fmt.Errorf("distill: relations: %d positions, %d heads on %d, and %d, %d on %d of the teacher",
			student.T, student.H, student.G, teacher.T, teacher.H, teacher.G)
	}
	sides := [2]*HeadStates{student, teacher}
	var q, k, kr, v [2]*Vectors
	for i, s := range sides {
		q[i] = &Vectors{X: s.Q, Heads: s.H, Dim: s.Dim, Grad: s.DQ}
		k[i] = &Vectors{X: s.K, Heads: s.G, Dim: s.Dim, Grad: s.DK}
		v[i] = &Vectors{X: s.V, Heads: s.G, Dim: s.Dim, Grad: s.DV}
		kr[i] = &Vectors{X: s.K, Heads: s.G, Dim: s.Dim, Grad: s.DK, Repeat: s.H / s.G}
	}
	for _, r := range []struct {
		name   string
		weight float64
		heads  int
		a, b   [2]*Vectors
		value  *float64
	}{
		{"queries and keys", m.QK, m.Heads, q, kr, &out.QK}, {"queries", m.QQ, m.Heads, q, q, &out.QQ},
		{"keys", m.KK, m.KVHeads, k, k, &out.KK}, {"values", m.VV, m.KVHeads, v, v, &out.VV},
	} {
		if r.weight == 0 {
			continue
		}
		rel := Relation{Heads: r.heads, Weight: weight * r.weight, Rows: m.Rows}
		loss, err := rel.Apply(r.a[0], r.b[0], r.a[1], r.b[1], student.T, par)
		if err != nil {
			return out, fmt.Errorf("%w (%s)", err, r.name)
		}
		*r.value = loss
		out.Loss += float64(r.weight * loss)
	}
	return out, nil
}
