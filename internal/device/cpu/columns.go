package cpu

import (
	"modelpress/internal/device"
	"modelpress/internal/num"
)

// ColumnDots: dst[j] += Σ_i a[i,j]*b[i,j], in float64, rows ascending; b may be nil for ones.
func (d *Device) ColumnDots(dst []float64, a, b device.Buf, rows, n int) {
	const op = "ColumnDots"
	var with []float32
	if b != nil {
		with = f32(op, b, rows*n)
	}
	num.ColumnDots(dst, f32(op, a, rows*n), with, rows, n, d.For)
}

// ScaleColumns: y[i,j] = x[i,j]*z[j]. y may be x.
func (d *Device) ScaleColumns(y, x device.Buf, z []float32, rows, n int) {
	const op = "ScaleColumns"
	num.ScaleColumns(f32(op, y, rows*n), f32(op, x, rows*n), z, rows, n, d.For)
}
