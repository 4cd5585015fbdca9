package main

import (
	"context"

	"modelpress/calib"
	"modelpress/heads"
)

// ranks are the scores that plans can be made from.
var ranks = []string{"wu", "copy", "needle", "echo", "induction", "mass", "output", "projected"}

// ranking measures the heads by the method chosen. Those of streaming are measured on the prompts with their answers.
func (c *check) ranking(ctx context.Context) (*heads.Scores, error) {
	opt := heads.Options{MemLimit: 1 << 30}
	switch c.rank {
	case "copy", "needle":
		m, err := heads.AttentionMass(ctx, c.m, c.prompts, opt)
		if err != nil {
			return nil, err
		}
		return map[string]*heads.Scores{"copy": m.Copy, "needle": m.Needle}[c.rank], nil
	case "echo", "induction":
		echo, induction, err := heads.Razor(ctx, c.m, heads.RazorOptions{Samples: 4, Seed: 1, Options: opt})
		if err != nil {
			return nil, err
		}
		return map[string]*heads.Scores{"echo": echo, "induction": induction}[c.rank], nil
	case "mass", "output", "projected":
		windows := make([][]int32, len(c.prompts))
		for i, p := range c.prompts {
			windows[i] = p.Sequence()
		}
		l, err := heads.StreamingLoss(ctx, c.m, calib.NewWindows(windows),
			heads.StreamingOptions{Sink: c.sink, Recent: c.recent, Options: opt})
		if err != nil {
			return nil, err
		}
		return map[string]*heads.Scores{"mass": l.Mass, "output": l.Output, "projected": l.Projected}[c.rank], nil
	}
	return heads.Wu(ctx, c.m, c.prompts, opt)
}
