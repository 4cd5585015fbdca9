package main

import (
	"math"

	"modelpress/formats"
	"modelpress/internal/device/cpu"
	"modelpress/quantize"
)

// gptqJob quantizes a layer of m outputs and n inputs to 4 bits in symmetric groups of 128, from a Hessian that is given.
// Its value is the relative output error.
func gptqJob(q *request) *job {
	par, out, in := cpu.New(q.threads).For, q.m, q.n
	w, h := pattern(out*in, 1), hessian(in)
	scheme := quantize.Scheme{Bits: 4, Group: 128, Symmetric: true, Damp: 0.01}
	var m *quantize.Matrix
	return &job{
		run: func() (err error) {
			m, _, err = quantize.GPTQ(w, out, in, h, scheme, formats.BF16, par)
			return err
		},
		value: func() float64 {
			deq := make([]float32, out*in)
			m.Dequantize(deq, par)
			return quantize.RelativeOutputError(w, deq, out, in, h, par)
		},
		close: func() {},
	}
}

// hessian returns the covariance of inputs of unequal size that are correlated with their neighbours, [n, n]:
//
//	h[i,j] = 0.9^|i-j| * s_i * s_j,  s = 2 + pattern
func hessian(n int) []float64 {
	h, s, power := make([]float64, n*n), pattern(n, 3), make([]float64, n)
	for i := range power {
		power[i] = math.Pow(0.9, float64(i))
	}
	for i := range n {
		for j := range n {
			h[i*n+j] = power[max(i-j, j-i)] * (2 + float64(s[i])) * (2 + float64(s[j]))
		}
	}
	return h
}
