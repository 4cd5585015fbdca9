package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"modelpress/formats"
	"modelpress/heads/kvmerge"
)

// mapFiles keeps the maps of merged layers in a directory.
type mapFiles struct {
	dir string
	s   *source
	d   *mergeDecision
	// want gives the digest that the file of a layer must have; nil where nobody else could have touched it.
	want func(l int) string
}

func (f mapFiles) name(l int) string {
	return filepath.Join(f.dir, fmt.Sprintf("kvmerge-%04d.maps", l))
}

// save writes the maps of layer l and returns the digest of the file.
func (f mapFiles) save(l int, m *kvmerge.Maps) (string, error) {
	b := m.Encode(make([]byte, 0, m.Bytes()))
	file, err := os.Create(f.name(l))
	if err != nil {
		return "", fmt.Errorf("pipeline: maps of layer %d: %w", l, err)
	}
	_, err = file.Write(b)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(formats.NoSpace(err), file.Close()); err != nil {
		return "", fmt.Errorf("pipeline: maps of layer %d: %w", l, err)
	}
	return sumDigest(b), nil
}

// load reads the maps of layer l.
func (f mapFiles) load(l int) (*kvmerge.Maps, error) {
	a := &f.s.arch.Layers[l]
	shape := shapeOf(f.s.arch, a)
	b, err := readLimited(f.name(l), kvmerge.MapsBytes(shape, f.s.arch.D))
	var bad *formats.Error // no regular file of a possible size
	if gone := errors.Is(err, fs.ErrNotExist) || errors.As(err, &bad); f.want != nil && (gone || err == nil && sumDigest(b) != f.want(l)) {
		return nil, errKind(KindGate, "remove the .partial directory and apply again", "the saved maps of layer %d are damaged", l)
	}
	if err != nil {
		return nil, fmt.Errorf("pipeline: maps of layer %d: %w", l, err)
	}
	return kvmerge.Decode(b, shape, f.d.Layers[l].Groups, f.s.arch.D)
}

// scratchOfMaps is what the maps of all layers take on disk.
func scratchOfMaps(s *source, refit bool) (n int64) {
	d := 0
	if refit {
		d = s.arch.D
	}
	for l := range s.arch.Layers {
		if a := &s.arch.Layers[l]; a.HasAttention() {
			n += kvmerge.MapsBytes(shapeOf(s.arch, a), d)
		}
	}
	return n
}
