package main

import (
	"context"
	"fmt"
	"math"

	"modelpress/formats/hf"
	"modelpress/internal/arch"
)

// count returns the parameters of a written checkpoint, counted tensor by tensor, and its shape in words.
func (b *bench) count(_ context.Context, dir string) (n int64, shape string, err error) {
	ck, err := hf.Open(dir)
	if err != nil {
		return 0, "", err
	}
	defer ck.Close()
	for _, t := range ck.Tensors() {
		e, err := t.Elements()
		if err != nil {
			return 0, "", err
		}
		n += e
	}
	m, err := arch.Describe(ck.Config(), ck)
	if err != nil {
		return 0, "", err
	}
	shape = fmt.Sprintf("D %d, L %d,", m.D, len(m.Layers))
	uniform := true
	for l := range m.Layers {
		uniform = uniform && m.Layers[l].G == m.Layers[0].G && m.Layers[l].F == m.Layers[0].F
	}
	for l := range m.Layers {
		if shape += fmt.Sprintf(" G %d F %d", m.Layers[l].G, m.Layers[l].F); uniform {
			break
		}
	}
	return n, shape, nil
}

// spread is mean and standard deviation of some values.
type spread struct {
	sum, squares float64
	n            int
}

func (s *spread) add(v float64) {
	if v > 0 {
		s.sum, s.squares, s.n = s.sum+v, s.squares+v*v, s.n+1
	}
}

func (s *spread) String() string {
	if s.n == 0 {
		return ""
	}
	mean := s.sum / float64(s.n)
	if s.n == 1 {
		return fmt.Sprintf("%.3f", mean)
	}
	return fmt.Sprintf("%.3f ± %.3f", mean, math.Sqrt(max(0, (s.squares-float64(s.n)*mean*mean)/float64(s.n-1))))
}

// table prints means and standard deviations over the seeds.
func (b *bench) table(rows []row) {
	fmt.Fprintf(b.out, "\n| parameters | method | perplexity | KL | recovered | KL | from nothing |\n|---|---|---|---|---|---|---|\n")
	for _, share := range b.params {
		for _, m := range b.methods {
			var v [5]spread
			for _, r := range rows {
				if r.Share == share && r.Method == m {
					for i, x := range []float64{r.Before.PPL, r.Before.KL, r.Recovered.PPL, r.Recovered.KL, r.Scratch.PPL} {
						v[i].add(x)
					}
				}
			}
			fmt.Fprintf(b.out, "| %g %% | %s | %s | %s | %s | %s | %s |\n", 100*share, m, &v[0], &v[1], &v[2], &v[3], &v[4])
		}
	}
}
