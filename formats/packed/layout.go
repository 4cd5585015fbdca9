package packed

import (
	"fmt"

	"modelpress/formats"
)

// layout says how a weight with codes that are floats is stored.
type layout struct {
	code    formats.DType // F8_E4M3; U8 for two codes of E2M1
	rows    int64         // that share a scale; 0 for all
	columns int64         // that share a scale; 0 for all
	cut     bool          // blocks at the edges may be smaller
	scale   formats.DType // F8_E4M3, U8 (E8M0); Invalid for BF16, F16 or F32
	show    formats.DType // the type of the dense weight; Invalid for that of the scales
	codes   string        // suffix of the codes; "" for that of compressed-tensors
	factors string        // suffix of the scales; "" for that of compressed-tensors
	global  string        // suffix of the scale of scales; "" for none
}

func nvfp4() layout {
	return layout{code: formats.U8, rows: 1, columns: 16, scale: formats.F8E4M3, show: formats.BF16, global: suffixGlobal}
}

func mxfp4() layout {
	return layout{code: formats.U8, rows: 1, columns: 32, scale: formats.U8, show: formats.BF16}
}

func (l layout) fp4() bool { return l.code == formats.U8 }

// check reports why a weight [out, in] cannot lie in the layout.
func (l layout) check(out, in int64) error {
	if err := checkSize(out, in); err != nil {
		return err
	}
	if !l.cut && l.columns > 0 && in%l.columns != 0 {
		return fmt.Errorf("%d columns do not divide into groups of %d", in, l.columns)
	}
	return nil
}

// grid returns the numbers of rows and columns of scales for a weight [out, in].
func (l layout) grid(out, in int64) (rows, columns int64) {
	rows, columns = 1, 1
	if l.rows > 0 {
		rows = (out + l.rows - 1) / l.rows
	}
	if l.columns > 0 {
		columns = (in + l.columns - 1) / l.columns
	}
	return rows, columns
}

// scaleShape returns the shape of the scales: [1] where there is one for all.
func (l layout) scaleShape(out, in int64) []int64 {
	if l.rows == 0 && l.columns == 0 {
		return []int64{1}
	}
	rows, columns := l.grid(out, in)
	return []int64{rows, columns}
}

// shared returns how many weights share a scale as [formats.Storage] counts them.
func (l layout) shared() int {
	switch {
	case l.rows == 0:
		return 0
	case l.columns == 0:
		return -1
	}
	return int(l.rows * l.columns)
}

func (l layout) codeSuffix() string {
	switch {
	case l.codes != "":
		return l.codes
	case l.fp4():
		return suffixPacked
	}
	return suffixWeight
}

func (l layout) scaleSuffix() string {
	if l.factors != "" {
		return l.factors
	}
	return suffixScale
}
