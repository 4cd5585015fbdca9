package prune

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"modelpress/formats"
)

// UnmarshalJSON reads what MarshalJSON writes, with white space and keys in any order. Unknown and duplicate keys, units in another
// spelling, scales that are not finite or not one for each unit, and more than 1,000 layers or 2²⁴ units are errors. Whether a cut
// fits a model is for [Cut.Check] to say.
func (c *Cut) UnmarshalJSON(data []byte) error {
	d := decoder{JSONScanner: formats.NewJSONScanner(data, 8), left: maxUnits}
	var out Cut
	err := d.Object(func(key string) error {
		switch key {
		case "hidden":
			return d.units(&out.Hidden)
		case "layers":
			return d.layers(&out)
		}
		return unknown(key)
	})
	if err == nil {
		err = d.End()
	}
	if err != nil {
		return fmt.Errorf("prune: decode: %w", err)
	}
	*c = out
	return nil
}

// decoder reads a cut.
type decoder struct {
	*formats.JSONScanner
	left int // units
}

func unknown(key string) error { return fmt.Errorf("unknown key %.40q", key) }

func (d *decoder) layers(c *Cut) error {
	return d.Array(func(i int) error {
		if i == maxLayers {
			return fmt.Errorf("more than %d layers", maxLayers)
		}
		var l CutLayer
		err := d.Object(func(key string) error {
			switch key {
			case "drop":
				return d.drop(&l)
			case "ffn":
				return d.units(&l.FFN)
			case "heads":
				return d.units(&l.Heads)
			case "scale":
				return d.layerScale(&l)
			}
			return unknown(key)
		})
		c.Layers = append(c.Layers, l)
		if err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		return nil
	})
}

func (d *decoder) drop(l *CutLayer) error {
	raw, err := d.Raw()
	if err == nil && string(raw) != "true" {
		err = fmt.Errorf("drop is not true")
	}
	l.Drop = true
	return err
}

func (d *decoder) layerScale(l *CutLayer) error {
	v, err := d.floats()
	if err == nil && (len(v) != 1 || v[0] == 0) {
		err = fmt.Errorf("a layer has one scale, and not 0")
	}
	if err == nil {
		l.Scale = v[0]
	}
	return err
}

func (d *decoder) units(u *Units) error {
	err := d.Object(func(key string) error {
		switch key {
		case "keep":
			s, err := d.String()
			if err == nil {
				u.Keep, err = parseUnits(s, &d.left)
			}
			return err
		case "scale":
			var err error
			if u.Scale, err = d.floats(); err == nil && len(u.Scale) == 0 {
				err = fmt.Errorf("no scales")
			}
			return err
		}
		return unknown(key)
	})
	if err == nil && u.Keep != nil && u.Scale != nil && len(u.Scale) != len(u.Keep) {
		err = fmt.Errorf("%d scales for %d units", len(u.Scale), len(u.Keep))
	}
	return err
}

func (d *decoder) floats() ([]float32, error) {
	s, err := d.String()
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(raw)%4 != 0 || strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("scales are not 32-bit floats in base64")
	}
	v := make([]float32, len(raw)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		if !finite32(v[i]) {
			return nil, fmt.Errorf("scale %d is %v", i, v[i])
		}
	}
	return v, nil
}
