package gguf

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"modelpress/formats"
)

// Options say how a model is laid out. With the zero value it is one file.
type Options struct {
	// SplitBytes bounds the bytes of the tensors in one file, with their padding and without the header, as llama-gguf-split counts them;
	// a tensor over the limit gets a file of its own. 0: no limit.
	SplitBytes int64
	// SplitTensors bounds the tensors in one file. 0: no limit.
	SplitTensors int
	// Alignment is a power of two from 8 to MaxAlignment. 0: general.alignment of the metadata, 32 where that is missing, as readers have
	// it. Another than 32 is entered in the metadata.
	Alignment uint32
}

// FileLayout is one file of a layout.
type FileLayout struct {
	Tensors     []Tensor // in the order of their data
	HeaderBytes int64    // of everything before the data, padding included
	Bytes       int64    // of the file

	header  []byte
	offsets []int64 // of each tensor, from the start of the file
}

// Layout says where every byte of a model goes before the first is written. It depends on nothing but what Plan is given.
type Layout struct {
	Files []FileLayout
}

// Plan lays out a model. Metadata and tensors keep their order. A model that needs several files is split as llama-gguf-split does it: the
// metadata are in the first, which has tensors too, and each ends its own with split.no, split.tensors.count and split.count. One that fits
// in one file gets no such keys. It fails for what a reader would refuse.
//
// Memory: the headers.
func Plan(kv []KV, tensors []Tensor, o Options) (Layout, error) {
	kv, alignment, err := align(kv, o.Alignment)
	if err != nil {
		return Layout{}, err
	}
	if err := checkTensors(tensors); err != nil {
		return Layout{}, err
	}
	groups, err := o.group(tensors, alignment)
	if err != nil {
		return Layout{}, err
	}
	var l Layout
	total := int64(0)
	for i, group := range groups {
		own := slices.Clip(kv)
		if i > 0 {
			own = alignmentOf(kv)
		}
		if len(groups) > 1 {
			// llama-gguf-split sets the count anew when it knows it, which moves that key to the end.
			own = append(own, KV{keySplitNo, Uint16(uint16(i))}, KV{keySplitTensors, Int32(int32(len(tensors)))},
				KV{keySplitCount, Uint16(uint16(len(groups)))})
		}
		f, err := layFile(own, group, alignment)
		if err != nil {
			return Layout{}, err
		}
		if total += f.HeaderBytes; total > MaxHeaderBytes {
			return Layout{}, fmt.Errorf("gguf: the metadata of all files are over the limit of %d bytes", MaxHeaderBytes)
		}
		l.Files = append(l.Files, f)
	}
	if l.Bytes() < 0 {
		return Layout{}, fmt.Errorf("gguf: the size of all files is not representable")
	}
	return l, nil
}

// align returns the alignment and the metadata that say it.
func align(kv []KV, want uint32) ([]KV, uint32, error) {
	a := uint32(defaultAlignment)
	there := false
	for _, e := range kv {
		if isSplitKey(e.Key) {
			return nil, 0, fmt.Errorf("gguf: key %q is the writer's", e.Key)
		}
		if e.Key == keyAlignment {
			if a, there = e.Value.Data.(uint32); !there {
				return nil, 0, fmt.Errorf("gguf: key %q: a uint32 is needed", e.Key)
			}
		}
	}
	switch {
	case want == 0 || want == a:
	case there:
		return nil, 0, fmt.Errorf("gguf: alignment %d is asked for, and key %q says %d", want, keyAlignment, a)
	default:
		a, kv = want, append(slices.Clip(kv), KV{keyAlignment, Uint32(want)})
	}
	return kv, a, checkAlignment(a)
}

// alignmentOf returns the key of the alignment: every file of a split model is read by its own.
func alignmentOf(kv []KV) []KV {
	for _, e := range kv {
		if e.Key == keyAlignment {
			return []KV{e}
		}
	}
	return nil
}

// group distributes the tensors over files.
func (o Options) group(tensors []Tensor, alignment uint32) ([][]Tensor, error) {
	var groups [][]Tensor
	start, used := 0, int64(0)
	for i, t := range tensors {
		n, err := endOf(t, 0, alignment)
		if err != nil {
			return nil, err
		}
		over := o.SplitBytes > 0 && n > o.SplitBytes-used || o.SplitTensors > 0 && i-start >= o.SplitTensors
		if over && i > start {
			groups = append(groups, tensors[start:i])
			start, used = i, 0
		}
		if used += n; used < 0 {
			return nil, formats.Errorf("", t.Name, "gguf: the size of the file is not representable")
		}
	}
	if groups = append(groups, tensors[start:]); len(groups) > MaxSplits {
		return nil, fmt.Errorf("gguf: %d files are over the limit of %d: ask for larger ones", len(groups), MaxSplits)
	}
	return groups, nil
}

func layFile(kv []KV, tensors []Tensor, alignment uint32) (FileLayout, error) {
	header, err := Header(kv, tensors, alignment)
	if err != nil {
		return FileLayout{}, err
	}
	f := FileLayout{Tensors: slices.Clone(tensors), header: header, HeaderBytes: int64(len(header)), Bytes: int64(len(header))}
	for i := range f.Tensors {
		t := &f.Tensors[i]
		t.Shape = slices.Clone(t.Shape)
		f.offsets = append(f.offsets, f.Bytes)
		if f.Bytes, err = endOf(*t, f.Bytes, alignment); err != nil {
			return FileLayout{}, err
		}
	}
	return f, nil
}

// Bytes returns the size of all files.
func (l Layout) Bytes() int64 {
	n := int64(0)
	for i := range l.Files {
		if n += l.Files[i].Bytes; n < 0 {
			return -1
		}
	}
	return n
}

// Names returns the names of the files of a layout that is written to a path: the path itself, or, for several files,
// DIR/NAME-00001-of-0000N.gguf and so on for DIR/NAME.gguf or DIR/NAME.
func (l Layout) Names(path string) []string {
	if len(l.Files) == 1 {
		return []string{path}
	}
	dir, stem := filepath.Dir(path), strings.TrimSuffix(filepath.Base(path), suffix)
	names := make([]string, len(l.Files))
	for i := range names {
		names[i] = filepath.Join(dir, partName(stem, i, len(names)))
	}
	return names
}
