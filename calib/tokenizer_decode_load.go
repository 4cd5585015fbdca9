package calib

import (
	"encoding/json"
	"fmt"
)

// loadDecoder reads the decoder section; nil for none.
func loadDecoder(raw json.RawMessage) (decoder, error) {
	d, err := loadDecoderStage(raw, 0)
	if err == nil && decoderGrowth(d) > maxGrowth {
		return nil, fmt.Errorf("decoder may make a text more than %d times longer", maxGrowth)
	}
	return d, err
}

// decoderGrowth is growth for decoders.
func decoderGrowth(d decoder) int {
	switch d := d.(type) {
	case replaceDecoder:
		return growth(d.replace)
	case decodeSequence:
		g := 1
		for _, f := range d {
			g = min(g*decoderGrowth(f), maxGrowth+1)
		}
		return g
	}
	return 1
}

func loadDecoderStage(raw json.RawMessage, depth int) (decoder, error) {
	if isNull(raw) {
		return nil, nil
	}
	o, err := parseObject("decoder", raw)
	if err != nil {
		return nil, err
	}
	kind, err := o.text("type", "")
	if err != nil {
		return nil, err
	}
	switch kind {
	case "ByteLevel":
		return byteLevelDecoder{}, nil
	case "ByteFallback":
		return byteFallbackDecoder{}, nil
	case "Fuse":
		return fuseDecoder{}, nil
	case "Replace":
		old, text, err := replaceFields(o)
		return replaceDecoder{replace{old, text}}, err
	case "Strip":
		return loadStrip(o)
	case "Metaspace":
		m, err := loadMetaspace(o)
		if err != nil {
			return nil, err
		}
		ms := m.(metaspace)
		return metaspaceDecoder{ms.symbol, ms.scheme != "never"}, nil
	case "Sequence":
		return loadDecoders(o, depth)
	}
	return nil, fmt.Errorf("decoder type %q is not supported", clip(kind))
}

func loadStrip(o jsonObject) (decoder, error) {
	d := stripDecoder{}
	var err error
	if d.char, err = o.text("content", " "); err != nil {
		return nil, err
	}
	if d.char == "" {
		return nil, fmt.Errorf("decoder Strip: content is empty")
	}
	if err := o.decode("start", &d.start); err != nil {
		return nil, err
	}
	err = o.decode("stop", &d.stop)
	return d, err
}

func loadDecoders(o jsonObject, depth int) (decoder, error) {
	if depth >= maxNesting {
		return nil, fmt.Errorf("decoder: more than %d sequences inside each other", maxNesting)
	}
	items, err := o.list("decoders")
	if err == nil && len(items) > maxStages {
		err = fmt.Errorf("decoder: a sequence of %d is too long: at most %d", len(items), maxStages)
	}
	if err != nil {
		return nil, err
	}
	seq := decodeSequence{}
	for _, raw := range items {
		d, err := loadDecoderStage(raw, depth+1)
		if err != nil {
			return nil, err
		}
		if d != nil {
			seq = append(seq, d)
		}
	}
	return seq, nil
}
