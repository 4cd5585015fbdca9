package safetensors

import (
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
)

// Loaders of Hugging Face refuse a file whose __metadata__ lacks this.
const (
	formatKey   = "format"
	formatValue = "pt"
)

// headerAlign keeps the data section, and so every aligned tensor, on a multiple of the largest element size.
const headerAlign = 8

// Header returns the length prefix and the header of the shard: "format":"pt" and the other metadata sorted by key, then
// the tensors in data order, padded with spaces to a multiple of 8 bytes. The bytes depend on nothing else.
func (s *Shard) Header(metadata map[string]string) []byte {
	b := make([]byte, 8, 256+128*len(s.Tensors))
	b = append(b, `{"__metadata__":{"format":`...)
	b = appendString(b, formatValue)
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		if key != formatKey {
			b = appendString(append(b, ','), key)
			b = appendString(append(b, ':'), metadata[key])
		}
	}
	b = append(b, '}')
	for i := range s.Tensors {
		b = s.Tensors[i].append(append(b, ','))
	}
	b = append(b, '}')
	for len(b)%headerAlign != 0 {
		b = append(b, ' ')
	}
	binary.LittleEndian.PutUint64(b, uint64(len(b)-8))
	return b
}

func (p *Placed) append(b []byte) []byte {
	b = appendString(b, p.Name)
	b = append(b, `:{"dtype":`...)
	b = appendString(b, p.DType.String())
	b = append(b, `,"shape":[`...)
	for i, d := range p.Shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, d, 10)
	}
	b = append(b, `],"data_offsets":[`...)
	b = strconv.AppendInt(b, p.Begin, 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, p.End, 10)
	return append(b, "]}"...)
}

// appendString appends v as a JSON string with nothing escaped but what must be.
func appendString(b []byte, v string) []byte {
	b = append(b, '"')
	for i := range len(v) {
		switch c := v[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			const digits = "0123456789abcdef"
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// Index returns model.safetensors.index.json for the layout: metadata.total_size and weight_map, sorted by tensor name.
// A layout of one shard needs no index, but may have one.
func (l Layout) Index() []byte {
	shardOf := map[string]string{}
	for i := range l.Shards {
		for _, t := range l.Shards[i].Tensors {
			shardOf[t.Name] = l.Shards[i].Name
		}
	}
	b := []byte("{\n  \"metadata\": {\n    \"total_size\": ")
	b = strconv.AppendInt(b, l.TotalBytes(), 10)
	b = append(b, "\n  },\n  \"weight_map\": {"...)
	for i, name := range slices.Sorted(maps.Keys(shardOf)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, "\n    "...), name)
		b = appendString(append(b, ": "...), shardOf[name])
	}
	return append(b, "\n  }\n}\n"...)
}
