package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"modelpress/calib"
	"modelpress/heads"
)

// plans prints how many tasks are solved under plans made from the scores, and under others to compare them with.
func (c *check) plans(ctx context.Context, ranking *heads.Scores) error {
	tasks, err := calib.ReadPrompts(c.tasks)
	if err != nil {
		return err
	}
	if c.every > 1 {
		var some []calib.Prompt
		for i := 0; i < len(tasks); i += c.every {
			some = append(some, tasks[i])
		}
		tasks = some
	}
	fmt.Fprintf(c.out, "%d tasks, %d sinks, %d recent tokens, heads ranked by %s\n", len(tasks), c.sink, c.recent,
		ranking.Method)
	fmt.Fprintf(c.out, "%-26s %6s %10s %10s %10s\n", "plan", "full", "KV at 512", "accuracy", "answer nll")
	all := heads.Select(ranking.KV, 1)
	if err := c.row(ctx, "dense", all, tasks); err != nil {
		return err
	}
	for _, share := range c.shares {
		s := heads.Select(ranking.KV, share)
		if err := c.row(ctx, fmt.Sprintf("best %g", share), s, tasks); err != nil {
			return err
		}
		for seed := range c.seeds {
			name := fmt.Sprintf("random %g, seed %d", share, seed+1)
			if err := c.row(ctx, name, random(ranking.KV, s.Count, uint64(seed+1)), tasks); err != nil {
				return err
			}
		}
	}
	least := heads.Select(ranking.KV, c.shares[len(c.shares)-1])
	return c.row(ctx, "only the best streaming", invert(least), tasks)
}

func (c *check) row(ctx context.Context, name string, s heads.Selection, tasks []calib.Prompt) error {
	masks := heads.Masks(s.Full, c.sink, c.recent, c.m.Arch)
	r, err := calib.Retrieval(ctx, c.m, tasks, calib.EvalOptions{Masks: masks, MemLimit: 1 << 30})
	if err != nil {
		return err
	}
	cache := heads.KVBytes(c.m.Arch, s.Full, c.sink, c.recent, 2, 512)
	fmt.Fprintf(c.out, "%-26s %6d %9.1f%% %10.4f %10.4f\n", name, s.Count, 100*cache.Density(), r.Accuracy, r.AnswerNLL)
	return nil
}

// random keeps count heads full that a seed chooses.
func random(shape [][]float64, count int, seed uint64) heads.Selection {
	rng := rand.New(rand.NewPCG(seed, 0x68656164))
	draw := make([][]float64, len(shape))
	for l, row := range shape {
		draw[l] = make([]float64, len(row))
		for h := range row {
			draw[l][h] = rng.Float64()
		}
	}
	return heads.SelectCount(draw, count)
}

// invert makes the full heads stream and the streaming heads full.
func invert(s heads.Selection) heads.Selection {
	out := heads.Selection{Full: make([][]bool, len(s.Full)), Count: s.Total - s.Count, Total: s.Total}
	for l, row := range s.Full {
		out.Full[l] = make([]bool, len(row))
		for h, f := range row {
			out.Full[l][h] = !f
		}
	}
	return out
}
