package pipeline

import (
	"modelpress/formats"
	"modelpress/internal/arch"
)

// lateSource is a model whose weights are yet to be trained: every tensor of m in its shape, as F32, which the steps after training are
// laid out by. Reads fail until the trained values are there. Other tensors are those of the base.
type lateSource struct {
	base    formats.Source
	list    []formats.TensorInfo
	late    map[string]formats.TensorInfo
	trained formats.Source // nil before
	gone    string         // the stored copy of a tied head, "" for none
}

// isTiedCopy reports whether a tensor is a stored copy of a head that is the embedding. Trained models have none.
func isTiedCopy(m *arch.Model, name string) bool {
	return m.Tied && name == arch.HeadModule+".weight" && name != m.Embed
}

func newLateSource(base formats.Source, m *arch.Model) *lateSource {
	s := &lateSource{base: base, late: map[string]formats.TensorInfo{}}
	names := map[string]bool{}
	for _, p := range m.Parameters() {
		names[p.Name] = true
	}
	for _, t := range base.Tensors() {
		if isTiedCopy(m, t.Name) { // it would no longer be one
			s.gone = t.Name
			continue
		}
		if names[t.Name] {
			t.DType = formats.F32
			s.late[t.Name] = t
		}
		s.list = append(s.list, t)
	}
	return s
}

// Tensors implements [formats.Source].
func (s *lateSource) Tensors() []formats.TensorInfo { return s.list }

// Lookup implements [formats.Source].
func (s *lateSource) Lookup(name string) (formats.TensorInfo, bool) {
	if t, ok := s.late[name]; ok {
		return t, true
	}
	if name == s.gone {
		return formats.TensorInfo{}, false
	}
	return s.base.Lookup(name)
}

// ReadAt implements [formats.Source].
func (s *lateSource) ReadAt(name string, p []byte, off int64) error {
	_, late := s.late[name]
	switch {
	case !late:
		return s.base.ReadAt(name, p, off)
	case s.trained == nil:
		return formats.Errorf("model", name, "pipeline: read before it is trained")
	}
	return s.trained.ReadAt(name, p, off)
}

// blank returns the source with zeros for values: what can be laid out before there are any.
func (s *source) blank() *source {
	return &source{dir: s.dir, ck: s.ck, dense: blank{s.dense}, arch: s.arch}
}

type blank struct{ formats.Source }

// ReadAt implements [formats.Source].
func (blank) ReadAt(_ string, p []byte, _ int64) error {
	clear(p)
	return nil
}
