package convert

import (
	"modelpress/formats"
	"modelpress/formats/packed"
)

// scheme is a preset of compressed-tensors.
func scheme(name string, scales formats.DType) (*setting, error) {
	pack := func(bits int, symmetric bool) *setting {
		s, _ := grids(Packed, bits, 128, symmetric, false, scales)
		return s
	}
	float := func(f packed.Float) *setting {
		return &setting{float: &f, store: f, name: name, scales: scales}
	}
	switch name {
	case "w4a16":
		return pack(4, true), nil
	case "w4a16-asym":
		return pack(4, false), nil
	case "w8a16":
		return pack(8, true), nil
	case "w8a8":
		i := packed.IntQuantized{Symmetric: true, Scales: scales}
		return &setting{grid: i, store: i, name: name, bits: 8, size: -1, symmetric: true, scales: scales}, nil
	case "fp8":
		return float(packed.Float{Format: packed.FormatFloat, Strategy: "tensor", Scales: scales}), nil
	case "fp8-dynamic":
		return float(packed.Float{Format: packed.FormatFloat, Strategy: "channel", Scales: scales}), nil
	case "fp8-block":
		return float(packed.Float{Format: packed.FormatFloat, Strategy: "block", Scales: scales}), nil
	case "nvfp4":
		return float(packed.Float{Format: packed.FormatNVFP4, Scales: scales}), nil
	case "mxfp4":
		return float(packed.Float{Format: packed.FormatMXFP4, Scales: scales}), nil
	}
	return nil, usage("", "--scheme %q: known are w4a16, w4a16-asym, w8a16, w8a8, fp8, fp8-dynamic, fp8-block, nvfp4, mxfp4", name)
}
