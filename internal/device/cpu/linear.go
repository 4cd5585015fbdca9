package cpu

import (
	"fmt"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// MatMulNT: y[M,N] = x[M,Kd] · w[N,Kd]ᵀ + beta*y, both operands rounded to bfloat16 first on a device of NewBF16.
func (d *Device) MatMulNT(y, x, w device.Buf, m, n, kd int, beta float32) {
	b := w.(*buffer)
	if b.Len() < n*kd {
		panic(fmt.Sprintf("cpu: MatMulNT: weight of %d elements where %dx%d are needed", b.Len(), n, kd))
	}
	out, in := f32("MatMulNT", y, m*n), f32("MatMulNT", x, m*kd)
	if d.bf16 {
		d.matMulBF16(out, in, b, m, n, kd, beta)
		return
	}
	num.GemmNT(out, n, in, kd, b.weights(kd), m, n, kd, beta, d.For)
}

// MatMulNN: y[M,Kd] = x[M,N] · w[N,Kd] + beta*y, in f32 also on a device of NewBF16. Weights that are held packed are
// copied out for the call, 2 bytes per element.
func (d *Device) MatMulNN(y, x, w device.Buf, m, n, kd int, beta float32) {
	const op = "MatMulNN"
	b := w.(*buffer)
	if b.Len() < n*kd {
		panic(fmt.Sprintf("cpu: MatMulNN: weight of %d elements where %dx%d are needed", b.Len(), n, kd))
	}
	weights := num.Weights{BF16: b.kind == device.BF16, LD: kd}
	if b.kind == device.F32 {
		weights.F32 = b.f32
	} else {
		weights.U16 = b.read(0, n*kd)
	}
	num.GemmBack(f32(op, y, m*kd), kd, f32(op, x, m*n), n, weights, m, n, kd, beta, d.For)
}

// MatMulTN: w[N,Kd] = y[M,N]ᵀ · x[M,Kd] + beta*w, in f32 also on a device of NewBF16.
func (d *Device) MatMulTN(w, y, x device.Buf, m, n, kd int, beta float32) {
	const op = "MatMulTN"
	num.GemmTN(f32(op, w, n*kd), kd, f32(op, y, m*n), n, f32(op, x, m*kd), kd, n, kd, m, 1, beta, d.For)
}

// Gather: y[i,:] = table[ids[i],:], rows of width w.
func (d *Device) Gather(y, table device.Buf, ids []int32, w int) {
	out := f32("Gather", y, len(ids)*w)
	d.rows(len(ids), w, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			d.Download(out[i*w:(i+1)*w], table, int(ids[i])*w)
		}
	})
}

// AddBias: y[i,:] += bias, for rows of width n.
func (d *Device) AddBias(y, bias device.Buf, rows, n int) {
	out, b := f32("AddBias", y, rows*n), f32("AddBias", bias, n)
	d.rows(rows, n, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := out[i*n : (i+1)*n]
			for j, v := range b {
				row[j] += v
			}
		}
	})
}

// Add: y += x.
func (d *Device) Add(y, x device.Buf, n int) {
	out, in := f32("Add", y, n), f32("Add", x, n)
	d.rows(n, 1, func(lo, hi int) { num.Add(out[lo:hi], in[lo:hi]) })
}
