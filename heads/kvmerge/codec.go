package kvmerge

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Encode appends the matrices of the maps to b: those of keys and values, encoders before decoders, head by head, as little-endian
// 64-bit floats, and the output projection as 32-bit ones. Shape and groups are not in it: the reader knows them.
func (m *Maps) Encode(b []byte) []byte {
	for _, side := range m.sides() {
		for _, v := range side {
			for _, x := range v {
				b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
			}
		}
	}
	for _, x := range m.Output {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// Decode restores what Encode wrote for a layer of a shape and groups; d is the width of the model. The values are not checked:
// [View] does that.
func Decode(b []byte, s Shape, groups Groups, d int) (*Maps, error) {
	if d < 0 {
		return nil, fmt.Errorf("kvmerge: maps of a model of width %d", d)
	}
	maps, output := MapsBytes(s, 0), MapsBytes(s, d)
	if int64(len(b)) != maps && int64(len(b)) != output {
		return nil, fmt.Errorf("kvmerge: %d bytes are no maps of a layer: want %d or %d", len(b), maps, output)
	}
	m := &Maps{Shape: s, Groups: groups, Key: newSide(s), Value: newSide(s)}
	for _, side := range m.sides() {
		for _, v := range side {
			for i := range v {
				v[i] = math.Float64frombits(binary.LittleEndian.Uint64(b))
				b = b[8:]
			}
		}
	}
	if len(b) == 0 {
		return m, nil
	}
	m.Output = make([]float32, len(b)/4)
	for i := range m.Output {
		m.Output[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return m, nil
}

// Bytes is the size of the encoded maps.
func (m *Maps) Bytes() int64 {
	return MapsBytes(m.Shape, 0) + 4*int64(len(m.Output))
}

// MapsBytes is the size of the encoded maps of a layer with an output projection of width d, 0 for none.
func MapsBytes(s Shape, d int) int64 {
	return 32*int64(s.G)*int64(s.K)*int64(s.K) + 4*int64(d)*int64(s.H)*int64(s.K)
}

func (m *Maps) sides() [][][]float64 {
	return [][][]float64{m.Key.Encode, m.Key.Decode, m.Value.Encode, m.Value.Decode}
}
