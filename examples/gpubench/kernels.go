package main

import (
	"fmt"
	"math"
	"math/rand/v2"

	"modelpress/internal/device"
)

// random returns a buffer of n normal values.
func (b *bench) random(kind device.Kind, n int, seed uint64) (device.Buf, error) {
	buf, err := b.dev.Alloc(kind, n)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	chunk := make([]float32, min(n, 1<<20))
	for i := range chunk {
		chunk[i] = float32(rng.NormFloat64())
	}
	for at := 0; at < n; at += len(chunk) {
		b.dev.Upload(buf, at, chunk[:min(len(chunk), n-at)])
	}
	return buf, nil
}

// matrix measures y = x·wᵀ with weights in bfloat16, the product that everything else is compared with.
func (b *bench) matrix() error {
	n := b.settings.matrix
	x, err := b.random(device.F32, n*n, 1)
	if err != nil {
		return err
	}
	defer x.Free()
	w, err := b.random(device.BF16, n*n, 2)
	if err != nil {
		return err
	}
	defer w.Free()
	y, err := b.dev.Alloc(device.F32, n*n)
	if err != nil {
		return err
	}
	defer y.Free()
	const products = 8
	t, err := b.best(func() error {
		for range products {
			b.dev.MatMulNT(y, x, w, n, n, n, 0)
		}
		return nil
	})
	if err != nil {
		return err
	}
	ops := products * 2 * math.Pow(float64(n), 3)
	b.rate = 0
	b.line(fmt.Sprintf("%d products of %d x %d", products, n, n), ops, t)
	b.rate = ops / t
	return nil
}

// attentionOps is the number of operations of causal attention: two products of T·T·K per head, of which half is computed.
func (b *bench) attentionOps(t int) float64 {
	return 2 * float64(b.heads) * float64(b.dim) * float64(t) * float64(t+1)
}

// attention measures one sequence of each length: forward, backward (five products where forward has two), column sums (one), and
// forward under a mask of 64 sinks and a window of 1984, of which only what is seen counts.
func (b *bench) attention() error {
	for _, t := range b.settings.attention {
		if err := b.sequence(t); err != nil {
			return fmt.Errorf("%d tokens: %w", t, err)
		}
	}
	return nil
}

func (b *bench) sequence(t int) error {
	s := device.AttnShape{T: t, H: b.heads, G: b.kv, K: b.dim, Scale: float32(1 / math.Sqrt(float64(b.dim)))}
	hk, gk := t*s.H*s.K, t*s.G*s.K
	bufs := make([]device.Buf, 10)
	defer func() {
		for _, buf := range bufs {
			if buf != nil {
				buf.Free()
			}
		}
	}()
	for i, n := range []int{hk, gk, gk, hk, hk, s.H * t, hk, gk, gk, s.H * t} {
		var err error
		if bufs[i], err = b.random(device.F32, n, uint64(i)); err != nil {
			return err
		}
	}
	q, k, v, dout, out, lse, dq, dk, dv, sums := bufs[0], bufs[1], bufs[2], bufs[3], bufs[4], bufs[5], bufs[6], bufs[7], bufs[8], bufs[9]
	ops := b.attentionOps(t)
	masks := make([]device.Mask, s.G)
	seen := 0.0
	for i := range t {
		seen += float64(min(i+1, 2048))
	}
	for g := range masks {
		masks[g] = device.Mask{Sink: 64, Recent: 1984}
	}
	for _, m := range []struct {
		what string
		ops  float64
		run  func()
	}{
		{"attention", ops, func() { b.dev.Attention(out, lse, q, k, v, s, nil) }},
		{"column sums", ops / 2, func() { b.dev.AttnColumnSums(sums, q, k, lse, s, nil) }},
		{"backward", ops * 5 / 2, func() { b.dev.AttentionBack(dq, dk, dv, dout, q, k, v, out, lse, s, nil) }},
		{"64 sinks, window 1984", 4 * float64(s.H) * float64(s.K) * seen, func() { b.dev.Attention(out, lse, q, k, v, s, masks) }},
	} {
		time, err := b.best(func() error { m.run(); return nil })
		if err != nil {
			return err
		}
		b.line(fmt.Sprintf("%s, %d tokens, %d heads of %d", m.what, t, s.H, s.K), m.ops, time)
	}
	return nil
}
