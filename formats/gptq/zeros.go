package gptq

import (
	"encoding/binary"
	"fmt"
	"slices"

	"modelpress/formats"
)

// eachZeros calls f with the words [at, at+n) of the zero points of each group, as version 2 has them. f must not keep them.
func (m *module) eachZeros(at, n int, f func(g int, w []uint32)) error {
	w := make([]uint32, n)
	return formats.ReadColumns(m.src, m.name+suffixZeros, at, n, func(g int, b []byte) {
		for i := range w {
			w[i] = binary.LittleEndian.Uint32(b[4*i:])
		}
		if !m.V2 {
			upgrade(w, m.Bits)
		}
		f(g, w)
	})
}

// upgrade turns words of version 1 into those of version 2. Fields of 2, 4 and 8 bits are added to as parts of their word: programs that
// subtracted 1 in every field at once had a field of 0 take 1 from the next one, and this gives it back (GPTQModel, utils/model.py,
// convert_gptq_v1_to_v2_format_module). Fields of 3 bits are added to one by one.
func upgrade(w []uint32, bits int) {
	if bits != 3 {
		one := unitOf(bits).repeat(1)[0]
		for i := range w {
			w[i] += one
		}
		return
	}
	u := unitOf(bits)
	var zeros [block]byte
	for i := 0; i < len(w); i += u.words {
		u.unpack(zeros[:], w[i:], 0)
		for j := range zeros {
			zeros[j] = (zeros[j] + 1) & 7
		}
		u.pack(w[i:], zeros[:], 0)
	}
}

// readZeros finds out of which version the stored zero points are, and whether they are those of a symmetric weight.
func (m *module) readZeros(f *findings) error {
	labelled := m.V2
	m.V2 = true // so that the words come as they are stored
	middle := uint8(1) << (m.Bits - 1)
	u := unitOf(m.Bits)
	symmetric := [2][]uint32{u.repeat(middle - 1), u.repeat(middle)} // as stored in versions 1 and 2
	is := [2]bool{true, true}
	wraps := false
	var zeros [block]byte
	if err := m.eachZeros(0, m.out*m.Bits/32, func(_ int, w []uint32) {
		for k := 0; k < len(w); k += u.words {
			part := w[k : k+u.words]
			for v := range is {
				is[v] = is[v] && slices.Equal(part, symmetric[v])
			}
			if !is[0] && !is[1] && !wraps {
				u.unpack(zeros[:], part, 0)
				wraps = slices.Contains(zeros[:u.codes], 1<<m.Bits-1)
			}
		}
	}); err != nil {
		return err
	}
	m.settle(labelled, is, wraps, f)
	return nil
}

// settle decides about a module from what its config says and what its zero points look like.
func (m *module) settle(labelled bool, is [2]bool, wraps bool, f *findings) {
	said := m.Symmetric
	m.V2 = labelled
	found := 0
	if labelled {
		found = 1
	}
	switch {
	case said && is[1-found]:
		m.V2 = !labelled
		f.version[1-found].add(m.name)
	case said && !is[found]:
		f.uneven.add(m.name)
		m.Symmetric = false
	case !said:
		m.Symmetric = is[found]
		if is[1-found] {
			f.shifted.add(m.name)
		}
	}
	if wraps && !m.V2 {
		f.wraps.add(m.name)
	}
}

// tally counts modules and keeps the name of the first.
type tally struct {
	n     int
	first string
}

func (t *tally) add(name string) {
	if t.n == 0 {
		t.first = name
	}
	t.n++
}

// findings are what modules show that the user should hear of.
type findings struct {
	version [2]tally // symmetric, with zero points of version 1 or 2 under the other label
	uneven  tally
	shifted tally
	wraps   tally
	order   tally
	head    tally
}

// notes returns a sentence for each kind of finding.
func (f *findings) notes() []string {
	var list []string
	note := func(t tally, format string, args ...any) {
		if t.n > 0 {
			list = append(list, fmt.Sprintf("%d modules (first %s): ", t.n, t.first)+fmt.Sprintf(format, args...))
		}
	}
	note(f.version[1], "zero points are those of %s, although checkpoint_format says %s; read as %[1]s", formatV2, formatV1)
	note(f.version[0], "zero points are those of %s, although checkpoint_format says %s; read as %[1]s", formatV1, formatV2)
	note(f.uneven, "zero points differ, although sym is true; they are used as stored, where some kernels ignore them")
	note(f.shifted, "all zero points are those of a symmetric weight in the other version of the format; since sym is false, they are read as checkpoint_format says")
	note(f.wraps, "zero points that were 0 before version 1 subtracted 1 from them; programs read these in different ways, here as GPTQModel wrote them")
	note(f.order, "columns belong to groups in an order of their own, although desc_act is false; kernels that trust desc_act ignore the order")
	note(f.head, "the output head is quantized, although lm_head is not true")
	return list
}
