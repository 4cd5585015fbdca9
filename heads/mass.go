package heads

import (
	"context"

	"modelpress/calib"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// The first queries are left out of the sink measure: with few keys to choose from, every head looks at position 0.
const sinkFrom = 8

// localSpan is the number of last positions, the query's own included, that count as local.
const localSpan = 32

// Mass tells where the attention of each head goes, as shares of 1 averaged over prompts.
type Mass struct {
	Copy   *Scores // answer rows: attention to the token of the needle that is to be copied next
	Needle *Scores // answer rows: attention to all of the needle
	Sink   *Scores // rows from 8 on: attention to position 0
	Local  *Scores // rows from 8 on: attention to the last 32 positions
}

// AttentionMass measures where attention goes on retrieval prompts, each read with its answer. Unlike [Wu] it needs no
// correct answer.
func AttentionMass(ctx context.Context, m *nn.Model, prompts []calib.Prompt, opt Options) (*Mass, error) {
	windows, err := teacherForced(prompts)
	if err != nil {
		return nil, err
	}
	layers := m.Arch.Layers
	var t [4]*table
	for i := range t {
		t[i] = newTable(layers, len(prompts))
	}
	tap := func(layer, prompt int, r rows) {
		if d := r.reader(); d != nil {
			for i, v := range massesOf(d, r, prompts[prompt]) {
				t[i%4].v[prompt][layer][i/4] = v
			}
			return
		}
		r.Read(nn.Queries | nn.Keys | nn.LSE)
		r.Dev.For(r.Shape.H, func(h int) {
			t[0].v[prompt][layer][h], t[1].v[prompt][layer][h] = answerMass(r, prompts[prompt], h)
			t[2].v[prompt][layer][h], t[3].v[prompt][layer][h] = positionMass(r, h)
		})
	}
	if err := opt.observe(ctx, m, windows, tap, nil); err != nil {
		return nil, err
	}
	var s [4]*Scores
	for i, name := range []string{"copy", "needle", "sink", "local"} {
		mean, n := t[i].mean(nil)
		s[i] = t[i].scores(name, "attention mass", mean, n)
	}
	return &Mass{s[0], s[1], s[2], s[3]}, nil
}

// answerMass returns the mean over answer steps of the attention to the step's source token and to the whole needle.
func answerMass(r rows, p calib.Prompt, h int) (source, needle float64) {
	for j := range p.Answer {
		i := len(p.IDs) - 1 + j
		if at := p.NeedleLo + j; at < p.NeedleHi {
			source += r.attention(h, i, at)
		}
		needle += r.mass(h, i, p.NeedleLo, p.NeedleHi)
	}
	steps := float64(len(p.Answer))
	return source / steps, needle / steps
}

// massesOf is answerMass and positionMass for all heads, [H, 4], where the device reads attention.
func massesOf(d device.AttnReader, r rows, p calib.Prompt) []float64 {
	var list [4][]device.AttnSpan
	for j := range p.Answer {
		i := len(p.IDs) - 1 + j
		if at := p.NeedleLo + j; at < p.NeedleHi {
			list[0] = append(list[0], span(i, at, at+1))
		}
		list[1] = append(list[1], span(i, p.NeedleLo, p.NeedleHi))
	}
	for i := sinkFrom; i < r.Shape.T; i++ {
		list[2] = append(list[2], span(i, 0, 1))
		list[3] = append(list[3], span(i, max(0, i-localSpan+1), i+1))
	}
	var all []device.AttnSpan
	var ends []int
	for _, l := range list {
		all = append(all, l...)
		ends = append(ends, len(all))
	}
	mass, steps := r.masses(d, all, ends...), float64(len(p.Answer))
	for i := range mass {
		switch n := len(list[2]); {
		case i%4 < 2:
			mass[i] /= steps
		case n > 0:
			mass[i] /= float64(n)
		}
	}
	return mass
}

// positionMass returns the mean over rows of the attention to position 0 and to the last positions.
func positionMass(r rows, h int) (sink, local float64) {
	n := 0
	for i := sinkFrom; i < r.Shape.T; i++ {
		sink += r.attention(h, i, 0)
		local += r.mass(h, i, i-localSpan+1, i+1)
		n++
	}
	if n == 0 {
		return 0, 0
	}
	return sink / float64(n), local / float64(n)
}
