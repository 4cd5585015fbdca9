package hf

import (
	"regexp"
	"slices"

	"modelpress/formats"
	"modelpress/formats/safetensors"
)

const (
	singleName = "model.safetensors"
	indexName  = "model.safetensors.index.json"

	maxIndexBytes = 128 << 20
	maxShards     = 4096
	indexDepth    = 16
)

// shardName is what a shard may be called: one path element, so that no name leads out of the directory.
var shardName = regexp.MustCompile(`^[A-Za-z0-9._-]+\.safetensors$`)

// index is the checked content of model.safetensors.index.json.
type index struct {
	shards    []string          // sorted
	shardOf   map[string]string // by tensor
	totalSize int64             // -1 where not given as a whole number
}

// parseIndex reads an index. Fields that it does not know, of which real files have some, are checked as JSON only.
func parseIndex(raw []byte, file string) (*index, error) {
	x := &index{totalSize: -1}
	s := formats.NewJSONScanner(raw, indexDepth)
	err := s.Object(func(key string) error {
		switch key {
		case "metadata":
			return x.readMetadata(s)
		case "weight_map":
			return x.readWeightMap(s, file)
		}
		return s.Skip()
	})
	if err == nil {
		err = s.End()
	}
	if err != nil {
		if e, ok := err.(*formats.Error); ok {
			return nil, e
		}
		return nil, formats.Errorf(file, "", "%w", err)
	}
	if len(x.shardOf) == 0 {
		return nil, formats.Errorf(file, "", "no weight_map, or an empty one")
	}
	slices.Sort(x.shards)
	return x, nil
}

func (x *index) readMetadata(s *formats.JSONScanner) error {
	if s.Kind() != '{' {
		return s.Skip()
	}
	return s.Object(func(key string) error {
		if c := s.Kind(); key == "total_size" && c >= '0' && c <= '9' {
			text, err := s.Number()
			x.totalSize = wholeNumber(text)
			return err
		}
		return s.Skip()
	})
}

// wholeNumber returns -1 for anything but plain digits below 2^63; some writers give total_size as a float.
func wholeNumber(text string) int64 {
	s := formats.NewJSONScanner([]byte(text), 1)
	n, err := s.Natural()
	if err != nil {
		return -1
	}
	return n
}

func (x *index) readWeightMap(s *formats.JSONScanner, file string) error {
	x.shardOf = map[string]string{}
	seen := map[string]string{} // one string per shard, not per tensor
	return s.Object(func(tensor string) error {
		if len(x.shardOf) == safetensors.MaxTensors {
			return formats.Errorf(file, "", "weight_map has more than %d tensors", safetensors.MaxTensors)
		}
		shard, err := s.String()
		if err != nil {
			return err
		}
		if !shardName.MatchString(shard) {
			return formats.Errorf(file, clip(tensor), "%s is not an acceptable shard name: one path element of letters, digits, '.', '_' and '-' that ends in .safetensors is needed", quote(shard))
		}
		if _, ok := seen[shard]; !ok {
			if len(seen) == maxShards {
				return formats.Errorf(file, "", "weight_map names more than %d shards", maxShards)
			}
			seen[shard] = shard
			x.shards = append(x.shards, shard)
		}
		x.shardOf[tensor] = seen[shard]
		return nil
	})
}
