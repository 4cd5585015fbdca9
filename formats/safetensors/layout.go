package safetensors

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"modelpress/formats"
)

// ErrDuplicate is the cause when a layout is asked for with a tensor name twice.
var ErrDuplicate = errors.New("duplicate tensor name")

// Placed is a tensor with the range of bytes [Begin, End) that it takes in the data section of its shard.
type Placed struct {
	formats.TensorInfo
	Begin, End int64
}

// Shard is one file of a layout. Its tensors are in data order and leave no holes.
type Shard struct {
	Name    string
	Tensors []Placed
}

// DataBytes returns the size of the shard's data section.
func (s *Shard) DataBytes() int64 {
	if len(s.Tensors) == 0 {
		return 0
	}
	return s.Tensors[len(s.Tensors)-1].End
}

// Layout says where every byte of a set of tensors goes before the first is written. It depends on nothing but the
// tensors and the size limit.
type Layout struct {
	Shards []Shard
}

// PlanLayout distributes tensors, in the order given, over shards of at most maxShardBytes of data each; a tensor over
// the limit gets a shard of its own, and a limit of 0 means one file. One shard is called model.safetensors, several
// model-00001-of-0000N.safetensors.
//
// Within a shard the order is kept unless a tensor would come to lie at an offset that is no multiple of its element
// size, which readers that map files into memory dislike; then larger elements go first, and the order is kept among
// equals.
func PlanLayout(tensors []formats.TensorInfo, maxShardBytes int64) (Layout, error) {
	if maxShardBytes <= 0 {
		maxShardBytes = math.MaxInt64
	}
	sizes, err := checkTensors(tensors)
	if err != nil {
		return Layout{}, err
	}
	var l Layout
	used := int64(0)
	for i, t := range tensors {
		last := len(l.Shards) - 1
		if last < 0 || len(l.Shards[last].Tensors) > 0 && sizes[i] > maxShardBytes-used {
			l.Shards = append(l.Shards, Shard{})
			last, used = last+1, 0
		}
		t.Shape = slices.Clone(t.Shape)
		l.Shards[last].Tensors = append(l.Shards[last].Tensors, Placed{TensorInfo: t})
		used += sizes[i]
	}
	if len(l.Shards) == 0 {
		l.Shards = []Shard{{}}
	}
	for i := range l.Shards {
		s := &l.Shards[i]
		s.Name = "model.safetensors"
		if n := len(l.Shards); n > 1 {
			s.Name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, n)
		}
		s.place()
	}
	return l, nil
}

// checkTensors returns the size of each tensor, and an error for what our own reader would refuse.
func checkTensors(tensors []formats.TensorInfo) ([]int64, error) {
	if len(tensors) > MaxTensors {
		return nil, fmt.Errorf("layout: %d tensors are over the limit of %d", len(tensors), MaxTensors)
	}
	seen := make(map[string]bool, len(tensors))
	sizes := make([]int64, len(tensors))
	total := int64(0)
	for i, t := range tensors {
		n, err := t.Bytes()
		switch problem := checkName(t.Name); {
		case err != nil:
			return nil, formats.Errorf("", t.Name, "layout: %w", err)
		case problem != "" || t.Name == metadataKey:
			return nil, formats.Errorf("", t.Name, "layout: the name cannot be stored")
		case seen[t.Name]:
			return nil, formats.Errorf("", t.Name, "layout: %w", ErrDuplicate)
		case len(t.Shape) > maxDimensions:
			return nil, formats.Errorf("", t.Name, "layout: more than %d dimensions", maxDimensions)
		case n > math.MaxInt64-MaxHeaderBytes-total:
			return nil, formats.Errorf("", t.Name, "layout: the total size overflows")
		}
		seen[t.Name] = true
		sizes[i] = n
		total += n
	}
	return sizes, nil
}

// place sets the offsets of a shard's tensors.
func (s *Shard) place() {
	if !s.setOffsets() {
		slices.SortStableFunc(s.Tensors, func(a, b Placed) int { return b.DType.Size() - a.DType.Size() })
		s.setOffsets()
	}
}

// setOffsets lays the tensors one after another and reports whether all are aligned.
func (s *Shard) setOffsets() bool {
	aligned := true
	off := int64(0)
	for i := range s.Tensors {
		t := &s.Tensors[i]
		n, _ := t.Bytes() // checked by checkTensors
		aligned = aligned && off%int64(t.DType.Size()) == 0
		t.Begin, t.End = off, off+n
		off = t.End
	}
	return aligned
}

// TotalBytes returns the bytes of all tensors: total_size in the index.
func (l Layout) TotalBytes() int64 {
	total := int64(0)
	for i := range l.Shards {
		total += l.Shards[i].DataBytes()
	}
	return total
}

// FileSizes returns the exact size of each shard file when it is written with the given metadata.
func (l Layout) FileSizes(metadata map[string]string) []int64 {
	sizes := make([]int64, len(l.Shards))
	for i := range l.Shards {
		sizes[i] = int64(len(l.Shards[i].Header(metadata))) + l.Shards[i].DataBytes()
	}
	return sizes
}
