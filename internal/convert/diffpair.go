package convert

import (
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/checkpoint"
)

// end is one side of a comparison of a tensor.
type end struct {
	c    *checkpoint.Checkpoint
	src  formats.Source     // whose values are compared
	info formats.TensorInfo // with the name that it has on this side
	tied bool               // the embedding, in the place of an output head that is tied to it
}

// pair is a tensor with its two sides; one of them is nil where only the other has it.
type pair struct {
	name string // the first side's, or where it has none the second's as it is renamed
	a, b *end
	grid bool // both lie on integer grids
}

// pairing matches the tensors of two models by name.
type pairing struct {
	a, b    *checkpoint.Checkpoint
	rename  []checkpoint.Rename
	ignore  []string
	pairs   []pair // in the order of the first model's files
	ignored []string
}

// match finds the pairs.
func (p *pairing) match() error {
	names, err := p.renamed()
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, t := range inOrder(p.a) {
		one := pair{name: t.Name, a: &end{c: p.a, src: p.a.Dense, info: t}}
		for _, name := range p.aliases(t.Name) {
			other, ok := names[name]
			if _, own := p.a.Dense.Lookup(name); !ok || own && name != t.Name { // that one is its own pair
				continue
			}
			used[name] = true
			one.b = &end{c: p.b, src: p.b.Dense, info: other}
			break
		}
		p.pairs = append(p.pairs, one)
	}
	var rest []string
	for name := range names {
		if !used[name] {
			rest = append(rest, name)
		}
	}
	slices.Sort(rest)
	for _, name := range rest {
		p.pairs = append(p.pairs, pair{name: name, b: &end{c: p.b, src: p.b.Dense, info: names[name]}})
	}
	p.pairs = slices.DeleteFunc(p.pairs, p.ignores)
	a, b := unrounded(p.a), unrounded(p.b)
	for i := range p.pairs {
		one := &p.pairs[i]
		one.tie(p.a, p.b)
		if one.a != nil && one.b != nil && one.a.onGrid() && one.b.onGrid() {
			one.grid = true
			one.a.from(a)
			one.b.from(b)
		}
	}
	return nil
}

// renamed lists the tensors of the second model by the names that they are compared by.
func (p *pairing) renamed() (map[string]formats.TensorInfo, error) {
	names := map[string]formats.TensorInfo{}
	for _, t := range p.b.Dense.Tensors() {
		name := checkpoint.ApplyRenames(p.rename, t.Name)
		if first, twice := names[name]; twice {
			return nil, usage("", "--rename: tensors %q and %q both become %q", first.Name, t.Name, name)
		}
		names[name] = t
	}
	return names, nil
}

// ignores reports whether a tensor is left out, by its name or its module's, and notes it.
func (p *pairing) ignores(one pair) bool {
	if !ignores(p.ignore, one.name) && !ignores(p.ignore, arch.Linear{Weight: one.name}.Module()) {
		return false
	}
	p.ignored = append(p.ignored, one.name)
	return true
}

// aliases lists the names that a tensor of the first model may have in the second. Checkpoints of one family may differ in what all names
// begin with.
func (p *pairing) aliases(name string) []string {
	list := []string{name}
	a, b := p.a.Arch, p.b.Arch
	if a == nil || b == nil || a.Family != b.Family {
		return list
	}
	if prefix, ok := strings.CutSuffix(b.Embed, a.Embed); ok && prefix != "" {
		list = append(list, prefix+name)
	}
	if prefix, ok := strings.CutSuffix(a.Embed, b.Embed); ok && prefix != "" && strings.HasPrefix(name, prefix) {
		list = append(list, name[len(prefix):])
	}
	return list
}

// tie puts the embedding in the place of an output head that one side stores and the other ties to it.
func (p *pair) tie(a, b *checkpoint.Checkpoint) {
	if p.name != arch.HeadModule+".weight" {
		return
	}
	for _, side := range []struct {
		end **end
		c   *checkpoint.Checkpoint
	}{{&p.a, a}, {&p.b, b}} {
		if *side.end != nil || side.c.Arch == nil || !side.c.Arch.Tied {
			continue
		}
		if info, ok := side.c.Dense.Lookup(side.c.Arch.Embed); ok {
			*side.end = &end{c: side.c, src: side.c.Dense, info: info, tied: true}
		}
	}
}

// unrounded is the dense view of a model that shows weights on integer grids before they are rounded, so that equal codes and scales are
// equal values in whatever formats.
func unrounded(c *checkpoint.Checkpoint) formats.Source {
	if u, ok := c.Quantized.(formats.Unrounder); ok {
		return u.Unrounded()
	}
	return c.Dense
}

// from takes the values from another view of the same model.
func (e *end) from(src formats.Source) {
	e.src = src
	e.info, _ = src.Lookup(e.info.Name)
}

func (e *end) onGrid() bool {
	if e.c.Quantized == nil {
		return false
	}
	s, ok := e.c.Quantized.Storage(e.info.Name)
	return ok && s.Grid
}
