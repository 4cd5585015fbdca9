package prune

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// Bounds on a decoded cut. They lie above every model that internal/arch describes, but for the last, which is twice the units of
// the largest published ones, and bounds what a short text can ask for: 128 MiB.
const (
	maxLayers = 1000
	maxUnit   = 1 << 22
	maxUnits  = 1 << 24 // all together
)

// MarshalJSON writes a cut so that equal cuts have equal bytes:
//
//	{"hidden":{"keep":"0-99,101","scale":"AACAPw=="},"layers":[{"drop":true},{"ffn":{…},"heads":{…},"scale":"…"}]}
//
// What has its zero value is left out. Units that stay are runs of numbers, or x and one hexadecimal digit for four units, the
// first of them its lowest bit, where that is less than half as long; "" for none. Scales are little-endian 32-bit floats in base64. Units that are
// not ascending and cuts past the bounds of decoding are errors.
func (c Cut) MarshalJSON() ([]byte, error) {
	e := encoder{left: maxUnits}
	if len(c.Layers) > maxLayers {
		return nil, fmt.Errorf("prune: encode: %d layers", len(c.Layers))
	}
	e.text(`{"hidden":`)
	e.units(&c.Hidden)
	e.text(`,"layers":[`)
	for l := range c.Layers {
		if l > 0 {
			e.text(",")
		}
		e.layer(&c.Layers[l])
	}
	e.text("]}")
	if e.err != nil {
		return nil, fmt.Errorf("prune: encode: %w", e.err)
	}
	return e.out.Bytes(), nil
}

// encoder writes until something cannot be written.
type encoder struct {
	out  bytes.Buffer
	left int // units
	err  error
}

func (e *encoder) text(s string) { e.out.WriteString(s) }

func (e *encoder) layer(l *CutLayer) {
	e.text("{")
	comma := ""
	field := func(key string) {
		e.text(comma + strconv.Quote(key) + ":")
		comma = ","
	}
	if l.Drop {
		field("drop")
		e.text("true")
	}
	if l.FFN.Keep != nil || len(l.FFN.Scale) > 0 {
		field("ffn")
		e.units(&l.FFN)
	}
	if l.Heads.Keep != nil || len(l.Heads.Scale) > 0 {
		field("heads")
		e.units(&l.Heads)
	}
	if l.Scale != 0 {
		field("scale")
		e.floats([]float32{l.Scale})
	}
	e.text("}")
}

func (e *encoder) units(u *Units) {
	e.text("{")
	if u.Keep != nil {
		keep, err := formatUnits(u.Keep)
		if e.left -= len(u.Keep); err == nil && e.left < 0 {
			err = fmt.Errorf("more than %d units", maxUnits)
		}
		if e.err == nil {
			e.err = err
		}
		e.text(`"keep":"` + keep + `"`)
	}
	if len(u.Scale) > 0 {
		if u.Keep != nil {
			e.text(",")
		}
		e.text(`"scale":`)
		e.floats(u.Scale)
	}
	e.text("}")
}

func (e *encoder) floats(v []float32) {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		if e.err == nil && !finite32(x) {
			e.err = fmt.Errorf("scale %v", x)
		}
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	e.text(`"` + base64.StdEncoding.EncodeToString(raw) + `"`)
}
