package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"sort"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/heads"
	"modelpress/internal/nn"
)

type check struct {
	settings
	m       *nn.Model
	prompts []calib.Prompt
	out     io.Writer
}

func (c *check) run(ctx context.Context) error {
	wu, err := heads.Wu(ctx, c.m, c.prompts, heads.Options{MemLimit: 1 << 30})
	if err != nil {
		return err
	}
	c.printTop(wu)
	if c.reference != "" {
		if err := c.compare(ctx, wu); err != nil {
			return err
		}
	}
	if c.tasks == "" {
		return nil
	}
	ranking := wu
	if c.rank != "wu" {
		if ranking, err = c.ranking(ctx); err != nil {
			return err
		}
	}
	return c.plans(ctx, ranking)
}

// retrieving is the score from which Wu et al. call a head a retrieval head.
const retrieving = 0.1

func (c *check) printTop(wu *heads.Scores) {
	fmt.Fprintf(c.out, "retrieval scores over %d prompts, query heads from %g on:", wu.Samples, retrieving)
	for l, row := range wu.Query {
		for h, v := range row {
			if v >= retrieving {
				fmt.Fprintf(c.out, " %d.%d=%.3f", l, h, v)
			}
		}
	}
	fmt.Fprintln(c.out)
}

// compare prints, for each score, rank correlation and largest difference against the reference file.
func (c *check) compare(ctx context.Context, wu *heads.Scores) error {
	raw, err := os.ReadFile(c.reference)
	if err != nil {
		return err
	}
	ref := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &ref); err != nil {
		return formats.Errorf(c.reference, "", "%w", err)
	}
	mass, err := heads.AttentionMass(ctx, c.m, c.prompts, heads.Options{MemLimit: 1 << 30})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%-8s %10s %12s %12s\n", "score", "spearman", "max |diff|", "same > 0.1")
	for _, s := range []*heads.Scores{wu, mass.Copy, mass.Needle, mass.Sink, mass.Local} {
		var want [][]float64
		if err := json.Unmarshal(ref[s.Method], &want); err != nil {
			return formats.Errorf(c.reference, "", "field %q: %w", s.Method, err)
		}
		got, exp := flatten(s.Query), flatten(want)
		if len(got) != len(exp) {
			return formats.Errorf(c.reference, "", "field %q has %d heads, the model %d", s.Method, len(exp), len(got))
		}
		diff, same := 0.0, true
		for i := range got {
			diff = math.Max(diff, math.Abs(got[i]-exp[i]))
			same = same && (got[i] > retrieving) == (exp[i] > retrieving)
		}
		fmt.Fprintf(c.out, "%-8s %10.4f %12.2e %12v\n", s.Method, spearman(got, exp), diff, same)
	}
	return nil
}

func flatten(m [][]float64) []float64 {
	var out []float64
	for _, row := range m {
		out = append(out, row...)
	}
	return out
}

// spearman is the rank correlation of a and b; equal values share the mean of their ranks.
func spearman(a, b []float64) float64 {
	x, y := rankOf(a), rankOf(b)
	var mx, my float64
	for i := range x {
		mx += x[i] / float64(len(x))
		my += y[i] / float64(len(y))
	}
	var xy, xx, yy float64
	for i := range x {
		xy += (x[i] - mx) * (y[i] - my)
		xx += (x[i] - mx) * (x[i] - mx)
		yy += (y[i] - my) * (y[i] - my)
	}
	return xy / math.Sqrt(xx*yy)
}

func rankOf(v []float64) []float64 {
	order := make([]int, len(v))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return v[order[i]] < v[order[j]] })
	out := make([]float64, len(v))
	for lo := 0; lo < len(order); {
		hi := lo
		for hi < len(order) && v[order[hi]] == v[order[lo]] {
			hi++
		}
		for _, at := range order[lo:hi] {
			out[at] = float64(lo+hi-1) / 2
		}
		lo = hi
	}
	return out
}
